/**
 * The UDP plane where the kernel takes no more: what waits, what is dropped, what is sent later.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  addAddress,
  closeUdpSocket,
  createNetns,
  createVeth,
  encodeSockaddr,
  inetSocketAddress,
  linkIndex,
  NetlinkConn,
  openUdpFlowSocket,
  openUdpListener,
  setLinkUp,
  UDP_BATCH,
  UDP_RECEIVE_BYTES,
  UDP_RUN_BYTES,
  UdpReceiveBatch,
  UdpRun,
  UdpSlab,
  withNetns,
} from "#ffi/mod.ts";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { UdpPlane } from "#lib/udp/mod_shell.ts";
import { SOURCE_QUEUE_MAX } from "#lib/udp/sources_worker.ts";
import { FLOW_QUEUE_MAX } from "#lib/udp/upstreams_worker.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually } from "#tests/support/udp_ends.ts";

/** Addresses of both ends of a link, by family. */
const LINKS = {
  IPv4: { near: "10.77.0.1", far: "10.77.0.2", prefixLength: 24, any: "0.0.0.0", bits: 32 },
  IPv6: { near: "fd00:7::1", far: "fd00:7::2", prefixLength: 64, any: "::", bits: 128 },
} as const;

/** Sends numbered datagrams of one client. */
function sendNumbers(count: number, address: string, port: number): void {
  const slab = new UdpSlab(1, 1024, UDP_RUN_BYTES);
  const run = new UdpRun(slab);
  const view = new DataView(slab.bytes.buffer);
  const fd = openUdpFlowSocket({ backend: encodeSockaddr(inetSocketAddress(address, port)) });
  for (let index = 0; index < count; index++) {
    view.setUint32(slab.payloadAt(0), index);
    assertEquals(run.sendOne(fd, slab.payloadAt(0), 1000), 1000);
  }
  closeUdpSocket(fd);
}

/** Takes the numbers that came to a socket. */
function takeNumbers(fd: number, batch: UdpReceiveBatch, slab: UdpSlab): number[] {
  const numbers: number[] = [];
  const view = new DataView(slab.bytes.buffer);
  for (let count = batch.receive(fd); count > 0; count = batch.receive(fd)) {
    for (let at = 0; at < count; at++) numbers.push(view.getUint32(batch.payloadAt(at)));
  }
  return numbers;
}

bothFamilies(
  "udp: what a full socket does not take waits in order up to a bound, and is sent later",
  async (loopback) => {
    const family = loopback === "::1" ? "IPv6" : "IPv4";
    const link = LINKS[family];
    for (const isSourced of [false, true]) {
      using near = createNetns();
      using far = createNetns();
      withNetns(near, () => {
        using route = NetlinkConn.open("route");
        setLinkUp(route, 1);
        const peer = { peerName: "far0", peerNetns: far, peerMac: "02:77:00:00:00:02" };
        createVeth(route, { name: "near0", ...peer });
        const index = linkIndex(route, "near0");
        setLinkUp(route, index);
        const { near: address, prefixLength } = link;
        addAddress(route, { index, address, prefixLength, noDad: true });
        // What waits for a neighbour that does not answer is kept by the kernel, and charged to its
        // socket: more than a socket may have under way, and for long.
        const settings = `/proc/sys/net/${family.toLowerCase()}/neigh/near0`;
        Deno.writeTextFileSync(`${settings}/unres_qlen_bytes`, `${64 << 20}`);
        Deno.writeTextFileSync(`${settings}/mcast_solicit`, "100");
      });
      const linkOfFar = () => {
        using route = NetlinkConn.open("route");
        const index = linkIndex(route, "far0");
        setLinkUp(route, index);
        return index;
      };
      const index = withNetns(far, linkOfFar);
      const place = (address: string, port: number) =>
        encodeSockaddr(inetSocketAddress(address, port));
      const opened = withNetns(far, () => openUdpListener({ address: place(link.any, 7000) }));
      using server = opened.fd;
      const { started } = withNetns(near, () => ({ started: UdpPlane.start() }));
      const plane = await started;
      await using _stop = { [Symbol.asyncDispose]: () => plane.stop() };
      await plane.setBackend({ backend: 0, address: link.far, port: 7000 });
      const sources = {
        sourceAddresses: { [family.toLowerCase()]: `${link.near}/${link.bits}` },
      };
      const members = [{ backend: 0 }];
      await plane.setCluster({
        cluster: 0,
        policy: "random",
        members,
        ...(isSourced ? sources : {}),
      });
      const route = { ...ROUTE_DEFAULTS, cluster: 0 };
      const listener = { listener: 0, address: loopback, port: 0, route };
      const { port } = await plane.setListener(listener);
      const count = 2000;
      withNetns(near, () => sendNumbers(count, loopback, port));
      const kept = isSourced ? SOURCE_QUEUE_MAX : FLOW_QUEUE_MAX;
      const settled = () => {
        const { sentToBackend, queued, queueFull, sendError } = plane.shellCounters();
        return sentToBackend + queued + queueFull + sendError;
      };
      await eventually(() => settled() === count);
      const full = plane.shellCounters();
      assertEquals([full.queued, full.sendError], [kept, 0]);
      assert(full.sentToBackend > 0 && full.queueFull > 0, JSON.stringify(full));
      assertEquals((await plane.counters()).workers[0].waiting, kept);
      // The neighbour answers: what the kernel has goes, then what waited.
      withNetns(far, () => {
        using netlink = NetlinkConn.open("route");
        const { far: address, prefixLength } = link;
        addAddress(netlink, { index, address, prefixLength, noDad: true });
      });
      const slab = new UdpSlab(UDP_BATCH, 2048, UDP_RECEIVE_BYTES + 4096);
      const batch = new UdpReceiveBatch(slab, 0);
      const numbers: number[] = [];
      await eventually(() => {
        numbers.push(...takeNumbers(server.number, batch, slab));
        return numbers.length === full.sentToBackend + kept;
      });
      assertEquals(numbers, Array.from({ length: full.sentToBackend + kept }, (_, at) => at));
      await eventually(() => plane.shellCounters().sentToBackend === numbers.length);
      assertEquals((await plane.counters()).workers[0].waiting, 0);
    }
  },
  ["root", "path:/proc/sys/net/ipv4/neigh", "path:/proc/sys/net/ipv6/neigh"],
);
