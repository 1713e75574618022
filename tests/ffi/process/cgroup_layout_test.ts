/**
 * Which hierarchy serves which controller.
 *
 * @module
 */
import { planCgroups } from "#ffi/mod.ts";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";

const V1 = [
  "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
  "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
  "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
  "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids",
];
const V2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

Deno.test("a v2 host has all controllers in one place", () => {
  const layout = planCgroups(
    "30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    (mount) => mount === "/sys/fs/cgroup" ? "cpuset cpu io memory hugetlb pids\n" : "",
  );
  const place = { version: 2, mount: "/sys/fs/cgroup" } as const;
  assertEquals(layout, {
    v2Mount: "/sys/fs/cgroup",
    places: { memory: place, pids: place, cpu: place },
  });
});

Deno.test("a mixed host has v2 for control and v1 for what v2 lacks", () => {
  const layout = planCgroups([...V1, V2].join("\n"), () => "hugetlb memory\n");
  assertEquals(layout, {
    v2Mount: "/sys/fs/cgroup/unified",
    places: {
      memory: { version: 2, mount: "/sys/fs/cgroup/unified" },
      pids: { version: 1, mount: "/sys/fs/cgroup/pids" },
      cpu: { version: 1, mount: "/sys/fs/cgroup/cpu,cpuacct" },
    },
  });
});

Deno.test("a v1 host has no v2 mount", () => {
  const layout = planCgroups(V1.join("\n"), () => {
    throw new Error("nothing to read");
  });
  assertEquals(layout.v2Mount, undefined);
  assertEquals(Object.keys(layout.places), ["memory", "pids", "cpu"]);
});

Deno.test("a mount path with a space is unescaped", () => {
  const layout = planCgroups("30 23 0:27 / /odd\\040path rw - cgroup2 c rw", () => "pids");
  assertEquals(layout.v2Mount, "/odd path");
});

Deno.test("a host without cgroups has no places, and no text breaks the parser", () => {
  assertEquals(planCgroups("", () => ""), { places: {} });
  fc.assert(fc.property(fc.string(), (text) => {
    assert(Object.keys(planCgroups(text, () => text).places).length <= 3);
  }));
});
