import { assertEquals, assertThrows } from "@std/assert";
import {
  logPath,
  resolveSettings,
  SETTING_DEFINITIONS,
  SETTING_NAMES,
  SettingError,
} from "#lib/daemon/config.ts";
import { NETWORK_POOLS_DEFAULT } from "#lib/cell/network_plan.ts";
import {
  ENV_PER_FLOW_BACKEND,
  ENV_PER_FLOW_BACKEND_E7,
  selectBackend,
} from "#lib/flow/activation.ts";

Deno.test("without flags and variables every setting has its default", () => {
  const { settings, origins } = resolveSettings({ flags: {}, env: {} });
  assertEquals(settings, {
    runtimeDir: "/run/celld",
    stateDir: "/var/lib/celld",
    nflogGroup: 100,
    flowBackend: "nflog",
    ipv4Pool: NETWORK_POOLS_DEFAULT.ipv4,
    ipv6Pool: NETWORK_POOLS_DEFAULT.ipv6,
    cgroupParent: "celld",
  });
  assertEquals(
    SETTING_NAMES.map((name) => origins[name].source),
    SETTING_NAMES.map(() => "default"),
  );
});

Deno.test("a flag wins over its variable, a variable over the default, an empty one is none", () => {
  const env = { CELLD_RUNTIME_DIR: "/b", CELLD_STATE_DIR: "" };
  const { settings, origins } = resolveSettings({ flags: { runtimeDir: "/a" }, env });
  assertEquals([settings.runtimeDir, settings.stateDir], ["/a", "/var/lib/celld"]);
  assertEquals(origins.runtimeDir, { source: "flag", from: "--runtime-dir" });
  assertEquals(resolveSettings({ flags: {}, env }).origins.runtimeDir, {
    source: "environment",
    from: "CELLD_RUNTIME_DIR",
  });
});

Deno.test("each setting refuses what cannot be used, and says what it wants", () => {
  const bad = {
    runtimeDir: ["run", "", "/a/../b", `/${"x".repeat(300)}`],
    stateDir: ["./state"],
    nflogGroup: ["-1", "65536", "x", "1.5", ""],
    flowBackend: ["bpf", "EBPF", ""],
    ipv4Pool: ["10.0.0.1", "fd00::/112", "10.0.0.0/33"],
    ipv6Pool: ["fd00::1", "10.0.0.0/16"],
    cgroupParent: ["/celld", "../x", "a//b", "", "a/../b"],
    beatSocket: ["on", "beat.sock", "/run/../beat.sock", ""],
    livenessFile: ["liveness.yaml", "/etc/../liveness.yaml"],
    log: ["", "nats", "http://host:1", "nats://host:port", "nats://host,other", "nats://a b"],
    logStream: ["", "a.b", "a b", "x".repeat(65)],
    logReplicas: ["0", "6", "three", ""],
    logUser: [""],
    logPasswordFile: ["password", ""],
    logTokenFile: ["token"],
    logNkeyFile: ["./nkey"],
    logCredsFile: ["nats.creds"],
    logCaFile: ["ca.pem"],
    logCertFile: ["cert.pem"],
    logKeyFile: ["key.pem"],
    spoolDir: ["spool", ""],
    spoolBytes: ["", "64MiB", "100", "65537", "-65536", "99999999999999"],
  };
  for (const name of SETTING_NAMES) {
    for (const text of bad[name]) {
      const error = assertThrows(
        () => resolveSettings({ flags: { [name]: text }, env: {} }),
        SettingError,
        SETTING_DEFINITIONS[name].flag,
      );
      assertEquals((error as SettingError).exitCode, 2);
    }
  }
});

Deno.test("the flow backend's variables mean what they mean to the flow audit, whatever they hold", () => {
  for (const older of [undefined, "", "ebpf", "nflog", "xdp"]) {
    for (const newer of [undefined, "", "ebpf", "nflog", "xdp"]) {
      const env = { [ENV_PER_FLOW_BACKEND]: older, [ENV_PER_FLOW_BACKEND_E7]: newer };
      const { settings } = resolveSettings({ flags: {}, env });
      assertEquals(settings.flowBackend, selectBackend(env), JSON.stringify(env));
    }
  }
  const env = { [ENV_PER_FLOW_BACKEND]: "ebpf" };
  assertEquals(resolveSettings({ flags: {}, env }).origins.flowBackend, {
    source: "environment",
    from: ENV_PER_FLOW_BACKEND,
  });
  const { settings } = resolveSettings({ flags: { flowBackend: "nflog" }, env });
  assertEquals(settings.flowBackend, "nflog");
});

Deno.test("a bad group in the variable shared with other tools falls back, with a note", () => {
  const env = { CELLOS_FIRECRACKER_PER_FLOW_NFLOG_GROUP: "many" };
  const { settings, origins } = resolveSettings({ flags: {}, env });
  assertEquals(settings.nflogGroup, 100);
  assertEquals(origins.nflogGroup.source, "default");
  assertEquals(
    origins.nflogGroup.note,
    'CELLOS_FIRECRACKER_PER_FLOW_NFLOG_GROUP="many" is not a number from 0 to 65535',
  );
});

Deno.test("other variables with a bad value are refused by name", () => {
  assertThrows(
    () => resolveSettings({ flags: {}, env: { CELLD_IPV4_POOL: "ten" } }),
    SettingError,
    'Cannot use CELLD_IPV4_POOL "ten": want an IPv4 prefix',
  );
});

Deno.test("the log stands in the state directory", () => {
  assertEquals(logPath("/var/lib/celld"), "/var/lib/celld/events.db");
});
