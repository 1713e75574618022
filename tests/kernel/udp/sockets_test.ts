/**
 * UDP sockets of `ffi/`, against the real kernel on loopback.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adoptUdpFlowSocket,
  adoptUdpListener,
  adoptUdpSourceSocket,
  closeUdpSocket,
  createPipe,
  duplicateFd,
  encodeSockaddr,
  EPOLL,
  epollEventLayout,
  ERRNO,
  getOption,
  inetSocketAddress,
  MTU_DISCOVERY,
  NetlinkConn,
  openUdpFlowSocket,
  openUdpListener,
  openUdpSourceSocket,
  readName,
  ReadyTable,
  receiveUdp,
  socketDrops,
  SyscallError,
  takeSocketError,
  UDP_BATCH,
  UDP_ERROR_QUEUE_BYTES,
  UDP_LEVEL,
  UDP_OPTION,
  UDP_RECEIVE_BYTES,
  UDP_RUN_BYTES,
  UDP_SEND_BYTES,
  UdpErrorQueue,
  type UdpListenerSocket,
  UdpReceiveBatch,
  UdpRun,
  UdpSendBatch,
  UdpSlab,
} from "#ffi/mod.ts";
import {
  clientOf,
  formatAddress,
  localOf,
  makeTuple,
  TUPLE_WORDS,
  writePorts,
} from "#lib/udp/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const FAMILIES = ["127.0.0.1", "::1"] as const;

function listener(address: string, changes: { takesRuns?: boolean; size?: number } = {}) {
  return openUdpListener({
    address: encodeSockaddr(inetSocketAddress(address, 0)),
    takesRuns: changes.takesRuns ?? false,
    receiveBufferBytes: changes.size ?? 1 << 20,
  });
}

function portOf({ address }: UdpListenerSocket): number {
  assert("port" in address && address.family !== "netlink");
  return address.port;
}

function flowTo(address: string, port: number): number {
  const fd = openUdpFlowSocket({ backend: encodeSockaddr(inetSocketAddress(address, port)) });
  assert(fd >= 0, `errno ${-fd}`);
  return fd;
}

function makeSlab(payloadBytes = 2048): UdpSlab {
  const parts = UDP_RECEIVE_BYTES + UDP_SEND_BYTES + UDP_RUN_BYTES + UDP_ERROR_QUEUE_BYTES;
  return new UdpSlab(2 * UDP_BATCH, payloadBytes, parts + 4096);
}

/** Puts a payload into a slot and answers its offset. */
function put(slab: UdpSlab, slot: number, text: string): number {
  const offset = slab.payloadAt(slot);
  slab.bytes.set(new TextEncoder().encode(text), offset);
  return offset;
}

/** Loopback delivers at once, but the receiving may be told later. */
function wait(fd: number): void {
  using table = new ReadyTable();
  table.add(fd, EPOLL.IN, 1, 2);
  assertEquals(table.wait(5000), 1);
  assertEquals([table.kindAt(0), table.indexAt(0), table.eventsAt(0)], [1, 2, EPOLL.IN]);
}

