import { GROUND_DIR, onGround } from "./ground.ts";
import { BenchHost, benchSpec } from "./cells.ts";
import { monotonicMs, readFirstInstruction, writeFirstInstruction } from "./first_instruction.ts";
import { quantile } from "./table.ts";
import { HostClient } from "#lib/cell/mod_shell.ts";
import { FlowAudit } from "#lib/flow/mod.ts";
const T = new Map<string, number[]>();
const add = (k: string, v: number) => {
  let a = T.get(k);
  if (!a) T.set(k, a = []);
  a.push(v);
};
// deno-lint-ignore no-explicit-any
const P = HostClient.prototype as any;
const req = P.request;
P.request = async function (op: string, asks: any) {
  const t = performance.now();
  try {
    return await req.call(this, op, asks);
  } finally {
    add(op + (asks?.step ? ":" + asks.step : ""), performance.now() - t);
  }
};
// deno-lint-ignore no-explicit-any
const F = FlowAudit.prototype as any;
for (const k of ["watch", "unwatch"]) {
  const f = F[k];
  F[k] = async function (o: any) {
    const t = performance.now();
    try {
      return await f.call(this, o);
    } finally {
      add("flow." + k, performance.now() - t);
    }
  };
}
await onGround(async (ground) => {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  writeFirstInstruction(`${GROUND_DIR}/workload/first`);
  await using host = await BenchHost.start(ground);
  const spec = benchSpec(["/bench/first"]);
  const n = Number(Deno.args[0] ?? 60);
  for (let i = 0; i < n; i++) {
    if (i === 6) T.clear();
    const t0 = monotonicMs();
    const { output } = await host.run(spec);
    const t2 = monotonicMs();
    const t1 = readFirstInstruction(output);
    add("START", t1 - t0);
    add("TEARDOWN", t2 - t1);
  }
  for (const [k, v] of T) {
    console.log(k.padEnd(20), quantile(v, .5).toFixed(2), quantile(v, .99).toFixed(2), v.length);
  }
});
