/**
 * Messages with descriptors: they come whole and in order, and no descriptor stays open on any path.
 *
 * They look at the descriptors of the whole process: so they run alone.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertInstanceOf, assertThrows } from "@std/assert";
import {
  Arena,
  call,
  createMemoryFile,
  createPipe,
  DescriptorListener,
  DescriptorMessageError,
  DESCRIPTORS_MAX,
  DescriptorSocket,
  type Fd,
  MESSAGE_BYTES_MAX,
  readFd,
  readFdAt,
  SyscallError,
  UnixBindError,
  UnixDatagramSocket,
  withScratch,
  writeFd,
  writeFdAt,
} from "#ffi/mod.ts";
import { runProcess } from "#tests/support/subprocess.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const F_GETFD = 1;
const FD_CLOEXEC = 1;
const RLIMIT_NOFILE = 7;
const DOOR = new URL("../../../ffi/mod.ts", import.meta.url).href;
const BYTE = new Uint8Array([7]);

function openNumbers(): number[] {
  return [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => Number(name));
}

/** Runs with a connection, and asserts that no descriptor was left open by it. */
function withPair(use: (one: DescriptorSocket, other: DescriptorSocket) => void): void {
  const before = openNumbers().length;
  const [one, other] = DescriptorSocket.pair();
  try {
    use(one, other);
  } finally {
    one.close();
    other.close();
  }
  assertEquals(openNumbers().length, before);
}

