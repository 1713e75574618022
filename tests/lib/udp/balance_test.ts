/**
 * Which backend a new flow gets: shares, ties, tiers, and how little moves when backends change.
 *
 * @module
 */
import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { type Backend, Balancer, POLICIES, type Policy, SELECT_NONE } from "#lib/udp/mod.ts";
import { buildMaglev, MAGLEV_SIZE } from "#lib/udp/maglev.ts";
import { campaign } from "#tests/support/campaign.ts";

const RUNS = campaign(20, 200);
const KEYS = campaign(2000, 20_000);
const HASH_KEY = { low: 0x1234, high: 0x5678 };

function backend(index: number, parts: Partial<Backend> = {}): Backend {
  return { index, identity: `10.0.0.${index}:53`, weight: 1, backup: false, ...parts };
}

function balancer(
  policy: Policy,
  backends: readonly Backend[],
  options: { failOpen?: boolean; flows?: (index: number) => number; seed?: number } = {},
): Balancer {
  const { failOpen = false, flows = () => 0, seed = 1 } = options;
  const made = new Balancer({ policy, failOpen, hashKey: HASH_KEY, seed, flows });
  made.setBackends(backends);
  return made;
}

function keys(seed = 7): number[] {
  const prng = new Prng(seed);
  return Array.from({ length: KEYS }, () => prng.u32());
}

function shares(of: Balancer, picks: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const key of picks) {
    const chosen = of.pick(key);
    counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
  }
  return counts;
}

const some = (count: number) => Array.from({ length: count }, (_, index) => backend(index));

Deno.test("no policy finds a backend where there is none, and each finds the only one", () => {
  for (const policy of POLICIES) {
    assertEquals(balancer(policy, []).pick(1), SELECT_NONE);
    assertEquals(balancer(policy, [backend(4)]).pick(1), 4);
  }
});

Deno.test("round robin gives each its share in every stretch, spread out", () => {
  const weighted = balancer("round-robin", [
    backend(0, { weight: 5 }),
    backend(1, { weight: 1 }),
    backend(2, { weight: 1 }),
  ]);
  const turns = Array.from({ length: 14 }, () => weighted.pick(0));
  assertEquals(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
});

Deno.test("weights are shares, whatever chooses", () => {
  const weights = [1, 2, 5];
  for (const policy of ["round-robin", "random", "rendezvous", "maglev"] as const) {
    const counts = shares(
      balancer(policy, weights.map((weight, i) => backend(i, { weight }))),
      keys(),
    );
    for (const [index, weight] of weights.entries()) {
      const share = counts.get(index)! / KEYS;
      const off = Math.abs(share / (weight / 8) - 1);
      assert(off < 0.2, `${policy}: backend ${index} has ${share} instead of ${weight / 8}`);
    }
  }
});

Deno.test("a weight of 0 takes a backend out of new choices", () => {
  for (const policy of POLICIES) {
    const counts = shares(balancer(policy, [backend(0, { weight: 0 }), backend(1)]), keys());
    assertEquals([...counts.keys()], [1]);
  }
});

Deno.test("least flows goes by flows for the weight, and takes turns among equals", () => {
  const flows = [4, 2, 9];
  const backends = [backend(0), backend(1), backend(2, { weight: 10 })];
  const least = balancer("least-flows", backends, { flows: (index) => flows[index] });
  assertEquals(least.pick(0), 2);
  flows[2] = 100;
  assertEquals(least.pick(0), 1);
  const equal = balancer("least-flows", some(3));
  assertEquals([equal.pick(0), equal.pick(0), equal.pick(0), equal.pick(0)], [0, 1, 2, 0]);
});

Deno.test("least flows and power of two keep loads even as flows come", () => {
  for (const policy of ["least-flows", "power-of-two"] as const) {
    const loads = new Array<number>(8).fill(0);
    const even = balancer(policy, some(8), { flows: (index) => loads[index] });
    for (const key of keys()) loads[even.pick(key)] += 1;
    const spread = Math.max(...loads) - Math.min(...loads);
    assert(spread <= (policy === "least-flows" ? 1 : 20), `${policy}: ${loads}`);
  }
});

Deno.test("hashing policies agree over workers that learned backends in another order", () => {
  for (const policy of ["rendezvous", "maglev"] as const) {
    const backends = some(7);
    const one = balancer(policy, backends);
    const other = balancer(policy, new Prng(3).shuffle(backends), { seed: 99 });
    for (const key of keys()) assertEquals(one.pick(key), other.pick(key));
  }
});

Deno.test("rendezvous: a backend's end moves its keys only, a newcomer takes only its own", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 12 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 12, maxLength: 12 }),
      fc.nat(),
      (count, weights, which) => {
        const all = some(count).map((one, i) => ({ ...one, weight: weights[i] }));
        const gone = which % count;
        const before = balancer("rendezvous", all);
        const after = balancer("rendezvous", all.filter((one) => one.index !== gone));
        let moved = 0;
        for (const key of keys(which)) {
          const was = before.pick(key);
          if (was === gone) moved += 1;
          else assertEquals(after.pick(key), was);
          // Read the other way round, `gone` is the newcomer: what it has not, stayed.
        }
        assert(moved > 0);
      },
    ),
    { numRuns: RUNS },
  );
});

