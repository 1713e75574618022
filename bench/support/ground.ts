/**
 * The ground that a bench stands on: its own network and mount namespace with an uplink that
 * leads nowhere, so that celld and its peers find the same empty machine, and the real one's
 * network and mounts are untouched.
 *
 *   bench ──▶ unshare --net --mount ──▶ the bench again, here
 *     ┌ here ───────────────────────┐          ┌ nowhere ┐
 *     │ lo  uplink0 198.51.100.1/24 ├──────────┤ world0  │   /run: a tmpfs
 *     └─────────────────────────────┘          └─────────┘
 *
 * @module
 */
import {
  addAddress,
  addNeighbour,
  addRoute,
  createNetns,
  createVeth,
  type Fd,
  linkIndex,
  NetlinkConn,
  setLinkUp,
  withNetns,
} from "#ffi/mod.ts";
import { findCommand } from "#tests/support/kernel.ts";

/** Set in the inner process. */
const INNER_VARIABLE = "CELLD_BENCH_GROUND";
/** An address that is routed to the uplink; nobody answers there. */
export const FAR_ADDRESS = "203.0.113.10";
/** The peers' and the cells' things: a tmpfs. */
export const GROUND_DIR = "/run/celld-bench";

const UPLINK = "uplink0";
const UPLINK_ADDRESS = "198.51.100.1";
const GATEWAY = "198.51.100.2";
const GATEWAY_MAC = "02:ce:11:d0:00:02";

/** What runs on the ground. */
export interface Ground {
  /** An empty directory on the real disk, for the event log; removed afterwards. */
  readonly stateDir: string;
  /** The cgroup that cells are made in; theirs alone. */
  readonly cgroupParent: string;
}

/**
 * Runs `bench` on the ground: in a new process that is this program with the same arguments.
 * Says so and does nothing where that cannot be (no root, no `unshare`): a machine that
 * cannot measure is no failure.
 */
export async function onGround(bench: (ground: Ground) => Promise<void>): Promise<void> {
  if (Deno.env.get(INNER_VARIABLE) === undefined) return await startInner();
  mountPrivate();
  using far = connectUplink();
  const stateDir = Deno.makeTempDirSync({ prefix: "celld-bench-" });
  try {
    await bench({ stateDir, cgroupParent: `celld-bench-${Deno.pid}` });
  } finally {
    Deno.removeSync(stateDir, { recursive: true });
    far.close();
  }
}

async function startInner(): Promise<void> {
  const unshare = findCommand("unshare");
  if (Deno.uid() !== 0 || unshare === undefined) {
    console.log("  skipped: needs root and unshare (package util-linux)");
    return;
  }
  const { code } = await new Deno.Command(unshare, {
    args: [
      "--net",
      "--mount",
      "--propagation=private",
      Deno.execPath(),
      "run",
      "-A",
      "--quiet",
      "--v8-flags=--expose-gc",
      Deno.mainModule,
      ...Deno.args,
    ],
    env: { [INNER_VARIABLE]: "1" },
    stdin: "null",
  }).spawn().status;
  if (code !== 0) Deno.exit(code);
}

/** `/run` is where `ip netns` and the container tools keep their state. */
function mountPrivate(): void {
  run("mount", ["-t", "tmpfs", "-o", "mode=755", "celld-bench", "/run"]);
  Deno.mkdirSync(GROUND_DIR, { mode: 0o755 });
}

function connectUplink(): Fd {
  const far = createNetns();
  using route = NetlinkConn.open("route");
  setLinkUp(route, 1);
  createVeth(route, { name: UPLINK, peerName: "world0", peerNetns: far, peerMac: GATEWAY_MAC });
  const index = linkIndex(route, UPLINK);
  setLinkUp(route, index);
  addAddress(route, { index, address: UPLINK_ADDRESS, prefixLength: 24 });
  addNeighbour(route, { index, address: GATEWAY, mac: GATEWAY_MAC });
  addRoute(route, { gateway: GATEWAY, index });
  withNetns(far, () => {
    using there = NetlinkConn.open("route");
    setLinkUp(there, linkIndex(there, "world0"));
  });
  return far;
}

function run(command: string, args: readonly string[]): void {
  const { code, stderr } = new Deno.Command(command, { args: [...args], stdin: "null" })
    .outputSync();
  if (code === 0) return;
  throw new Error(`Cannot run ${command}: ${new TextDecoder().decode(stderr).trim()}`);
}
