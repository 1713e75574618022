import { assertEquals } from "@std/assert";
import { FlowAccumulator } from "#lib/flow/accumulator.ts";
import { decodeAttribution, flowKeyOf } from "#lib/flow/packet.ts";
import { ipv4, ports } from "./packets.ts";

const PACKET = ipv4({
  protocol: 6,
  src: [10, 0, 0, 5],
  dst: [192, 0, 2, 1],
  rest: ports(40000, 443),
});

function keyOfPacket() {
  const key = flowKeyOf(decodeAttribution(PACKET));
  if (key === undefined) throw new Error("the packet has a full 5-tuple");
  return key;
}

Deno.test("FlowAccumulator counts a flow that a packet told", () => {
  const accumulator = new FlowAccumulator();
  accumulator.record(keyOfPacket());
  assertEquals(accumulator.uniqueFlowCount, 1);
});

Deno.test("FlowAccumulator counts the same 5-tuple once", () => {
  const accumulator = new FlowAccumulator();
  accumulator.record(keyOfPacket());
  accumulator.record(keyOfPacket());
  assertEquals(accumulator.uniqueFlowCount, 1);
});

Deno.test("FlowAccumulator tells flows apart by each part of the tuple", () => {
  const accumulator = new FlowAccumulator();
  const base = keyOfPacket();
  accumulator.record(base);
  accumulator.record({ ...base, srcAddr: "10.0.0.6" });
  accumulator.record({ ...base, dstAddr: "192.0.2.2" });
  accumulator.record({ ...base, srcPort: 1 });
  accumulator.record({ ...base, dstPort: 1 });
  accumulator.record({ ...base, protocol: 17 });
  assertEquals(accumulator.uniqueFlowCount, 6);
});

Deno.test("FlowAccumulator counts what it cannot remember as overflow", () => {
  const accumulator = new FlowAccumulator(2);
  for (const srcPort of [1, 2, 3, 4, 1]) accumulator.record({ ...keyOfPacket(), srcPort });
  assertEquals([accumulator.uniqueFlowCount, accumulator.overflowCount], [2, 2]);
});

Deno.test("FlowAccumulator leaves out what is no pair of addresses", () => {
  const accumulator = new FlowAccumulator();
  accumulator.record({ ...keyOfPacket(), dstAddr: "example" });
  accumulator.record({ ...keyOfPacket(), dstAddr: "::1" });
  assertEquals(accumulator.uniqueFlowCount, 0);
});
