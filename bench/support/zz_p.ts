import { GROUND_DIR, onGround } from "./ground.ts";
import { BenchHost, benchSpec } from "./cells.ts";
import { monotonicMs, readFirstInstruction, writeFirstInstruction } from "./first_instruction.ts";
import { quantile } from "./table.ts";
await onGround(async (ground) => {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  writeFirstInstruction(`${GROUND_DIR}/workload/first`);
  await using host = await BenchHost.start(ground);
  const spec = benchSpec(["/bench/first"]);
  const a: number[] = [], b: number[] = [];
  const n = Number(Deno.args[0] ?? 60);
  for (let i = 0; i < n; i++) {
    const t0 = monotonicMs();
    const { output, exitCode } = await host.run(spec);
    const t2 = monotonicMs();
    if (exitCode !== 0) console.log("exit", exitCode);
    const t1 = readFirstInstruction(output);
    if (i > 5) {
      a.push(t1 - t0);
      b.push(t2 - t1);
    }
  }
  console.log(
    "start",
    quantile(a, .5),
    quantile(a, .99),
    "teardown",
    quantile(b, .5),
    quantile(b, .99),
  );
});
