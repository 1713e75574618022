/**
 * The Unix datagram socket and its batches: safe binding, credentials, no descriptor left open.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  call,
  connectUnixDatagram,
  duplicateFd,
  ERRNO,
  type Fd,
  hasProcessEnded,
  ReceiveBatch,
  UNIX_QUEUE_LENGTH,
  UnixBindError,
  UnixDatagramSocket,
  withScratch,
} from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

function inFolder(use: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync();
  try {
    use(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Sends bytes, with copies of descriptors attached where some are given. */
function send(fd: Fd, bytes: Uint8Array, attached: readonly Fd[] = []): void {
  withScratch((arena) => {
    const header = arena.alloc(56);
    const iov = arena.alloc(16);
    const size = 16 + attached.length * 4;
    const control = arena.alloc(Math.ceil(size / 8) * 8);
    const { view } = arena;
    view.setBigUint64(iov, arena.copy(bytes), true);
    view.setBigUint64(iov + 8, BigInt(bytes.length), true);
    view.setBigUint64(header + 16, arena.address(iov), true);
    view.setBigUint64(header + 24, 1n, true);
    if (attached.length > 0) {
      view.setBigUint64(header + 32, arena.address(control), true);
      view.setBigUint64(header + 40, BigInt(size), true);
      view.setBigUint64(control, BigInt(size), true);
      view.setInt32(control + 8, SOL_SOCKET, true);
      view.setInt32(control + 12, SCM_RIGHTS, true);
      attached.forEach((one, at) => view.setInt32(control + 16 + 4 * at, one.number, true));
    }
    call("sendmsg", fd.number, arena.address(header), 0);
  });
}

function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

function errorOf(run: () => void): UnixBindError {
  return assertThrows(run, UnixBindError);
}

kernelTest(
  "unix socket: it has its mode and owner from the first moment, and leaves nothing behind",
  ["root"],
  () => {
    inFolder((folder) => {
      const path = `${folder}/a.sock`;
      const socket = UnixDatagramSocket.bind({ path, mode: 0o620, owner: { uid: 7, gid: 8 } });
      const info = Deno.lstatSync(path);
      assertEquals([info.mode! & 0o7777, info.uid, info.gid], [0o620, 7, 8]);
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["a.sock"]);
      assert(socket.hasPidfds && socket.isParentSynced);
      assert(socket.receiveBufferBytes >= 1024 * 1024);
      assertEquals(socket.queueLength, UNIX_QUEUE_LENGTH);
      const setting = Number(Deno.readTextFileSync("/proc/sys/net/unix/max_dgram_qlen"));
      assertNotEquals(setting, UNIX_QUEUE_LENGTH, "the host's setting is as before");
      socket.close();
      assertEquals([...Deno.readDirSync(folder)], []);
    });
  },
);

kernelTest("unix socket: what stands at the path is replaced only where nobody answers on it", [
  "root",
], () => {
  inFolder((folder) => {
    const path = `${folder}/a.sock`;
    Deno.writeTextFileSync(path, "a file");
    assertEquals(errorOf(() => UnixDatagramSocket.bind({ path })).reason, "notSocket");
    assertEquals(Deno.readTextFileSync(path), "a file");
    Deno.removeSync(path);
    const first = UnixDatagramSocket.bind({ path });
    assertEquals(errorOf(() => UnixDatagramSocket.bind({ path })).reason, "inUse");
    // Closed without its path, as by a kill.
    first.fd.close();
    const second = UnixDatagramSocket.bind({ path });
    assert(Deno.lstatSync(path).isSocket);
    // A path that is another's by now is left alone.
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, "another's");
    second.close();
    assertEquals(Deno.readTextFileSync(path), "another's");
  });
});