for (const address of FAMILIES) {
  kernelTest(`udp sockets: a batch tells payload, sender and destination (${address})`, [], () => {
    const opened = listener(address);
    using fd = opened.fd;
    const port = portOf(opened);
    const slab = makeSlab();
    const batch = new UdpReceiveBatch(slab, 0);
    assertEquals(batch.receive(fd.number), -ERRNO.EAGAIN);
    const run = new UdpRun(slab);
    const flow = flowTo(address, port);
    for (let index = 0; index < 40; index++) {
      const offset = put(slab, UDP_BATCH, `datagram ${index}`);
      assert(run.sendOne(flow, offset, `datagram ${index}`.length) > 0);
    }
    wait(fd.number);
    const tuple = new Uint32Array(TUPLE_WORDS);
    const texts: string[] = [];
    for (const expected of [32, 8]) {
      assertEquals(batch.receive(fd.number), expected);
      for (let at = 0; at < expected; at++) {
        const clientPort = batch.readSender(at, tuple, 0);
        assertEquals(batch.readControl(at, tuple, 4), 0);
        writePorts(tuple, 0, clientPort, port);
        assertEquals(localOf(tuple, 0), { address, port });
        assertEquals(clientOf(tuple, 0).address, address);
        const offset = batch.payloadAt(at);
        const bytes = slab.bytes.subarray(offset, offset + batch.lengthAt(at));
        texts.push(new TextDecoder().decode(bytes));
      }
    }
    assertEquals(texts, Array.from({ length: 40 }, (_, index) => `datagram ${index}`));
    // And back, from the address that was asked.
    const send = new UdpSendBatch(slab);
    const offset = put(slab, 3, "reply");
    const isV6 = address === "::1";
    send.add(isV6, tuple, 0, tuple[8] >>> 16, offset, 5, tuple, 4);
    assertEquals(send.flush(fd.number, () => assert(false, "refused")), 1);
    wait(flow);
    assertEquals(receiveUdp(flow, slab, 5), 5);
    closeUdpSocket(flow);
  });

  kernelTest(
    `udp sockets: a run goes as one and arrives as one, or as its parts (${address})`,
    [],
    () => {
      for (const takesRuns of [true, false]) {
        const opened = listener(address, { takesRuns });
        using fd = opened.fd;
        const slab = makeSlab(65_535);
        const batch = new UdpReceiveBatch(slab, 0);
        const run = new UdpRun(slab);
        const flow = flowTo(address, portOf(opened));
        const parts = ["aaaa", "bbbb", "cccc", "dd"];
        for (const [index, text] of parts.entries()) {
          assert(run.add(put(slab, UDP_BATCH + index, text), text.length));
        }
        assertEquals(run.add(put(slab, 60, "ee"), 2), false, "a shorter one ends the run");
        assertEquals(run.flush(flow, () => assert(false, "refused")), 4);
        assertEquals(run.count, 0);
        wait(fd.number);
        const count = batch.receive(fd.number);
        const control = new Uint32Array(4);
        assertEquals([count, opened.takesRuns], takesRuns ? [1, true] : [4, false]);
        assertEquals(batch.readControl(0, control, 0), takesRuns ? 4 : 0);
        assertEquals(batch.lengthAt(0), takesRuns ? 14 : 4);
        closeUdpSocket(flow);
      }
    },
  );

  kernelTest(
    `udp sockets: an error of an earlier datagram costs no later one (${address})`,
    [],
    () => {
      const gone = listener(address);
      const port = portOf(gone);
      gone.fd.close();
      const slab = makeSlab();
      const run = new UdpRun(slab);
      const flow = flowTo(address, port);
      const offset = put(slab, 0, "x");
      assertEquals([run.sendOne(flow, offset, 1), run.pastError], [1, 0]);
      assertEquals([run.sendOne(flow, offset, 1), run.pastError], [1, ERRNO.ECONNREFUSED]);
      assertEquals([takeSocketError(flow), takeSocketError(flow)], [ERRNO.ECONNREFUSED, 0]);
      // So with a run, whole.
      run.sendOne(flow, offset, 1);
      run.add(offset, 1);
      run.add(offset, 1);
      assertEquals(run.flush(flow, () => assert(false, "refused")), 2);
      assertEquals(run.pastError, ERRNO.ECONNREFUSED);
      assertEquals(receiveUdp(flow, slab, 1), -ERRNO.ECONNREFUSED);
      closeUdpSocket(flow);
    },
  );

  kernelTest(
    `udp sockets: one socket sends from any address, and hears of errors (${address})`,
    [],
    () => {
      const wildcard = address === "::1" ? "::" : "0.0.0.0";
      const source = openUdpSourceSocket({
        address: encodeSockaddr(inetSocketAddress(wildcard, 0)),
      });
      using fd = source.fd;
      const opened = listener(address);
      using server = opened.fd;
      const slab = makeSlab();
      const send = new UdpSendBatch(slab);
      const own = address === "::1" ? "::1" : "127.64.3.9";
      const tuple = makeTuple({ address, port: 0 }, { address: own, port: 0 });
      const isV6 = address === "::1";
      send.add(isV6, tuple, 0, portOf(opened), put(slab, 40, "from there"), 10, tuple, 4);
      assertEquals(send.flush(fd.number, () => assert(false, "refused")), 1);
      wait(server.number);
      const batch = new UdpReceiveBatch(slab, 0);
      assertEquals(batch.receive(server.number), 1);
      const sender = new Uint32Array(TUPLE_WORDS);
      const port = batch.readSender(0, sender, 0);
      writePorts(sender, 0, port, 0);
      assertEquals(clientOf(sender, 0), { address: own, port: portOf(source) });
      // Nobody there: the error queue says who.
      const gone = listener(address);
      const gonePort = portOf(gone);
      gone.fd.close();
      send.add(isV6, tuple, 0, gonePort, slab.payloadAt(40), 10, tuple, 4);
      send.flush(fd.number, () => {});
      const queue = new UdpErrorQueue(slab);
      const told: [number, number][] = [];
      const name = new Uint32Array(4);
      queue.drain(fd.number, (errno, words, at) => {
        told.push([errno, readName(words, at, name, 0)]);
      });
      assertEquals(told, [[ERRNO.ECONNREFUSED, gonePort]]);
      assertEquals(queue.drain(fd.number, () => {}), 0);
    },
  );
}

