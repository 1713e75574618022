/**
 * The promise that a datagram of an established flow allocates nothing, in either direction.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";

const DATAGRAMS = 2_000_000;
/** No object of V8 is smaller than 12 bytes; the timer may leave a number now and then. */
const BYTES_MAX = 4;

interface Growth {
  readonly forwarded: number;
  readonly flows: number;
  readonly bytesPerDatagram: number;
}

async function growth(flows: number, ...more: string[]): Promise<Growth> {
  const child = new URL("./garbage_child.ts", import.meta.url).pathname;
  const young = "--min-semi-space-size=256,--max-semi-space-size=256";
  const { code, stdout, stderr } = await runProcess([
    Deno.execPath(),
    "run",
    "-A",
    "--no-check",
    `--v8-flags=--expose-gc,${young}`,
    child,
    String(flows),
    String(DATAGRAMS),
    ...more,
  ], { cwd: REPOSITORY_ROOT });
  assertEquals(code, 0, stderr);
  const found = JSON.parse(stdout) as Growth;
  assertEquals(found.forwarded, DATAGRAMS);
  assertEquals(found.flows, flows);
  return found;
}

Deno.test("udp manager: two million datagrams of established flows leave no garbage", async () => {
  for (const flows of [1, 5000]) {
    const { bytesPerDatagram } = await growth(flows);
    assert(bytesPerDatagram < BYTES_MAX, `${flows} flows: ${bytesPerDatagram} bytes a datagram`);
  }
});

Deno.test("udp manager: one small object for every other datagram would be seen", async () => {
  const { bytesPerDatagram } = await growth(100, "wasteful");
  assert(bytesPerDatagram > 2 * BYTES_MAX, `only ${bytesPerDatagram} bytes a datagram were seen`);
});
