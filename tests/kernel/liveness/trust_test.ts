/**
 * Who is believed: other users, forged pids, other pid namespaces, cells' sockets, attachments.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { readProcessFacts } from "#lib/liveness/process_facts_shell.ts";
import { LivenessObserver, ObserverError } from "#lib/liveness/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Beaters, Watched } from "./support.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const OWN_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"];

function isQuiet(watched: Watched): void {
  assertEquals(watched.events.filter(({ kind }) => kind !== "conflict"), []);
}

kernelTest(
  "liveness: a user who may not send is refused and counted, and may when it is allowed",
  ["root", "command:perl", "command:setpriv"],
  async () => {
    await using watched = await Watched.start();
    await using _refused = await Beaters.start({ path: watched.path, within: NOBODY });
    await watched.counted("varta_observer_uid_refused_total", 3);
    const [conflict] = watched.of("conflict");
    assertEquals([conflict!.reason, conflict!.uid], ["uid", 65534]);
    isQuiet(watched);

    await using open = await Watched.start({ socket: { path: "", allowedUids: [65534] } });
    await using beaters = await Beaters.start({ path: open.path, within: NOBODY });
    await open.until("it is seen", () => open.of("seen").length === 1);
    assertEquals(open.of("seen")[0]!.agent.uid, 65534);
    assertEquals(open.of("seen")[0]!.agent.hostPid, beaters.pids[0]!);
  },
);

kernelTest(
  "liveness: a pid forged by another user is an authentication failure, and nobody's beat",
  ["root", "command:perl", "command:setpriv"],
  async () => {
    await using watched = await Watched.start({ socket: { path: "", allowedUids: [65534] } });
    const victim = Deno.pid;
    await using beaters = await Beaters.start({
      path: watched.path,
      within: NOBODY,
      extra: [`pid=${victim}`],
    });
    await watched.counted("varta_frame_auth_failures_total", 3);
    const [conflict] = watched.of("conflict");
    assertEquals([conflict!.reason, conflict!.claimedPid], ["pid", victim]);
    assertEquals(conflict!.hostPid, beaters.pids[0]!, "the kernel says who it was");
    isQuiet(watched);
  },
);

kernelTest(
  "liveness: on the host's socket a process of another pid namespace is a conflict, by either pid",
  ["root", "command:perl", "command:unshare"],
  async () => {
    await using watched = await Watched.start();
    await using _inner = await Beaters.start({ path: watched.path, within: OWN_NAMESPACE });
    await watched.counted("varta_frame_auth_failures_total", 2);
    assertEquals(watched.of("conflict")[0]!.reason, "pid");

    // With the host's number in the frame the pid is right, and the namespace is not.
    await using other = await Watched.start();
    await using _outer = await Beaters.start({
      path: other.path,
      within: OWN_NAMESPACE,
      extra: ["pid=host"],
    });
    await other.counted("varta_frame_namespace_mismatch_total", 2);
    assertEquals(other.of("conflict")[0]!.reason, "namespace");
    isQuiet(watched);
    isQuiet(other);

    await using lenient = await Watched.start({ allowsCrossNamespace: true });
    await using _allowed = await Beaters.start({
      path: lenient.path,
      within: OWN_NAMESPACE,
      extra: ["pid=host"],
    });
    await lenient.until("it is seen", () => lenient.of("seen").length === 1);
    const own = readProcessFacts("self").nsInode;
    assert(lenient.of("seen")[0]!.agent.namespaceInode !== own);
  },
);

kernelTest(
  "liveness: on a cell's socket its own processes are known by host pid, cell and labels",
  ["root", "command:perl", "command:unshare"],
  async () => {
    await using watched = await Watched.start();
    const path = `${watched.folder}/cell.sock`;
    const order = { cellId: "demo", path, uids: [{ first: 0, count: 1 }], labels: { app: "web" } };
    const facts = await watched.observer.addCellSocket(order);
    assert(facts.hasPidfds);
    await assertRejects(() => watched.observer.addCellSocket(order), ObserverError, "is observed");
    await using beaters = await Beaters.start({ path, count: 2, within: OWN_NAMESPACE });
    await watched.until("both are seen", () => watched.of("seen").length === 2);
    for (const { agent } of watched.of("seen")) {
      assert(beaters.pids.includes(agent.pid), "its pid as it sees itself");
      assert(!beaters.pids.includes(agent.hostPid), "and the host's beside it");
      assertEquals(readProcessFacts(agent.hostPid).innermostPid, agent.pid);
      assertEquals([agent.cell, agent.labels], ["demo", { app: "web" }]);
      assertEquals(agent.origin, "kernel_attested");
    }
    await watched.observer.removeCellSocket("demo");
    assertEquals(watched.of("gone").map(({ reason }) => reason), ["cellRemoved", "cellRemoved"]);
    assertEquals(await watched.observer.agents(), []);
    await assertRejects(() => Deno.lstat(path), Deno.errors.NotFound);
  },
);

kernelTest(
  "liveness: on a cell's socket another's pid, and a user who is not the cell's, are refused",
  ["root", "command:perl", "command:unshare", "command:setpriv"],
  async () => {
    await using watched = await Watched.start();
    const path = `${watched.folder}/cell.sock`;
    await watched.observer.addCellSocket({
      cellId: "demo",
      path,
      mode: 0o666,
      uids: [{ first: 0, count: 1 }],
    });
    await using _liar = await Beaters.start({ path, within: OWN_NAMESPACE, extra: ["pid=4000"] });
    await watched.counted("varta_frame_auth_failures_total", 2);
    await using _other = await Beaters.start({ path, within: NOBODY });
    await watched.counted("varta_observer_uid_refused_total", 2);
    const conflicts = watched.of("conflict");
    assertEquals(new Set(conflicts.map(({ reason }) => reason)), new Set(["pid", "uid"]));
    assert(conflicts.every(({ cell }) => cell === "demo"));
    isQuiet(watched);
  },
);

kernelTest(
  "liveness: a second observer on a path is refused, and the first goes on",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start();
    const start = () =>
      LivenessObserver.start({ thresholdNs: 1e9, socket: { path: watched.path } });
    const error = await assertRejects(start, ObserverError, "another process listens there");
    assertEquals(error.code, "inUse");
    await using beaters = await Beaters.start({ path: watched.path });
    await watched.until("the first goes on", () => watched.of("seen", beaters.pids[0]!).length > 0);
  },
);

kernelTest(
  "liveness: garbage, odd lengths and text are counted by what is wrong with them",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start();
    const path = watched.path;
    await using _short = await Beaters.start({ path, extra: ["text=Fatal Python error: x"] });
    await watched.counted("varta_truncated_datagrams_total", 2);
    const frame = "V".repeat(32);
    await using _magic = await Beaters.start({ path, extra: [`text=${frame}`] });
    await watched.counted('varta_decode_errors_total{kind="bad_magic"}', 2);
    await using _pid = await Beaters.start({ path, extra: ["pid=4294967295"] });
    await watched.counted("varta_frame_rejected_pid_above_max_total", 2);
    await using _status = await Beaters.start({ path, extra: ["status=3"] });
    await watched.counted('varta_decode_errors_total{kind="stall_on_wire"}', 2);
    assertEquals(watched.events, []);
  },
);
