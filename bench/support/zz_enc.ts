import { benchSpec } from "./cells.ts";
import { makePolicy } from "#lib/cell/policy.ts";
import { cellTable } from "#lib/cell/ruleset.ts";
import { encodeTable } from "#ffi/mod.ts";
import { planView } from "#lib/cell/view_plan.ts";
const spec = benchSpec(["/x"]);
const policy = makePolicy(spec);
for (let r = 0; r < 14; r++) {
  const n = r < 6 ? 1 : 50;
  let a = 0, b = 0, len = 0;
  for (let i = 0; i < n; i++) {
    const t0 = performance.now();
    const t = cellTable(policy, { cellId: "x" + i, nflogGroup: 100, hostAddresses: ["198.51.100.1"], pools: { ipv4: "10.213.0.0/16", ipv6: "fdce:11d0::/112" }, linkAddresses: ["10.213.0.0", "fdce:11d0::"], cellAddresses: ["10.213.0.1", "fdce:11d0::1"] } as never);
    const t1 = performance.now();
    const m = encodeTable(t); len = m.length;
    const t2 = performance.now();
    a += t1 - t0; b += t2 - t1;
  }
  console.log(n, "cellTable", (a / n).toFixed(3), "encode", (b / n).toFixed(3), len);
}