kernelTest("unix socket: an unsafe parent is refused: others may write, a link, not there", [
  "root",
], () => {
  inFolder((folder) => {
    const bind = (path: string) => errorOf(() => UnixDatagramSocket.bind({ path }));
    Deno.mkdirSync(`${folder}/open`);
    Deno.chmodSync(`${folder}/open`, 0o777);
    assertEquals(bind(`${folder}/open/a`).reason, "parent");
    Deno.symlinkSync(folder, `${folder}/link`);
    assertEquals(bind(`${folder}/link/a`).reason, "parent");
    assertEquals(bind(`${folder}/nowhere/a`).reason, "parent");
    assertEquals(bind("relative").reason, "parent");
    Deno.mkdirSync(`${folder}/other`);
    Deno.chownSync(`${folder}/other`, 1234, 1234);
    assertEquals(bind(`${folder}/other/a`).reason, "parent");
    Deno.chmodSync(`${folder}/open`, 0o1777);
    UnixDatagramSocket.bind({ path: `${folder}/open/a` }).close();
    assertThrows(() => UnixDatagramSocket.bind({ path: `/${"x".repeat(108)}` }), RangeError);
  });
});

kernelTest("receive batch: each datagram has its bytes and its sender, and nothing stays open", [
  "root",
], () => {
  inFolder((folder) => {
    using socket = UnixDatagramSocket.bind({ path: `${folder}/a.sock` });
    using client = connectUnixDatagram(socket.path);
    const batch = new ReceiveBatch({ slots: 8, payloadBytes: 33 });
    assertEquals(batch.receive(socket.fd), -ERRNO.EAGAIN!);
    const before = openDescriptors();
    for (let round = 0; round < 50; round++) {
      for (let index = 0; index < 10; index++) send(client, new Uint8Array(index + 28).fill(index));
      for (const want of [8, 2]) {
        const count = batch.receive(socket.fd);
        assertEquals(count, want);
        for (let at = 0; at < count; at++) {
          const index = want === 8 ? at : at + 8;
          const length = Math.min(33, index + 28);
          assertEquals(batch.lengthAt(at), length);
          assertEquals(batch.isTruncatedAt(at), index + 28 > 33);
          const payload = batch.payloadAt(at);
          assertEquals(
            batch.bytes.subarray(payload, payload + length),
            new Uint8Array(length).fill(index),
          );
          assertEquals([batch.pids[at], batch.uids[at], batch.gids[at]], [Deno.pid, 0, 0]);
          assert(!hasProcessEnded(batch.pidfdAt(at)));
        }
      }
      batch.closeDescriptors();
    }
    assertEquals(openDescriptors(), before);
  });
});

kernelTest("receive batch: attached descriptors are closed, more than fit are told as cut", [
  "root",
], () => {
  inFolder((folder) => {
    using socket = UnixDatagramSocket.bind({ path: `${folder}/a.sock` });
    using client = connectUnixDatagram(socket.path);
    const batch = new ReceiveBatch({ slots: 4, payloadBytes: 33 });
    using stack = new DisposableStack();
    const attached = Array.from({ length: 100 }, () => stack.use(duplicateFd(client)));
    const before = openDescriptors();
    send(client, new Uint8Array(32), attached.slice(0, 3));
    send(client, new Uint8Array(32), attached);
    send(client, new Uint8Array(32));
    assertEquals(batch.receive(socket.fd), 3);
    const cut = [0, 1, 2].map((at) => batch.isControlTruncatedAt(at));
    assertEquals(cut, [false, true, false]);
    assertEquals(batch.pids[2], Deno.pid);
    assert(batch.rightsClosed >= 3);
    batch.closeDescriptors();
    assertEquals(openDescriptors(), before);
  });
});

kernelTest("receive batch: a pidfd that was taken stays open, the others do not", ["root"], () => {
  inFolder((folder) => {
    using socket = UnixDatagramSocket.bind({ path: `${folder}/a.sock` });
    using client = connectUnixDatagram(socket.path);
    const batch = new ReceiveBatch({ slots: 4, payloadBytes: 33 });
    for (let index = 0; index < 3; index++) send(client, new Uint8Array(32));
    const before = openDescriptors();
    assertEquals(batch.receive(socket.fd), 3);
    using taken = batch.takePidfd(1)!;
    assertEquals(batch.takePidfd(1), undefined);
    batch.closeDescriptors();
    assertEquals(openDescriptors(), before + 1);
    assert(!hasProcessEnded(taken));
  });
});
