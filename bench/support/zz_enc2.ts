import { defaultFilter } from "#ffi/mod.ts";
import { initElf } from "#ffi/process/init.ts";
for (let i = 0; i < 12; i++) {
  const t0 = performance.now(); const f = defaultFilter(); const t1 = performance.now(); initElf("x86_64"); const t2 = performance.now();
  console.log("filter", (t1 - t0).toFixed(3), f.length, "elf", (t2 - t1).toFixed(3));
}
