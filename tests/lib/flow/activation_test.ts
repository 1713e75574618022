import { assertEquals } from "@std/assert";
import {
  buildActivation,
  DEFAULT_NFLOG_GROUP,
  ENV_PER_FLOW_BACKEND,
  ENV_PER_FLOW_BACKEND_E7,
  ENV_PER_FLOW_EBPF,
  ENV_PER_FLOW_NFLOG_GROUP,
  ENV_PER_FLOW_REALTIME,
  selectBackend,
  selectNflogGroup,
} from "#lib/flow/activation.ts";

const IDENTITY = { cellId: "cell-x", runId: "run-x" };

Deno.test("buildActivation() is off when neither switch is set", () => {
  assertEquals(buildActivation({}, IDENTITY), undefined);
});

Deno.test("buildActivation() is on by the older switch", () => {
  assertEquals(buildActivation({ [ENV_PER_FLOW_EBPF]: "1" }, IDENTITY), {
    ...IDENTITY,
    nflogGroup: DEFAULT_NFLOG_GROUP,
    backend: "nflog",
  });
});

Deno.test("buildActivation() is on by the newer switch, and keeps the identity", () => {
  const identity = { ...IDENTITY, policyDigest: "sha256:1", keysetId: "k", issuerKid: "i" };
  assertEquals(
    buildActivation({ [ENV_PER_FLOW_REALTIME]: "1", [ENV_PER_FLOW_NFLOG_GROUP]: "7" }, identity),
    { ...identity, nflogGroup: 7, backend: "nflog" },
  );
});

Deno.test("buildActivation() takes nothing but exactly 1 for on", () => {
  for (const value of ["true", "yes", "on", "TRUE", "0", "", "2", " 1"]) {
    assertEquals(buildActivation({ [ENV_PER_FLOW_REALTIME]: value }, IDENTITY), undefined);
  }
});

Deno.test("selectNflogGroup() falls back to 100 for what is no u16", () => {
  for (const value of ["", "x", "-1", "65536", "1.5", "99999999999999999999"]) {
    assertEquals(selectNflogGroup({ [ENV_PER_FLOW_NFLOG_GROUP]: value }), 100);
  }
  assertEquals(selectNflogGroup({ [ENV_PER_FLOW_NFLOG_GROUP]: " 65535 " }), 65535);
});

Deno.test("selectBackend() defaults to nflog", () => {
  assertEquals(selectBackend({}), "nflog");
});

Deno.test("selectBackend() takes ebpf by the older name", () => {
  assertEquals(selectBackend({ [ENV_PER_FLOW_BACKEND]: "ebpf" }), "ebpf");
});

Deno.test("selectBackend() takes ebpf by the newer name", () => {
  assertEquals(selectBackend({ [ENV_PER_FLOW_BACKEND_E7]: "ebpf" }), "ebpf");
});

Deno.test("selectBackend() lets the older name win, even when it is empty", () => {
  const newer = { [ENV_PER_FLOW_BACKEND_E7]: "ebpf" };
  assertEquals(selectBackend({ ...newer, [ENV_PER_FLOW_BACKEND]: "nflog" }), "nflog");
  assertEquals(selectBackend({ ...newer, [ENV_PER_FLOW_BACKEND]: "" }), "nflog");
});

Deno.test("selectBackend() takes an unknown value for nflog", () => {
  assertEquals(selectBackend({ [ENV_PER_FLOW_BACKEND]: "xdp" }), "nflog");
});