Deno.test("rendezvous: a backend that is down moves its keys only, and they come back", () => {
  const backends = balancer("rendezvous", some(5));
  const before = keys().map((key) => backends.pick(key));
  backends.setState(2, "down");
  for (const [i, key] of keys().entries()) {
    const now = backends.pick(key);
    assert(now !== 2 && (before[i] === 2 || now === before[i]));
  }
  backends.setState(2, "up");
  assertEquals(keys().map((key) => backends.pick(key)), before);
});

Deno.test("maglev: an outage moves only its own keys", () => {
  const backends = balancer("maglev", some(5));
  const before = keys().map((key) => backends.pick(key));
  backends.setState(3, "down");
  for (const [i, key] of keys().entries()) {
    const now = backends.pick(key);
    assert(now !== 3 && (before[i] === 3 || now === before[i]));
  }
});

Deno.test("maglev: entries are the weights' shares, to one entry", () => {
  const weights = Float64Array.of(1, 1, 3, 100, 65_535);
  const table = buildMaglev(Uint32Array.of(5, 6, 7, 8, 9), weights);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  for (const [member, weight] of weights.entries()) {
    const entries = table.reduce((count, one) => count + (one === member ? 1 : 0), 0);
    assert(Math.abs(entries - weight * MAGLEV_SIZE / sum) <= 1, `${entries} for ${weight}`);
  }
});

Deno.test("maglev: a change of members moves little more than it must", () => {
  for (const count of [3, 10, 30]) {
    const before = balancer("maglev", some(count));
    const after = balancer("maglev", some(count + 1));
    const moved = keys().filter((key) => {
      const was = before.pick(key);
      const now = after.pick(key);
      return now !== was && now !== count;
    }).length;
    assert(moved / KEYS < 0.1, `${count} members: ${moved} of ${KEYS} moved to others`);
  }
});

Deno.test("backups serve only while no primary does", () => {
  for (const policy of POLICIES) {
    const tiers = balancer(policy, [backend(0), backend(1, { backup: true })]);
    assertEquals(tiers.pick(5), 0);
    tiers.setState(0, "down");
    assertEquals(tiers.pick(5), 1);
    tiers.setState(0, "up");
    assertEquals(tiers.pick(5), 0);
  }
});

Deno.test("when all are down a cluster fails open or closed, as configured; never to one that drains", () => {
  for (const policy of POLICIES) {
    for (const failOpen of [false, true]) {
      const cluster = balancer(policy, some(3), { failOpen });
      cluster.setState(0, "down");
      cluster.setState(1, "draining");
      cluster.setState(2, "draining");
      assertEquals(cluster.pick(5), failOpen ? 0 : SELECT_NONE);
      assertEquals(cluster.failedOpen, failOpen ? 1 : 0);
      assertEquals(cluster.eligible, 0);
    }
  }
});

Deno.test("a preferred backend is taken while it is eligible, one to avoid while there is another", () => {
  for (const policy of POLICIES) {
    const cluster = balancer(policy, some(3));
    for (const key of [1, 2, 3, 4, 5]) {
      assertEquals(cluster.pick(key, 1), 1);
      assert(cluster.pick(key, -1, 1) !== 1);
    }
    cluster.setState(1, "down");
    assert(cluster.pick(9, 1) !== 1);
    const single = balancer(policy, [backend(6)]);
    assertEquals(single.pick(1, -1, 6), 6);
  }
});

Deno.test("a backend at its bound on flows gets no more", () => {
  for (const policy of POLICIES) {
    const flows = [3, 0];
    const cluster = balancer(policy, [backend(0, { maxFlows: 3 }), backend(1, { maxFlows: 1 })], {
      flows: (index) => flows[index],
    });
    for (const key of [1, 2, 3]) assertEquals(cluster.pick(key), 1);
    flows[1] = 1;
    assertEquals(cluster.pick(1), SELECT_NONE);
  }
});

Deno.test("states outlive a change of the list, and end with their backend", () => {
  const cluster = balancer("round-robin", some(2));
  cluster.setState(0, "down");
  cluster.setBackends(some(3));
  assertEquals([...shares(cluster, keys()).keys()].sort(), [1, 2]);
  cluster.setBackends([backend(1)]);
  cluster.setBackends(some(2));
  assertEquals([...shares(cluster, keys()).keys()].sort(), [0, 1]);
});

Deno.test("the same list again does not start the turns anew", () => {
  const cluster = balancer("round-robin", some(3));
  const turns = Array.from({ length: 6 }, () => {
    cluster.setBackends(some(3));
    return cluster.pick(0);
  });
  assertEquals(turns, [0, 1, 2, 0, 1, 2]);
});

Deno.test("a list that cannot be is refused", () => {
  assertThrows(
    () => balancer("random", [backend(0), { ...backend(1), identity: "10.0.0.0:53" }]),
    RangeError,
    'Cannot balance: "10.0.0.0:53" is listed twice',
  );
  assertThrows(
    () => balancer("random", [backend(0, { weight: 1.5 })]),
    RangeError,
    "Cannot balance with a weight of 1.5: want 0 to 65535",
  );
});
