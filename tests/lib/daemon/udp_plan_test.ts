/**
 * What a UDP document changes, and what does not go together with what there is.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import { planDocument, planRemoval, UdpConflictError } from "#lib/daemon/udp_plan.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import { UDP_CONFIG_LIMITS, UdpConfigError } from "#lib/udp/mod.ts";

const cluster = (name: string, more: object = {}) => ({
  name,
  backends: ["192.0.2.1:53"],
  ...more,
});
const listener = (name: string, listen: string, to: string | null = "dns") => ({
  name,
  listen,
  cluster: to,
});
const there = (kind: UdpSetting["kind"], document: { readonly name: string }): UdpSetting => ({
  kind,
  name: document.name,
  document: document as UdpSetting["document"],
  seq: 1,
});
const CURRENT = [
  there("cluster", cluster("dns")),
  there("cluster", cluster("old")),
  there("listener", listener("a", "127.0.0.1:53")),
];

const namesOf = (list: readonly { kind: string; name: string }[]) =>
  list.map(({ kind, name }) => `${kind}/${name}`);

function planned(document: Record<string, unknown>, isPruning = false): unknown {
  const { set, removed, unchanged } = planDocument(document, CURRENT, isPruning);
  return [namesOf(set), namesOf(removed), namesOf(unchanged)];
}

function conflict(document: Record<string, unknown>, isPruning = false): string {
  return assertThrows(() => planDocument(document, CURRENT, isPruning), UdpConflictError).message;
}

Deno.test("udp plan: what is new or other is set, what is the same is left alone", () => {
  const clusters = [cluster("dns"), cluster("new")];
  assertEquals(planned({ clusters, listeners: [listener("b", "127.0.0.1:54", "old")] }), [
    ["cluster/new", "listener/b"],
    [],
    ["cluster/dns"],
  ]);
  assertEquals(planned({ clusters: [cluster("dns", { balance: "maglev" })] }), [
    ["cluster/dns"],
    [],
    [],
  ]);
  assertEquals(planned({}), [[], [], []]);
});

Deno.test("udp plan: with pruning, what is not named goes, listeners before clusters", () => {
  assertEquals(planned({}, true), [[], ["listener/a", "cluster/dns", "cluster/old"], []]);
  assertEquals(planned({ clusters: [cluster("old")] }, true), [
    [],
    ["listener/a", "cluster/dns"],
    ["cluster/old"],
  ]);
  // A cluster that goes is not there for a listener that comes.
  const listeners = [listener("a", "127.0.0.1:53")];
  assertThrows(() => planDocument({ listeners }, CURRENT, true), UdpConfigError);
});

Deno.test("udp plan: an address belongs to one listener, which does not move", () => {
  assertEquals(
    conflict({ listeners: [listener("b", "127.0.0.1:53")] }),
    'Cannot listen at 127.0.0.1:53 for "b": "a" does',
  );
  assertEquals(
    conflict({ listeners: [listener("a", "127.0.0.1:54")] }),
    'Cannot move the listener "a" from 127.0.0.1:53 to 127.0.0.1:54: delete it first',
  );
  const twice = [listener("x", "[::1]:5"), listener("y", "[::1]:5")];
  assertEquals(conflict({ listeners: twice }), 'Cannot listen at [::1]:5 for "y": "x" does');
  // Any free port is not one address.
  const any = [listener("x", "[::1]:0"), listener("y", "[::1]:0")];
  assertEquals(planned({ listeners: any }), [["listener/x", "listener/y"], [], []]);
});

Deno.test("udp plan: one address written in two ways is one address", () => {
  const current = [there("listener", listener("six", "[0:0::1]:53", null))];
  const same = planDocument({ listeners: [listener("six", "[::1]:53", null)] }, current, false);
  assertEquals(namesOf(same.set), ["listener/six"]);
  assertThrows(
    () => planDocument({ listeners: [listener("b", "[::1]:53", null)] }, current, false),
    UdpConflictError,
    'Cannot listen at [::1]:53 for "b": "six" does',
  );
});

Deno.test("udp plan: the balancer is not changed while it runs, and names have a number", () => {
  assertEquals(
    conflict({ balancer: { workers: 2 } }),
    "Cannot change the balancer while it runs: give `balancer` to `celld serve`",
  );
  const { clustersMax } = UDP_CONFIG_LIMITS;
  const clusters = Array.from({ length: clustersMax - 1 }, (_, index) => cluster(`c${index}`));
  assertEquals(conflict({ clusters }), `Cannot have more than ${clustersMax} clusters`);
  assertEquals(planDocument({ clusters }, CURRENT, true).set.length, clustersMax - 1);
});

Deno.test("udp plan: a cluster that a listener names is not removed", () => {
  assertEquals(
    assertThrows(() => planRemoval(CURRENT[0], CURRENT), UdpConflictError).message,
    'Cannot remove the cluster "dns": used by listener "a"',
  );
  assertEquals(planRemoval(CURRENT[1], CURRENT).removed, [CURRENT[1]]);
});
