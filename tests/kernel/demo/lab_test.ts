import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { parse } from "yaml";
import {
  addAddress,
  addRoute,
  createNetns,
  createVeth,
  encodeTable,
  type Fd,
  linkIndex,
  NetlinkConn,
  NftConn,
  readFileIn,
  setLinkUp,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";
import { settleInventory, takeInventory } from "#tests/support/inventory.ts";
import { kernelTest, type Need } from "#tests/support/kernel.ts";
import { LAB, Lab } from "#tests/support/lab.ts";

const NEEDS: readonly Need[] = ["root", "path:/usr/bin/perl"];

/** The probe of the example, so that what the demo shows is what is tested here. */
const PROBE: string = parse(
  Deno.readTextFileSync(new URL("../../../examples/demo.yaml", import.meta.url)),
).spec.run.env.PROBE;

function probeOptions(args: readonly string[]): Deno.CommandOptions {
  return { args: ["-e", PROBE, ...args], stdin: "null", stdout: "piped", stderr: "inherit" };
}

async function outputOf(child: Deno.ChildProcess): Promise<string> {
  return new TextDecoder().decode((await child.output()).stdout).trim();
}

async function probe(lab: Lab, ...args: string[]): Promise<string> {
  return await outputOf(lab.spawnInHost("/usr/bin/perl", probeOptions(args)));
}

function allowPing(): void {
  writeFileIn("/proc/sys/net/ipv4/ping_group_range", "0 0");
}

kernelTest("lab: every service answers over IPv4 and IPv6 and tells of it", NEEDS, async () => {
  await using lab = await Lab.start();
  lab.inHost(allowPing);
  for (const address of [LAB.serversIpv4[0], LAB.serversIpv6[0]]) {
    assertStringIncludes(await probe(lab, "tcp", address, "80", "GET /"), "200 OK");
    const big = await probe(lab, "tcp", address, "80", "GET /big?bytes=300000");
    assert(Number(/(\d+) bytes$/.exec(big)?.[1]) > 300000, big);
    assertStringIncludes(await probe(lab, "tcp", address, "80", "POST /", "70000"), "200 OK");
    assertStringIncludes(await probe(lab, "tcp", address, "7000"), "answered: 5 bytes");
    assertStringIncludes(await probe(lab, "udp", address, "7001"), "answered: 5 bytes");
    assertStringIncludes(await probe(lab, "icmp", address), "answered: 13 bytes");
  }
  assertStringIncludes(await probe(lab, "tcp", LAB.metadata, "80", "GET /"), "200 OK");

  await lab.settle();
  const seen = lab.seen();
  for (const address of [LAB.serversIpv4[0], LAB.serversIpv6[0]]) {
    const here = seen.filter((one) => one.local.address === address);
    assertEquals(here.map((one) => one.request ?? one.service), [
      "GET /",
      "GET /big?bytes=300000",
      "POST /",
      "tcp-echo",
      "udp-echo",
    ]);
    const host = address.includes(":") ? LAB.hostIpv6 : LAB.hostIpv4;
    assertEquals(new Set(here.map((one) => one.peer.address)), new Set([host]));
    assert(here[1].bytesSent > 300000 && here[1].bytesSent < 300200);
    assert(here[2].bytesReceived > 70000 && here[2].bytesReceived < 70200);
    assert(here.every((one) => !one.open));
  }
  assertEquals(seen.filter((one) => one.local.address === LAB.metadata).length, 1);
});

kernelTest("lab: the far side counts what arrives where nothing listens", NEEDS, async () => {
  const address = LAB.serversIpv6[1];
  await using lab = await Lab.start({
    watch: [
      { protocol: "tcp", address: LAB.serversIpv4[1], port: 25 },
      { protocol: "tcp", address: LAB.serversIpv4[1], port: 26 },
      { protocol: "udp", address, port: 9 },
      { protocol: "udp", address },
      { protocol: "icmp", address },
      { protocol: "icmp", address: LAB.serversIpv4[2] },
    ],
  });
  lab.inHost(allowPing);
  assertStringIncludes(await probe(lab, "tcp", LAB.serversIpv4[1], "25"), "refused: Connection");
  assertStringIncludes(await probe(lab, "udp", address, "9"), "refused: Connection");
  assertStringIncludes(await probe(lab, "icmp", address), "answered");
  assertEquals(lab.arrivals().map((one) => one.packets), [1, 0, 1, 1, 1, 0]);
  assertEquals(lab.seen(), []);
});

kernelTest(
  "lab: who stands behind the machine needs it to forward and masquerade",
  NEEDS,
  async () => {
    await using lab = await Lab.start();
    using behind = createNetns();
    withNetns(behind, () => {
      using conn = NetlinkConn.open("route");
      createVeth(conn, { name: "eth0", peerName: "ce1", peerNetns: lab.hostNetns });
      const index = linkIndex(conn, "eth0");
      setLinkUp(conn, index);
      addAddress(conn, { index, address: "10.213.0.1", prefixLength: 31 });
      lab.inHost(() => {
        using host = NetlinkConn.open("route");
        const hostEnd = linkIndex(host, "ce1");
        setLinkUp(host, hostEnd);
        addAddress(host, { index: hostEnd, address: "10.213.0.0", prefixLength: 31 });
      });
      addRoute(conn, { gateway: "10.213.0.0", index });
    });
    const probeFromBehind = () =>
      outputOf(withNetns(behind, () =>
        new Deno.Command(
          "/usr/bin/perl",
          probeOptions(["udp", LAB.serversIpv4[0], "7001"]),
        ).spawn()));

    const forward = "/proc/sys/net/ipv4/ip_forward";
    assertEquals(lab.inHost(() => readFileIn(forward)).trim(), "0");
    lab.inHost(() => writeFileIn(forward, "1"));
    assertStringIncludes(await probeFromBehind(), "silent");
    lab.inHost(() => {
      using conn = NetlinkConn.open("netfilter");
      const rules = [{ statements: [{ kind: "masquerade" as const }] }];
      const hook = { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } as const;
      new NftConn(conn).commit(
        encodeTable({ name: "t", sets: [], maps: [], chains: [{ name: "post", hook, rules }] }),
      );
    });
    assertStringIncludes(await probeFromBehind(), "answered: 5 bytes");
    await lab.settle();
    assertEquals(lab.seen().at(-1)?.peer.address, LAB.hostIpv4);
  },
);

kernelTest("lab: stop leaves no process, namespace or descriptor behind", NEEDS, async () => {
  const take = () =>
    takeInventory({ pids: [Deno.pid], parts: ["links", "tables", "mounts", "descriptors"] });
  await (await Lab.start()).stop();
  const before = take();
  const lab = await Lab.start();
  const ours = [lab.hostNetns, lab.internetNetns].map(inodeOf);
  const sleeper = lab.spawnInHost("sleep", { args: ["60"] });
  assertEquals(ours.filter((inode) => !namespacesNow().includes(inode)), []);
  await lab.stop();
  await lab.stop();
  assertEquals((await sleeper.status).signal, "SIGKILL");
  assertEquals(await settleInventory(before, take), []);
  // Other tests make and remove namespaces meanwhile: only the lab's own are looked for.
  assertEquals(ours.filter((inode) => namespacesNow().includes(inode)), []);
});

function inodeOf(netns: Fd): string {
  return Deno.readLinkSync(`/proc/self/fd/${netns.number}`);
}

function namespacesNow(): readonly string[] {
  return takeInventory({ parts: ["netns"] }).netns;
}
