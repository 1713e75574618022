/**
 * Which shell the load balancer gets.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { startPlane, type UdpShells } from "#lib/daemon/udp_start.ts";
import { readUdpBalancer } from "#lib/udp/mod.ts";
import { PortableUdpPlane, UdpPlane, UdpWorkerGoneError } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";

/** A host where the fast shell fails so. */
function shellsWhere(error: Error): UdpShells {
  const start = () => Promise.reject(error);
  return { UdpPlane: { start }, PortableUdpPlane, UdpWorkerGoneError };
}

const GONE = shellsWhere(new UdpWorkerGoneError(0, "no such call"));
const BEFORE = { hashKey: { low: 1, high: 2 }, fileCount: 0 };

kernelTest(
  "udp start: each word gets its shell, with the key of the server before",
  [],
  async () => {
    for (
      const [shell, kind] of [["auto", UdpPlane], ["fast", UdpPlane], [
        "portable",
        PortableUdpPlane,
      ]] as const
    ) {
      const warnings: string[] = [];
      const plane = await startPlane(
        readUdpBalancer({ shell }),
        BEFORE,
        (text) => warnings.push(text),
      );
      try {
        assert(plane instanceof kind);
        assertEquals([plane.hashKey, plane.workers, warnings], [BEFORE.hashKey, 1, []]);
      } finally {
        await plane.stop();
      }
    }
  },
);

kernelTest(
  "udp start: where the fast one does not start, `auto` is the portable one",
  [],
  async () => {
    const warnings: string[] = [];
    const balancer = readUdpBalancer({ workers: 2, maxFlows: 10 });
    const plane = await startPlane(balancer, undefined, (text) => warnings.push(text), GONE);
    assert(plane instanceof PortableUdpPlane);
    assertEquals([plane.workers, plane.maxFlows, warnings.length], [1, 10, 1]);
    assertStringIncludes(warnings[0], "blind to ICMP");
    assertStringIncludes(warnings[0], "Cannot use UDP worker 0: no such call");
    await plane.stop();
    await assertRejects(
      () => startPlane(readUdpBalancer({ shell: "fast" }), undefined, () => {}, GONE),
      UdpWorkerGoneError,
      "no such call",
    );
    const wrong = shellsWhere(new RangeError("of another kind"));
    await assertRejects(
      () => startPlane(balancer, undefined, () => {}, wrong),
      RangeError,
      "of another kind",
    );
  },
);
