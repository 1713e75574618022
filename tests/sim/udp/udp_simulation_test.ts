/**
 * The seeded simulation of the UDP manager: many short worlds, some long ones, each of which can be
 * repeated by its seed.
 *
 * `CELLD_TEST_SEED` sets the first seed; a failure names the seed and the step.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { BalancerWorld } from "./balancer_world.ts";
import type { WorldTotals } from "./world_books.ts";

function runSeeds(
  first: number,
  seeds: number,
  steps: number,
  checksEach: boolean,
): Omit<WorldTotals, "fingerprint"> {
  const sum = { steps: 0, forwarded: 0, replied: 0, dropped: 0, flows: 0, idleEnds: 0 };
  for (let index = 0; index < seeds; index++) {
    const seed = (first + index) >>> 0;
    const totals = new BalancerWorld({ seed, checksEach }).run(steps);
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += totals[key];
  }
  return sum;
}

Deno.test("udp simulation: 1000 worlds keep every promise, all looked at after each call", () => {
  const first = campaignSeed();
  console.log(`seeds ${first} to ${(first + 999) >>> 0}`);
  const totals = runSeeds(first, 1000, campaign(200, 2000), true);
  // A world in which nothing happens proves nothing.
  assert(totals.forwarded > 5000 && totals.replied > 1000 && totals.idleEnds > 1000);
  recordCampaign("udp: simulated worlds", { seeds: 1000, first, ...totals });
});

Deno.test("udp simulation: long worlds keep every promise", () => {
  const first = campaignSeed();
  const seeds = campaign(10, 200);
  const totals = runSeeds(first, seeds, campaign(5000, 20_000), false);
  assert(totals.forwarded > totals.flows / 2 && totals.replied > 1000 && totals.dropped > 0);
  recordCampaign("udp: long simulated worlds", { seeds, first, ...totals });
});

Deno.test("udp simulation: a seed gives the same world each time", () => {
  const run = (seed: number) => new BalancerWorld({ seed, checksEach: true }).run(1000);
  assertEquals(run(0x5eedc0de), run(0x5eedc0de));
  assertNotEquals(run(0x5eedc0de).fingerprint, run(0x5eedc0df).fingerprint);
});

Deno.test("udp simulation: the known seed of the original runs its 4000 steps", () => {
  const totals = new BalancerWorld({ seed: 0x5eedc0de, checksEach: true }).run(4000);
  assertEquals(totals.steps, 4000);
  assert(totals.forwarded > 200 && totals.replied > 100 && totals.flows > 200);
});