function inFolder(use: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync();
  try {
    use(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Files that say their place: the first byte of number `at` is `at`. */
function numbered(count: number, stack: DisposableStack): Fd[] {
  return Array.from({ length: count }, (_, at) => {
    const file = stack.use(createMemoryFile(`n${at}`));
    writeFdAt(file, new Uint8Array([at]), 0);
    return file;
  });
}

/** What the files say; they are closed. */
function placesOf(fds: readonly Fd[]): number[] {
  return fds.map((fd) => {
    const byte = new Uint8Array(1);
    assertEquals(readFdAt(fd, byte, 0), 1);
    assertEquals(call("fcntl", fd.number, F_GETFD), FD_CLOEXEC);
    fd.close();
    return byte[0]!;
  });
}

function messageOf(socket: DescriptorSocket): { payload: Uint8Array; fds: Fd[] } {
  const received = socket.receive();
  assert(typeof received === "object", `there is a message, not ${JSON.stringify(received)}`);
  return received;
}

/** Sends what `DescriptorSocket.send` would not. */
function sendRaw(socket: DescriptorSocket, payloadBytes: number, fds: readonly number[]): void {
  const arena = new Arena(payloadBytes + 8192);
  const [header, iovec, control] = [arena.alloc(56), arena.alloc(16), arena.alloc(2048)];
  const { view } = arena;
  view.setBigUint64(iovec, arena.address(arena.alloc(payloadBytes)), true);
  view.setBigUint64(iovec + 8, BigInt(payloadBytes), true);
  view.setBigUint64(header + 16, arena.address(iovec), true);
  view.setBigUint64(header + 24, 1n, true);
  view.setBigUint64(header + 32, arena.address(control), true);
  view.setBigUint64(header + 40, BigInt(16 + 4 * fds.length), true);
  view.setBigUint64(control, BigInt(16 + 4 * fds.length), true);
  view.setInt32(control + 8, 1, true);
  view.setInt32(control + 12, 1, true);
  fds.forEach((number, at) => view.setInt32(control + 16 + 4 * at, number, true));
  call("sendmsg", socket.fd.number, arena.address(header), 0);
}

/** Sets this process's limit of open descriptors; answers what it was. */
function setDescriptorLimit(soft: bigint): bigint {
  return withScratch((arena) => {
    const [now, before] = [arena.alloc(16), arena.alloc(16)];
    call("prlimit64", 0, RLIMIT_NOFILE, 0, arena.address(before));
    arena.view.setBigUint64(now, soft, true);
    arena.view.setBigUint64(now + 8, arena.view.getBigUint64(before + 8, true), true);
    call("prlimit64", 0, RLIMIT_NOFILE, arena.address(now), 0);
    return arena.view.getBigUint64(before, true);
  });
}

kernelTest(
  "descriptor socket: messages with none, one and the most descriptors come whole, in order",
  [],
  () => {
    using stack = new DisposableStack();
    const files = numbered(DESCRIPTORS_MAX, stack);
    withPair((one, other) => {
      const counts = [0, 1, DESCRIPTORS_MAX, 2];
      for (const [at, count] of counts.entries()) {
        const payload = new Uint8Array(at === 2 ? MESSAGE_BYTES_MAX : at + 1).fill(at);
        assert(one.send(payload, files.slice(0, count).map((file) => file.number)));
      }
      for (const [at, count] of counts.entries()) {
        const { payload, fds } = messageOf(other);
        assertEquals(payload, new Uint8Array(at === 2 ? MESSAGE_BYTES_MAX : at + 1).fill(at));
        assertEquals(placesOf(fds), Array.from({ length: count }, (_, place) => place));
      }
      assertEquals(other.receive(), "empty");
      assert(other.send(BYTE));
      assertEquals(messageOf(one).payload, BYTE, "the other way too");
    });
  },
);

kernelTest(
  "descriptor socket: what comes is the same open file: its offset, and what is queued in it",
  [],
  () => {
    withPair((one, other) => {
      using file = createMemoryFile("offset");
      const [near, far] = DescriptorSocket.pair();
      near.send(new Uint8Array([1, 2, 3]));
      one.send(BYTE, [file.number, far.fd.number]);
      far.close();
      near.send(new Uint8Array([4]));
      const [copy, end] = messageOf(other).fds as [Fd, Fd];
      writeFd(copy, new TextEncoder().encode("abc"));
      assertEquals(readFd(file, new Uint8Array(9)), 0, "the offset moved for both");
      using moved = new DescriptorSocket(end);
      assertEquals([...messageOf(moved).payload], [1, 2, 3]);
      assertEquals([...messageOf(moved).payload], [4]);
      copy.close();
      near.close();
    });
  },
);

kernelTest(
  "descriptor socket: too many descriptors, too many bytes or none are refused unsent",
  [],
  () => {
    withPair((one, other) => {
      const reasonOf = (payload: Uint8Array, fds: number[] = []) =>
        assertThrows(() => one.send(payload, fds), DescriptorMessageError).reason;
      // Numbers that nobody has: the kernel is not asked.
      assertEquals(reasonOf(BYTE, new Array(DESCRIPTORS_MAX + 1).fill(1 << 30)), "descriptors");
      assertEquals(reasonOf(new Uint8Array(MESSAGE_BYTES_MAX + 1)), "payload");
      assertEquals(reasonOf(new Uint8Array(0)), "payload");
      const bad = assertThrows(() => one.send(BYTE, [1 << 30]), SyscallError);
      assertEquals(bad.code, "EBADF");
      assertEquals(other.receive(), "empty");
    });
  },
);

kernelTest(
  "descriptor socket: thousands of descriptors go through, as fast as the other end takes them",
  [],
  () => {
    using stack = new DisposableStack();
    const files = numbered(20, stack);
    const numbers = files.map((file) => file.number);
    const places = numbers.map((_, at) => at);
    const total = 200;
    withPair((one, other) => {
      let [sent, received, refusals] = [0, 0, 0];
      const take = () => {
        const { payload, fds } = messageOf(other);
        assertEquals(new DataView(payload.buffer).getUint32(0), received);
        assertEquals(placesOf(fds), places);
        received += 1;
      };
      while (sent < total) {
        const payload = new Uint8Array(4096);
        new DataView(payload.buffer).setUint32(0, sent);
        if (one.send(payload, numbers)) sent += 1;
        else {
          refusals += 1;
          take();
        }
      }
      while (received < total) take();
      assertGreater(refusals, 0, "there was no room at times");
      assertEquals(other.receive(), "empty");
    });
  },
);

kernelTest(
  "descriptor socket: a closed peer is told after its messages, even if it left some unread",
  [],
  () => {
    for (const hasUnread of [false, true]) {
      withPair((one, other) => {
        for (let at = 1; at <= 3; at++) one.send(new Uint8Array([at]));
        if (hasUnread) other.send(BYTE);
        assertEquals([...messageOf(other).payload], [1]);
        one.close();
        assertEquals([...messageOf(other).payload], [2]);
        assertEquals([...messageOf(other).payload], [3]);
        assertEquals(other.receive(), "closed");
        assertEquals(other.receive(), "closed");
      });
    }
  },
);

kernelTest(
  "descriptor socket: sending to a closed peer is an error and no signal",
  [],
  async () => {
    for (const hasUnread of [false, true]) {
      withPair((one, other) => {
        if (hasUnread) other.send(BYTE);
        one.close();
        assertEquals(assertThrows(() => other.send(BYTE), SyscallError).code, "EPIPE");
      });
    }
    // A process that dies of SIGPIPE: the last line shows that it does.
    const { signal, stdout } = await runProcess([
      Deno.execPath(),
      "eval",
      "--quiet",
      `import { call, createPipe, DescriptorSocket, syscall, NR, withScratch } from "${DOOR}";
    withScratch((arena) => call("rt_sigaction", 13, arena.address(arena.alloc(32)), 0, 8));
    const [one, other] = DescriptorSocket.pair();
    one.close();
    try { other.send(new Uint8Array(1)); } catch (error) { console.log(error.code); }
    const { read, write } = createPipe();
    read.close();
    withScratch((arena) => syscall(NR.write, write.number, arena.address(arena.alloc(1)), 1));
    console.log("lives");`,
    ]);
    assertEquals([stdout, signal], ["EPIPE\n", "SIGPIPE"]);
  },
);

kernelTest(
  "descriptor socket: a message longer than there is room for is an error, its descriptors are closed",
  [],
  () => {
    withPair((one, other) => {
      const before = openNumbers().length;
      sendRaw(one, MESSAGE_BYTES_MAX + 1, [0, 0, 0]);
      one.send(BYTE, [0]);
      const error = assertThrows(() => other.receive(), DescriptorMessageError, "payload was cut");
      assertEquals(error.reason, "truncated");
      assertEquals(openNumbers().length, before);
      const { payload, fds } = messageOf(other);
      assertEquals([payload, fds.length], [BYTE, 1], "the next one is whole");
      for (const fd of fds) fd.close();
      sendRaw(one, 0, [0, 0]);
      assertEquals(other.receive(), "closed", "a message of nothing is as good as the end");
      assertEquals(openNumbers().length, before);
    });
  },
);

kernelTest(
  "descriptor socket: where this process may open no more, those that came are closed",
  [],
  () => {
    withPair((one, other) => {
      const numbers = openNumbers();
      assert(one.send(BYTE, new Array(DESCRIPTORS_MAX).fill(0)));
      assert(one.send(BYTE, [0]));
      // Two more and what is free below: not nearly as many as come.
      const before = setDescriptorLimit(BigInt(Math.max(...numbers) + 3));
      let error: unknown;
      try {
        other.receive();
      } catch (thrown) {
        error = thrown;
      } finally {
        setDescriptorLimit(before);
      }
      assertInstanceOf(error, DescriptorMessageError);
      assertEquals([error.reason, error.message], [
        "truncated",
        "Cannot receive a message: its list of descriptors was cut",
      ]);
      assertEquals(openNumbers().length, numbers.length);
      const { fds } = messageOf(other);
      assertEquals(fds.length, 1);
      fds[0]!.close();
    });
  },
);

kernelTest(
  "descriptor socket: what nobody received is released when both ends are closed",
  [],
  () => {
    withPair((one, other) => {
      const pipe = createPipe({ nonblocking: true });
      for (let at = 0; at < 10; at++) assert(one.send(BYTE, new Array(50).fill(pipe.write.number)));
      pipe.write.close();
      one.close();
      assertEquals(readFd(pipe.read, new Uint8Array(1)), undefined, "writers are on their way");
      for (const fd of messageOf(other).fds) fd.close();
      assertEquals(readFd(pipe.read, new Uint8Array(1)), undefined);
      other.close();
      assertEquals(readFd(pipe.read, new Uint8Array(1)), 0, "no writer is left");
      pipe.read.close();
    });
  },
);

kernelTest(
  "descriptor socket: both ends know whose process is the other, and can give to each other",
  [],
  async () => {
    const folder = Deno.makeTempDirSync();
    const path = `${folder}/a.sock`;
    const listener = DescriptorListener.bind({ path });
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        "--quiet",
        `import { createMemoryFile, DescriptorSocket, writeFd } from "${DOOR}";
      const socket = DescriptorSocket.connect(${JSON.stringify(path)});
      const file = createMemoryFile("given");
      writeFd(file, new TextEncoder().encode("from another process"));
      socket.send(new TextEncoder().encode(JSON.stringify(socket.peer)), [file.number]);`,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    try {
      assertEquals((await child.status).code, 0);
      using socket = listener.accept();
      assert(socket !== undefined);
      const [uid, gid] = [Deno.uid()!, Deno.gid()!];
      assertEquals(socket.peer, { pid: child.pid, uid, gid });
      const { payload, fds } = messageOf(socket);
      assertEquals(JSON.parse(new TextDecoder().decode(payload)), { pid: Deno.pid, uid, gid });
      const text = new Uint8Array(64);
      const length = readFdAt(fds[0]!, text, 0);
      assertEquals(new TextDecoder().decode(text.subarray(0, length)), "from another process");
      fds[0]!.close();
      assertEquals([socket.receive(), listener.accept()], ["closed", undefined]);
    } finally {
      listener.close();
      Deno.removeSync(folder, { recursive: true });
    }
  },
);

kernelTest(
  "descriptor listener: it has its mode, its connections are non-blocking, closing removes it",
  [],
  () => {
    inFolder((folder) => {
      const before = openNumbers().length;
      const path = `${folder}/a.sock`;
      const listener = DescriptorListener.bind({ path });
      assertEquals(Deno.lstatSync(path).mode! & 0o7777, 0o600);
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["a.sock"]);
      assertEquals(listener.accept(), undefined);
      {
        using client = DescriptorSocket.connect(path);
        using server = listener.accept()!;
        assertEquals([client.receive(), server.receive()], ["empty", "empty"]);
        for (const { fd } of [client, server, listener]) {
          assertEquals(call("fcntl", fd.number, F_GETFD), FD_CLOEXEC);
        }
      }
      listener.close();
      assertEquals([...Deno.readDirSync(folder)], []);
      const gone = assertThrows(() => DescriptorSocket.connect(path), SyscallError);
      assertEquals([gone.code, openNumbers().length], ["ENOENT", before]);
      using open = DescriptorListener.bind({ path, mode: 0o622 });
      assertEquals(Deno.lstatSync(open.path).mode! & 0o7777, 0o622);
    });
  },
);

kernelTest(
  "descriptor listener: a dead one's socket is replaced, a live one's is left alone",
  [],
  () => {
    inFolder((folder) => {
      const before = openNumbers().length;
      const path = `${folder}/a.sock`;
      const reasonOf = (bind: () => unknown) => assertThrows(bind, UnixBindError).reason;
      const first = DescriptorListener.bind({ path });
      assertEquals(reasonOf(() => DescriptorListener.bind({ path })), "inUse");
      assertEquals(reasonOf(() => UnixDatagramSocket.bind({ path })), "inUse");
      assertEquals(first.accept(), undefined, "nobody connected to see whether it lives");
      // Closed without its path, as by a kill.
      first.fd.close();
      assertEquals(
        assertThrows(() => DescriptorSocket.connect(path), SyscallError).code,
        "ECONNREFUSED",
      );
      const second = DescriptorListener.bind({ path });
      DescriptorSocket.connect(path).close();
      // A path that is another's by now is left alone.
      Deno.removeSync(path);
      const third = DescriptorListener.bind({ path });
      second.close();
      DescriptorSocket.connect(path).close();
      third.close();
      const datagrams = UnixDatagramSocket.bind({ path });
      assertEquals(reasonOf(() => DescriptorListener.bind({ path })), "inUse");
      datagrams.close();
      Deno.writeTextFileSync(path, "a file");
      assertEquals(reasonOf(() => DescriptorListener.bind({ path })), "notSocket");
      assertEquals(reasonOf(() => DescriptorListener.bind({ path: "relative" })), "parent");
      assertThrows(() => DescriptorListener.bind({ path: `/${"x".repeat(108)}` }), RangeError);
      assertEquals(Deno.readTextFileSync(path), "a file");
      assertEquals(openNumbers().length, before);
    });
  },
);