kernelTest("udp sockets: a datagram that is cut tells its true length", [], () => {
  const opened = listener("127.0.0.1");
  using fd = opened.fd;
  const small = makeSlab(100);
  const large = makeSlab(4096);
  const flow = flowTo("127.0.0.1", portOf(opened));
  new UdpRun(large).sendOne(flow, large.payloadAt(0), 3000);
  wait(fd.number);
  const batch = new UdpReceiveBatch(small, 0);
  assertEquals([batch.receive(fd.number), batch.lengthAt(0)], [1, 3000]);
  closeUdpSocket(flow);
});

kernelTest("udp sockets: what the kernel dropped at a full socket is told", [], () => {
  const opened = listener("127.0.0.1", { size: 4096 });
  using fd = opened.fd;
  const slab = makeSlab();
  const batch = new UdpReceiveBatch(slab, 0);
  const run = new UdpRun(slab);
  const flow = flowTo("127.0.0.1", portOf(opened));
  const sent = 500;
  for (let index = 0; index < sent; index++) run.sendOne(flow, slab.payloadAt(40), 64);
  let received = 0;
  const control = new Uint32Array(4);
  for (let count = batch.receive(fd.number); count > 0; count = batch.receive(fd.number)) {
    received += count;
  }
  assertEquals(socketDrops(fd.number), sent - received);
  // The next one that comes brings the count along.
  run.sendOne(flow, slab.payloadAt(40), 64);
  wait(fd.number);
  assertEquals(batch.receive(fd.number), 1);
  batch.readControl(0, control, 0);
  assert(received < sent, "nothing was dropped");
  assertEquals(batch.droppedTotal, sent - received);
  closeUdpSocket(flow);
});

kernelTest("udp sockets: a message that is refused does not stop those after it", [], () => {
  const opened = listener("127.0.0.1");
  using fd = opened.fd;
  const flow = flowTo("127.0.0.1", portOf(opened));
  const slab = makeSlab(65_535);
  const send = new UdpSendBatch(slab);
  const to = makeTuple({ address: "127.0.0.1", port: 0 }, { address: "127.0.0.1", port: 0 });
  const port = portOf(opened);
  const offset = put(slab, 40, "ok");
  send.add(false, to, 0, port, offset, 2);
  send.add(false, to, 0, port, offset, 65_530); // longer than IPv4 has room for
  send.add(false, to, 0, port, offset, 2);
  const refused: [number, number][] = [];
  assertEquals(send.flush(fd.number, (at, errno) => refused.push([at, errno])), 2);
  assertEquals(refused, [[1, ERRNO.EMSGSIZE]]);
  assertEquals(new UdpReceiveBatch(slab, 0).receive(fd.number), 2);
  closeUdpSocket(flow);
});

