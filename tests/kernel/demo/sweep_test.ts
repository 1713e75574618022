import { assertEquals } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { takeInventory } from "#tests/support/inventory.ts";
import { sweepCgroup } from "../../../demo/sweep.ts";

const PIDS_ROOT = Deno.readTextFileSync("/proc/self/mountinfo").split("\n")
  .map((line) => line.split(" "))
  .find((fields) => fields.includes("cgroup2"))?.[4];

kernelTest(
  "sweepCgroup() kills and removes what is in the named cgroup, and nothing else",
  ["root", `path:${PIDS_ROOT as `/${string}` ?? "/none"}`],
  async () => {
    const mine = `celld-sweep-${Deno.pid}`;
    const other = `celld-other-${Deno.pid}`;
    const listed = () =>
      takeInventory({ parts: ["cgroups"] }).cgroups
        .filter((path) => path.includes(mine) || path.includes(other));
    Deno.mkdirSync(`${PIDS_ROOT}/${mine}/cell`, { recursive: true });
    Deno.mkdirSync(`${PIDS_ROOT}/${other}`);
    const sleeper = new Deno.Command("sleep", { args: ["60"] }).spawn();
    try {
      Deno.writeTextFileSync(`${PIDS_ROOT}/${mine}/cell/cgroup.procs`, String(sleeper.pid));
      assertEquals(listed().length, 3);
      await sweepCgroup(mine);
      assertEquals((await sleeper.status).signal, "SIGKILL");
      assertEquals(listed(), [`${PIDS_ROOT}/${other}`]);
      await sweepCgroup(mine);
    } finally {
      Deno.removeSync(`${PIDS_ROOT}/${other}`);
    }
  },
);
