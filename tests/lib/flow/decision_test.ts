import { assertEquals } from "@std/assert";
import { EVENT_TYPES, validateEventData } from "#lib/events/mod.ts";
import { buildDecision } from "#lib/flow/decision.ts";
import { ipv4, ports } from "./packets.ts";

const IDENTITY = {
  cellId: "cell-test",
  runId: "run-uuid",
  policyDigest: "sha256:deadbeef",
  keysetId: "keyset-1",
  issuerKid: "kid-1",
};
const STAMP = {
  decisionId: "123e4567-e89b-42d3-a456-426614174000",
  observedAt: "2026-05-16T00:00:00Z",
};

function decide(prefix: string, payload: Uint8Array = new Uint8Array(0)) {
  return buildDecision(IDENTITY, prefix, payload, STAMP);
}

Deno.test("buildDecision() tells accept as allow", () => {
  const decision = decide("cellos-flow accept");
  assertEquals([decision.decision, decision.reasonCode], ["allow", "nft_log_accept"]);
});

Deno.test("buildDecision() tells drop as deny", () => {
  const decision = decide("cellos-flow drop");
  assertEquals([decision.decision, decision.reasonCode], ["deny", "nft_log_drop"]);
});

Deno.test("buildDecision() tells an unknown verdict as deny, so that it is seen", () => {
  for (const prefix of ["cellos-flow weirdo", "other accept"]) {
    const decision = decide(prefix);
    assertEquals([decision.decision, decision.reasonCode], ["deny", "nft_log_unknown"]);
  }
});

Deno.test("buildDecision() is not misled by a rule whose name holds a verdict", () => {
  assertEquals(decide("cellos-flow accept-some drop").decision, "deny");
});

Deno.test("buildDecision() has the members of the reference, and none that is null", () => {
  const packet = ipv4({ protocol: 6, rest: ports(40000, 443) });
  assertEquals(decide("cellos-flow egress[0] accept", packet), {
    schemaVersion: "1.0.0",
    cellId: "cell-test",
    runId: "run-uuid",
    decisionId: STAMP.decisionId,
    direction: "egress",
    decision: "allow",
    reasonCode: "nft_log_accept",
    nftRuleRef: "egress[0]",
    srcAddr: "10.0.0.5",
    srcPort: 40000,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
    policyDigest: "sha256:deadbeef",
    keysetId: "keyset-1",
    issuerKid: "kid-1",
    observedAt: "2026-05-16T00:00:00Z",
  });
  assertEquals(Object.hasOwn(decide("cellos-flow accept"), "dstAddr"), false);
});

Deno.test("buildDecision() fits the schema of the event, with and without a packet", () => {
  for (const packet of [new Uint8Array(0), ipv4({ protocol: 17, rest: ports(1, 2) })]) {
    const data = decide("cellos-flow accept", packet);
    assertEquals(validateEventData(EVENT_TYPES.flowDecision, data), []);
  }
});

Deno.test("buildDecision() takes the direction from the rule's name", () => {
  assertEquals(decide("cellos-flow ingress[2] accept").direction, "ingress");
  assertEquals(decide("cellos-flow ingress-default drop").direction, "ingress");
});
