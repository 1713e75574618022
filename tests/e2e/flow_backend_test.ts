/**
 * Whole runs with the flow backend `ebpf`: the same decisions as with `nflog`, and where the
 * kernel refuses, one warning and `nflog`.
 *
 * @module
 */
import { EVENT_TYPES, type FlowDecisionData } from "#lib/events/mod.ts";
import { dataOf, spec, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";
import { assertEquals } from "@std/assert";

const HYBRID_V2 = "/sys/fs/cgroup/unified";

interface DemoRow {
  readonly said: string;
  readonly decided: string;
  readonly reason: string;
}

async function runDemo(backend: "nflog" | "ebpf"): Promise<DemoRow[]> {
  const { code, stdout, stderr } = await runProcess(
    [Deno.execPath(), "run", "-A", "--quiet", `${REPOSITORY_ROOT}/demo/demo.ts`],
    { env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", CELLOS_PER_FLOW_BACKEND: backend } },
  );
  assertEquals(code, 0, `${stdout}\n${stderr}`);
  const rows = stdout.matchAll(/^[\d:.]{12} {2}(.*?) {2,}((?:allow|deny) .*) \((\w+)\)$/gm);
  return [...rows].map(([, said, decided, reason]) => ({ said, decided, reason }));
}

kernelTest(
  "flow backend ebpf: the demo's attempts are decided, answered and recorded as with nflog",
  ["root", "path:/usr/bin/perl", "cap:CAP_BPF", `path:${HYBRID_V2}`],
  async () => {
    const nflog = await runDemo("nflog");
    const ebpf = await runDemo("ebpf");
    assertEquals(nflog.length, 18);
    const withoutSource = (row: DemoRow) => ({
      said: row.said.replace(/\d+ bytes/, "bytes"),
      decided: row.decided,
    });
    assertEquals(ebpf.map(withoutSource), nflog.map(withoutSource));
    const sourceOf = (row: DemoRow) => `${row.decided.split(" ")[0]} ${row.reason}`;
    assertEquals(
      new Set(nflog.map(sourceOf)),
      new Set(["allow nft_log_accept", "deny nft_log_drop"]),
    );
    assertEquals(new Set(ebpf.map(sourceOf)), new Set(["allow bpf_accept", "deny nft_log_drop"]));
  },
);

kernelTest(
  "flow backend ebpf: without cgroup v2 there is one warning, and nflog as if never asked",
  ["root", "path:/usr/bin/perl", "command:unshare", `path:${HYBRID_V2}`],
  async () => {
    await using stage = await Stage.set();
    const address = LAB.serversIpv4[0];
    const connect = `use IO::Socket::INET; for (80, 81) {
      IO::Socket::INET->new(PeerAddr => "${address}:$_"); }`;
    const { code, stderr, events } = await stage.run(
      spec("refused", {
        argv: ["/usr/bin/perl", "-e", connect],
        egress: [{ host: address, port: 80, protocol: "tcp" }],
      }),
      {
        args: ["--flow-backend", "ebpf"],
        wrapper: ["unshare", "-m", "sh", "-c", `umount ${HYBRID_V2}; exec "$@"`, "sh"],
      },
    );
    assertEquals(code, 0, stderr);
    const warnings = stderr.split("\n").filter((line) => line.includes("flow backend ebpf"));
    assertEquals(warnings.length, 1, stderr);
    assertEquals(warnings[0].endsWith("this host has no cgroup v2"), true, warnings[0]);
    const told = dataOf<FlowDecisionData>(events, EVENT_TYPES.flowDecision);
    assertEquals(told.map((it) => [it.dstPort, it.nftRuleRef, it.reasonCode]), [
      [80, "egress[0]", "nft_log_accept"],
      [81, "egress-default", "nft_log_drop"],
    ]);
    assertEquals(stage.cgroupsOf("refused"), []);
  },
);
