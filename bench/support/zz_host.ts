import { onGround, GROUND_DIR } from "./ground.ts";
import { benchSettings, benchSpec } from "./cells.ts";
import { writeFirstInstruction } from "./first_instruction.ts";
import { quantile } from "./table.ts";
import { HostCell } from "#lib/cell/host_cell_shell.ts";
import { HostNetwork } from "#lib/cell/host_network_shell.ts";
import { prepareRuntimeDir } from "#lib/cell/runtime_shell.ts";
import { Watcher } from "#lib/cell/watcher_shell.ts";
import { discoverCgroups } from "#ffi/mod.ts";
import * as enc from "#ffi/mod.ts";
const T = new Map<string, number[]>();
const add = (k: string, v: number) => { let a = T.get(k); if (!a) T.set(k, a = []); a.push(v); };
const nc = enc.NftConn.prototype as any; const commit = nc.commit;
nc.commit = function (m: any) { const t = performance.now(); const r = commit.call(this, m); add("  commit " + m.length, performance.now() - t); return r; };
const hn = HostNetwork.prototype as any;
for (const k of ["attach", "admit", "hostAddresses", "expel", "detach"]) { const f = hn[k]; hn[k] = function (...a: any[]) { const t = performance.now(); const r = f.apply(this, a); const done = () => add("  net." + k, performance.now() - t); if (r?.then) return r.then((v: any) => { done(); return v; }); done(); return r; }; }
const ep = enc.Epoll.prototype as any; const wa = ep.waitAsync; ep.waitAsync = async function (...a: any[]) {  const r = await wa.apply(this, a);  return r; };
await onGround(async (ground) => {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  writeFirstInstruction(`${GROUND_DIR}/workload/first`);
  const st = benchSettings(ground);
  const settings = { runtimeDir: st.runtimeDir, stateDir: st.stateDir, cgroupParent: st.cgroupParent, nflogGroup: 100, pools: { ipv4: st.ipv4Pool, ipv6: st.ipv6Pool } };
  const paths = prepareRuntimeDir(st.runtimeDir);
  const watcher = new Watcher();
  const w = watcher.run(); w.catch((e) => { console.error(e); Deno.exit(1); });
  const ctx: any = { settings, paths, network: new HostNetwork(paths, settings.pools), cgroups: discoverCgroups(), watcher };
  const spec = benchSpec(["/bench/first"]);
  const steps = ["lease", "netns", "network", "cgroup", "ruleset", "secrets", "launch"] as const;
  for (let i = 0; i < Number(Deno.args[0] ?? 100); i++) {
    if (i === 10) T.clear();
    let exited!: () => void; const ex = new Promise<void>((r) => exited = r);
    const cell = new HostCell(ctx, { cellId: "c" + i, runId: "r", spec, secrets: {}, stdinFd: -1 }, { started() {  }, output(_s: any, c: any) {  }, exited() { exited(); } } as any);
    for (const s of steps) { const t = performance.now(); await cell.do({ step: s } as any); add(s, performance.now() - t); }
    
    await ex;
    for (const s of [...steps].reverse()) { const t = performance.now(); await cell.undo(s); add("undo " + s, performance.now() - t); }
  }
  watcher.stop(); await w;
  for (const [k, v] of T) console.log(k.padEnd(20), quantile(v, .5).toFixed(2), quantile(v, .99).toFixed(2), v.length);
});
