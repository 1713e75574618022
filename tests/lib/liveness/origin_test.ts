/**
 * The classes of origin.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import {
  allowsRecovery,
  effectiveOrigin,
  isNetworkOrigin,
  ORIGIN,
  ORIGIN_NAMES,
} from "#lib/liveness/origin.ts";

const ALL = Object.values(ORIGIN);

Deno.test("origins: the two best may lead to recovery, the network's are two of four", () => {
  assertEquals(ALL, [0, 1, 2, 3]);
  assertEquals(ALL.map(allowsRecovery), [false, false, true, true]);
  assertEquals(ALL.map(isNetworkOrigin), [true, false, true, false]);
  assertEquals(ALL.map((origin) => ORIGIN_NAMES[origin]), [
    "network_unverified",
    "socket_mode_only",
    "operator_attested_transport",
    "kernel_attested",
  ]);
});

Deno.test("origins: the kernel's word for a pid counts in full only with a start time, now or before", () => {
  const effective = (generation: number, pinned: number) =>
    ALL.map((origin) => effectiveOrigin(origin, generation, pinned));
  assertEquals(effective(0, 0), [0, 1, 2, 1]);
  assertEquals(effective(9, 0), [0, 1, 2, 3]);
  assertEquals(effective(0, 9), [0, 1, 2, 3]);
});
