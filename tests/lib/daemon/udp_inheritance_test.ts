/**
 * What a load balancer takes over by name from the server before, and what it closes.
 *
 * They look at the descriptors of the whole process: so they run alone.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { duplicateFd, EventFd, Fd, SyscallError } from "#ffi/mod.ts";
import type { ReleasedBackend, ReleasedUdp } from "#lib/daemon/inheritance.ts";
import { UdpInheritance } from "#lib/daemon/udp_inheritance.ts";
import type { InheritedFlow } from "#lib/udp/mod.ts";
import { inheritedFlow } from "#tests/support/inherited_flow.ts";
import { kernelTest } from "#tests/support/kernel.ts";

/** Descriptors that are really open, by what they stand for. */
class Descriptors implements Disposable {
  readonly #event = EventFd.create();
  readonly #numbers = new Map<string, number>();

  /** Opens one. */
  open(name: string): number {
    const number = duplicateFd(this.#event.number).release();
    this.#numbers.set(name, number);
    return number;
  }

  /** Which of them are closed by now; a number is not used again meanwhile. */
  get closed(): string[] {
    return [...this.#numbers].filter(([, number]) => !isOpen(number)).map(([name]) => name);
  }

  /** Closes those that were taken. */
  [Symbol.dispose](): void {
    for (const number of this.#numbers.values()) if (isOpen(number)) new Fd(number).close();
    this.#event.close();
  }
}

function isOpen(number: number): boolean {
  try {
    duplicateFd(number).close();
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.code === "EBADF") return false;
    throw error;
  }
}

function flow(listener: number, backend: number, fd?: number): InheritedFlow {
  return inheritedFlow({ listener, backend, ...(fd === undefined ? {} : { fd }) });
}

/** Two workers, two listeners, two backends. */
function released(descriptors: Descriptors): ReleasedUdp {
  const worker = (at: number) => ({
    listeners: [
      { listener: 5, fd: descriptors.open(`dns${at}`), dropped: at },
      { listener: 6, fd: descriptors.open(`log${at}`), dropped: 0 },
    ],
    sources: [
      { prefix: "127.7.0.0/16", isTransparent: false, fd: descriptors.open(`s${at}`), dropped: 0 },
      { prefix: "fd00:7::/64", isTransparent: false, fd: descriptors.open(`t${at}`), dropped: 0 },
    ],
    flows: [
      flow(5, 8, descriptors.open(`dns${at}/a`)),
      flow(5, 9, descriptors.open(`dns${at}/b`)),
      flow(6, 8, descriptors.open(`log${at}/a`)),
      flow(5, 8),
    ],
    discarded: 3,
  });
  return {
    hashKey: { low: 1, high: 2 },
    listeners: [
      { name: "dns", number: 5, address: "127.0.0.1", port: 5353, drainMs: 7 },
      { name: "log", number: 6, address: "::1", port: 514 },
    ],
    backends: [
      { key: "dns/a", number: 8, endpoint: "10.0.0.1:53", isUp: false, isDraining: false },
      { key: "dns/b", number: 9, endpoint: "10.0.0.2:53", isDraining: true },
    ],
    workers: [worker(0), worker(1)],
  };
}

const onlyA = ({ key }: ReleasedBackend) => key === "dns/a" ? 70 : undefined;

kernelTest(
  "inheritance: a listener's sockets and flows go over, under numbers of today",
  [],
  () => {
    using descriptors = new Descriptors();
    const inheritance = new UdpInheritance(released(descriptors));
    assertEquals(inheritance.fileCount, 14);
    const taken = inheritance.takeListener("dns", { address: "127.0.0.1", port: 5353 }, 1, onlyA);
    assertEquals([taken?.port, taken?.drainMs, taken?.sockets.length], [5353, 7, 2]);
    assertEquals(taken?.flowCount, 4);
    for (const [at, socket] of taken!.sockets.entries()) {
      assertEquals(socket?.dropped, at);
      assertEquals(socket?.flows.map(({ listener, backend }) => [listener, backend]), [
        [1, 70],
        [1, 70],
      ]);
    }
    // The flow to the backend that is none here does not go on.
    assertEquals(descriptors.closed, ["dns0/b", "dns1/b"]);
    // It is taken once.
    const place = { address: "127.0.0.1", port: 5353 };
    assertEquals(inheritance.takeListener("dns", place, 2, onlyA), undefined);
    assertEquals(inheritance.close(), { listeners: 1, flows: 4, discarded: 6 });
    assertEquals(
      descriptors.closed.toSorted(),
      ["dns0/b", "dns1/b", "log0", "log0/a", "log1", "log1/a", "s0", "s1", "t0", "t1"],
    );
    assertEquals(inheritance.close(), { listeners: 0, flows: 0, discarded: 0 });
  },
);

kernelTest("inheritance: a listener at another place is another one", [], () => {
  using descriptors = new Descriptors();
  const inheritance = new UdpInheritance(released(descriptors));
  const take = (name: string, address: string, port: number) =>
    inheritance.takeListener(name, { address, port }, 0, onlyA)?.port;
  assertEquals(take("dns", "127.0.0.2", 5353), undefined);
  assertEquals(take("dns", "127.0.0.1", 53), undefined);
  assertEquals(take("web", "127.0.0.1", 5353), undefined);
  assertEquals(descriptors.closed, []);
  // Any port is the one that it has.
  assertEquals(take("dns", "127.0.0.1", 0), 5353);
  assertEquals(take("log", "::1", 514), 514);
  inheritance.close();
});

kernelTest("inheritance: backends are known by name and place", [], () => {
  using descriptors = new Descriptors();
  const inheritance = new UdpInheritance(released(descriptors));
  assertEquals(inheritance.backend("dns/a", "10.0.0.1:53")?.isUp, false);
  assertEquals(inheritance.backend("dns/b", "10.0.0.2:53")?.isDraining, true);
  assertEquals(inheritance.backend("dns/a", "10.0.0.1:54"), undefined);
  assertEquals(inheritance.backend("web/a", "10.0.0.1:53"), undefined);
  inheritance.close();
});

kernelTest(
  "inheritance: sockets of source addresses go to who asks for the prefix, once",
  [],
  () => {
    using descriptors = new Descriptors();
    const inheritance = new UdpInheritance(released(descriptors));
    const prefixes = (all: ReturnType<UdpInheritance["takeSources"]>) =>
      all.map((worker) => worker.map(({ prefix }) => prefix));
    assertEquals(prefixes(inheritance.takeSources([undefined, undefined])), [[], []]);
    const wanted = ["127.7.0.0/16", undefined];
    assertEquals(prefixes(inheritance.takeSources(wanted)), [["127.7.0.0/16"], ["127.7.0.0/16"]]);
    assertEquals(prefixes(inheritance.takeSources(wanted)), [[], []]);
    inheritance.close();
    assertEquals(descriptors.closed.filter((name) => /^[st]/.test(name)), ["t0", "t1"]);
  },
);
