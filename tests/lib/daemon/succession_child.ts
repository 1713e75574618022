/**
 * A server in charge, as far as a successor sees it: it holds the lock, hears SIGUSR2 (or does
 * not), and does what its mode says. Run as a process of its own by `succession_test.ts`.
 *
 *   succession_child.ts <state directory> <mode>
 *
 * @module
 */
import { DescriptorSocket, EventFd, OPEN, openFile, tryLock } from "#ffi/mod.ts";
import { Successor, SUCCESSOR_SOCKET } from "#lib/daemon/successor.ts";
import { inheritedFlow } from "#tests/support/inherited_flow.ts";

const say = (text: string) => console.log(text);
const bytes = (text: string) => new TextEncoder().encode(text);

/** Gives so many flows, with a descriptor each, and says how that went. */
async function give(
  stateDir: string,
  flowCount: number,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  using successor = Successor.meet(stateDir, say);
  using event = EventFd.create();
  const listeners = [{ listener: 3, fd: event.number, dropped: 0 }];
  const events = Array.from({ length: flowCount }, () => EventFd.create());
  const flows = events.map(({ number }) => inheritedFlow({ listener: 3, fd: number }));
  const failure = await successor!.give({
    hashKey: { low: 1, high: 2 },
    listeners: [{ name: "dns", number: 3, address: "127.0.0.1", port: 53 }],
    backends: [],
    workers: [{ listeners, sources: [], flows, discarded: 0 }],
  }, signal);
  for (const one of events) one.close();
  say(failure ?? "it serves");
}

const MODES: Readonly<Record<string, (stateDir: string) => void | Promise<void>>> = {
  give: (stateDir) => give(stateDir, 600),
  "give, and wait for a moment": (stateDir) => give(stateDir, 0, AbortSignal.timeout(100)),
  end: () => Deno.exit(0),
  wait: () => new Promise(() => {}),
  "hello and end": (stateDir) => {
    Successor.meet(stateDir, say)?.[Symbol.dispose]();
  },
  "nonsense": (stateDir) => {
    using socket = DescriptorSocket.connect(`${stateDir}/${SUCCESSOR_SOCKET}`);
    using event = EventFd.create();
    socket.send(bytes("{"), [event.number]);
  },
  "no numbers": (stateDir) => {
    using socket = DescriptorSocket.connect(`${stateDir}/${SUCCESSOR_SOCKET}`);
    using event = EventFd.create();
    for (const numbers of ["null", "7", "[]", "[7]", "[7]"]) {
      socket.send(bytes(`{"type":"descriptors","numbers":${numbers}}`), [event.number]);
    }
    socket.send(bytes('{"type":"of another version"}'), [event.number]);
  },
  "no inheritance": (stateDir) => {
    using socket = DescriptorSocket.connect(`${stateDir}/${SUCCESSOR_SOCKET}`);
    using event = EventFd.create();
    socket.send(bytes('{"type":"descriptors","numbers":[5]}'), [event.number]);
    socket.send(bytes('{"type":"inheritance"}'), [event.number]);
  },
};

const [stateDir, mode] = Deno.args;
using lock = openFile(`${stateDir}/serve.lock`, { flags: OPEN.READ_WRITE | OPEN.CREATE });
if (!tryLock(lock, "exclusive")) throw new Error("Cannot go on: the lock is another's");
const heard = Promise.withResolvers<void>();
if (mode !== "deaf") Deno.addSignalListener("SIGUSR2", () => heard.resolve());
// Until somebody kills it.
setInterval(() => {}, 1000);
say("holds the lock");
await heard.promise;
await MODES[mode](stateDir);
say("done");
Deno.exit(0);
