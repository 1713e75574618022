/**
 * The portable UDP plane where the kernel says no: sockets that do not open, do not send, or end.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type DatagramPeer,
  PortableUdpPlane,
  UdpOrderError,
  UdpWorkerGoneError,
} from "#lib/udp/mod_shell.ts";
import { LANE_MAX } from "#lib/udp/send_lane.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { eventually, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles } from "#tests/support/udp_plane.ts";
import { PortableStage } from "./portable_stage.ts";

/** Sockets of the runtime, with what a test does to them. */
class Sockets {
  /** All that were opened; the first is the listener's. */
  readonly opened: Deno.DatagramConn[] = [];
  /** Thrown in place of opening one. */
  refusal: Error | undefined;
  /** In place of sending. */
  send: ((real: Deno.DatagramConn) => Promise<number> | undefined) | undefined;

  readonly open = (where: DatagramPeer): Deno.DatagramConn => {
    if (this.refusal !== undefined) throw this.refusal;
    const real = Deno.listenDatagram(where);
    this.opened.push(real);
    const send = real.send.bind(real);
    real.send = (bytes, to) => this.send?.(real) ?? send(bytes, to);
    return real;
  };
}

const kernelError = (code: string) => Object.assign(new Error(`it is ${code}`), { code });

kernelTest("udp portable: a socket that cannot be had costs its flow, counted", [], async () => {
  const sockets = new Sockets();
  await using stage = await PortableStage.start("127.0.0.1", { plane: { open: sockets.open } });
  await using client = await UdpClient.open();
  sockets.refusal = kernelError("EMFILE");
  await client.send("x", stage.port);
  await eventually(() => stage.reasons.length === 1);
  sockets.refusal = kernelError("EPERM");
  await client.send("x", stage.port);
  await eventually(() => stage.reasons.length === 2);
  assertEquals(stage.reasons, ["aborted", "aborted"]);
  const { limitReached, noSocket } = stage.plane.shellCounters();
  assertEquals([limitReached, noSocket], [1, 2]);
  await assertRejects(
    () => stage.listen({ listener: 1, port: 0 }),
    UdpOrderError,
    "Cannot listen at 127.0.0.1:0: EPERM: it is EPERM",
  );
  sockets.refusal = undefined;
  assertEquals((await client.ask("y", stage.port)).slice(3), ":y");
});

kernelTest("udp portable: what the kernel does not send is counted", [], async () => {
  const sockets = new Sockets();
  await using stage = await PortableStage.start("127.0.0.1", { plane: { open: sockets.open } });
  await using client = await UdpClient.open();
  sockets.send = () => Promise.reject(kernelError("EPERM"));
  await client.send("x", stage.port);
  await eventually(() => stage.plane.shellCounters().sendError === 1);
  sockets.send = undefined;
  assertEquals((await client.ask("y", stage.port)).slice(3), ":y");
});

kernelTest("udp portable: a socket that is full delays its own flow alone", [], async () => {
  const sockets = new Sockets();
  await using client = await UdpClient.open();
  await using other = await UdpClient.open();
  const before = openFiles();
  const stage = await PortableStage.start("127.0.0.1", { plane: { open: sockets.open } });
  const stuck = Promise.withResolvers<number>();
  sockets.send = (real) => real === sockets.opened[1] ? stuck.promise : undefined;
  for (let index = 0; index < LANE_MAX + 5; index++) await client.send("x", stage.port);
  await eventually(() => stage.plane.shellCounters().queueFull === 5);
  assertEquals((await stage.plane.counters()).workers[0].waiting, LANE_MAX);
  assertEquals((await other.ask("y", stage.port)).slice(3), ":y");
  // It ends all the same, and what waited is counted as given up.
  await stage[Symbol.asyncDispose]();
  stuck.reject(kernelError("EBADF"));
  await eventually(() => stage.plane.shellCounters().queueDiscarded === LANE_MAX);
  assertEquals(openFiles(), before);
});

kernelTest("udp portable: a flow whose socket is lost ends, the others go on", [], async () => {
  const sockets = new Sockets();
  await using stage = await PortableStage.start("127.0.0.1", { plane: { open: sockets.open } });
  await using client = await UdpClient.open();
  await using other = await UdpClient.open();
  await client.ask("x", stage.port);
  await other.ask("x", stage.port);
  const [, flow] = sockets.opened;
  const close = flow.close.bind(flow);
  flow.close = () => {};
  close();
  await eventually(() => stage.reasons.length === 1);
  assertEquals(stage.reasons, ["aborted"]);
  assertEquals((await other.ask("y", stage.port)).slice(3), ":y");
  assertEquals((await client.ask("y", stage.port)).slice(3), ":y");
});

kernelTest("udp portable: without its listener's socket it is gone, and says so", [], async () => {
  const sockets = new Sockets();
  await using client = await UdpClient.open();
  const before = openFiles();
  const stage = await PortableStage.start("127.0.0.1", { plane: { open: sockets.open } });
  const gone: Error[] = [];
  stage.plane.onGone = (error) => gone.push(error);
  await client.ask("x", stage.port);
  const [listener] = sockets.opened;
  const close = listener.close.bind(listener);
  listener.close = () => {};
  close();
  await eventually(() => gone.length === 1);
  assert(gone[0] instanceof UdpWorkerGoneError);
  await assertRejects(() => stage.plane.snapshot(), UdpWorkerGoneError, "lost its socket");
  await stage[Symbol.asyncDispose]();
  assertEquals(openFiles(), before);
});

Deno.test("udp portable: a Deno without datagram sockets is told what it lacks", async () => {
  const known = Deno.listenDatagram;
  Object.assign(Deno, { listenDatagram: undefined });
  try {
    await assertRejects(() => PortableUdpPlane.start(), TypeError, "without --unstable-net");
  } finally {
    Object.assign(Deno, { listenDatagram: known });
  }
  await (await PortableUdpPlane.start()).stop();
});