kernelTest("udp sockets: a batch sends again what an earlier datagram's error stopped", [], () => {
  const source = openUdpSourceSocket({ address: encodeSockaddr(inetSocketAddress("0.0.0.0", 0)) });
  using fd = source.fd;
  const gone = listener("127.0.0.1");
  const gonePort = portOf(gone);
  gone.fd.close();
  const opened = listener("127.0.0.1");
  using server = opened.fd;
  const slab = makeSlab();
  const send = new UdpSendBatch(slab);
  const to = makeTuple({ address: "127.0.0.1", port: 0 }, { address: "127.64.1.1", port: 0 });
  const offset = put(slab, 40, "x");
  const flush = () => send.flush(fd.number, (_, errno) => assert(false, `errno ${errno}`));
  send.add(false, to, 0, gonePort, offset, 1, to, 4);
  assertEquals([flush(), send.retried], [1, 0]);
  // Its answer is there: without a second try the first of these would be lost.
  for (let index = 0; index < 3; index++) {
    send.add(false, to, 0, portOf(opened), offset, 1, to, 4);
  }
  assertEquals([flush(), send.retried], [3, 1]);
  assertEquals(new UdpReceiveBatch(slab, 0).receive(server.number), 3);
  // Whose it was is told: by the address that it was sent from.
  const own: string[] = [];
  new UdpErrorQueue(slab).drain(fd.number, (_errno, _words, _at, words) => {
    own.push(formatAddress(words, 0));
  });
  assertEquals(own, ["127.64.1.1"]);
});

Deno.test("udp sockets: an epoll event is packed on x86-64 and padded elsewhere", () => {
  assertEquals(epollEventLayout("x86_64"), { words: 3, dataWord: 1 });
  assertEquals(epollEventLayout("aarch64"), { words: 4, dataWord: 2 });
});

kernelTest("udp socket: an open listener is taken over with what is queued in it", [], () => {
  for (const address of FAMILIES) {
    const first = listener(address, { size: 1 << 16 });
    const port = portOf(first);
    const flow = flowTo(address, port);
    const slab = new UdpSlab(UDP_BATCH + 1, 64, UDP_RECEIVE_BYTES + UDP_RUN_BYTES);
    const run = new UdpRun(slab);
    for (let at = 0; at < 5; at++) assertEquals(run.sendOne(flow, slab.payloadAt(UDP_BATCH), 1), 1);
    const number = first.fd.release();
    const adopted = adoptUdpListener(number, {
      sharesPort: true,
      receiveBufferBytes: 1 << 18,
      mtuDiscovery: "probe",
    });
    assertEquals([portOf(adopted), adopted.fd.number], [port, number]);
    assertEquals(adopted.receiveBuffer.grantedBytes, 1 << 18);
    assertEquals(getOption(number, UDP_LEVEL.ip, UDP_OPTION.IP_MTU_DISCOVER), MTU_DISCOVERY.probe);
    assertEquals(new UdpReceiveBatch(slab, 0).receive(number), 5);
    // It was alone at its port; now others may join.
    const joined = openUdpListener({
      address: encodeSockaddr(inetSocketAddress(address, port)),
      sharesPort: true,
    });
    joined.fd.close();
    adopted.fd.close();
    assertEquals(adoptUdpFlowSocket(flow, { mtuDiscovery: "do" }), 0);
    assertEquals(getOption(flow, UDP_LEVEL.ip, UDP_OPTION.IP_MTU_DISCOVER), MTU_DISCOVERY.do);
    closeUdpSocket(flow);
    assertEquals(adoptUdpFlowSocket(flow), -ERRNO.EBADF);
  }
});

kernelTest("udp socket: what is no bound UDP socket is closed, and not taken over", [], () => {
  const { read, write } = createPipe();
  assertThrows(() => adoptUdpListener(read, {}), SyscallError, "ENOTSOCK");
  assertThrows(() => adoptUdpSourceSocket(write.release()), SyscallError, "ENOTSOCK");
  assertEquals(read.isClosed, true);
  using netlink = NetlinkConn.open("route");
  const copy = duplicateFd(netlink.fd);
  assertThrows(() => adoptUdpListener(copy, {}), TypeError, "it is no bound UDP socket");
  assertEquals(copy.isClosed, true);
});
