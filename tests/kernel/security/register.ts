/**
 * Registers the tests of this folder. `docs/security.md` names each of them, and
 * `table_test.ts` checks that it does.
 *
 * @module
 */
import { kernelTest, type Need } from "#tests/support/kernel.ts";

/** What every test here needs: root to make cells, perl to attack from inside. */
export const NEEDS: readonly Need[] = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "command:perl",
];

/** A kernel test whose name stands in the table of `docs/security.md`. */
export function securityTest(
  name: string,
  fn: (t: Deno.TestContext) => void | Promise<void>,
): void {
  kernelTest(name, NEEDS, fn);
}
