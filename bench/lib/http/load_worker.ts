/**
 * The other side of the HTTP bench, on a thread of its own: requests over connections that stay
 * open, and WebSocket clients that note how late events are.
 *
 * @module
 */

/** Requests as fast as the answers come. */
export interface ReadLoad {
  readonly kind: "read";
  readonly port: number;
  readonly path: string;
  readonly token: string;
  readonly connections: number;
  readonly durationMs: number;
}

/** Followers, until each has heard so many events. */
export interface FollowLoad {
  readonly kind: "follow";
  readonly port: number;
  readonly query: string;
  readonly token: string;
  readonly clients: number;
  readonly events: number;
}

/** Status reports of a formation, so many in all, each awaited before the next on its connection. */
export interface ReportLoad {
  readonly kind: "report";
  readonly port: number;
  readonly path: string;
  readonly token: string;
  readonly connections: number;
  readonly commands: number;
}

/** What a load thread is asked for. */
export type Load = ReadLoad | FollowLoad | ReportLoad;

/** What was measured; times are in milliseconds. */
export interface LoadReport {
  readonly count: number;
  readonly timeMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const ENCODER = new TextEncoder();
const HEAD_END = ENCODER.encode("\r\n\r\n");
/** One of so many events is parsed for its latency: parsing all would measure the parser. */
const SAMPLE = 16;

/** Wall time that both threads share, in milliseconds. */
export function sharedNowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** What this thread is where it is a worker; the types of a window are in force. */
const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<Load>) => void;
  postMessage(value: LoadReport | "opened"): void;
};

if (self.name === "http-load") {
  scope.onmessage = async ({ data }) => {
    scope.postMessage(await work(data));
  };
}

async function work(load: Load): Promise<LoadReport> {
  switch (load.kind) {
    case "read":
      return await read(load);
    case "follow":
      return await follow(load);
    case "report":
      return await sendReports(load);
  }
}

async function sendReports(load: ReportLoad): Promise<LoadReport> {
  const body = JSON.stringify({ state: "running", reason: "bench" });
  const request = ENCODER.encode(
    `POST ${load.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${load.token}\r\n` +
      `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const startMs = performance.now();
  let left = load.commands;
  const latencies = await Promise.all(
    Array.from({ length: load.connections }, () => askOver(load.port, request, () => left-- > 0)),
  );
  return report(latencies.flat(), performance.now() - startMs);
}

async function read(load: ReadLoad): Promise<LoadReport> {
  const startMs = performance.now();
  const request = ENCODER.encode(
    `GET ${load.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${load.token}\r\n\r\n`,
  );
  const untilMs = startMs + load.durationMs;
  const goesOn = () => performance.now() < untilMs;
  const latencies = await Promise.all(
    Array.from({ length: load.connections }, () => askOver(load.port, request, goesOn)),
  );
  return report(latencies.flat(), performance.now() - startMs);
}

/** Sends one request after the other over one connection; the times that they took. */
async function askOver(
  port: number,
  request: Uint8Array,
  goesOn: () => boolean,
): Promise<number[]> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  connection.setNoDelay(true);
  const buffer = new Uint8Array(1024 * 1024);
  const latencies: number[] = [];
  while (goesOn()) {
    const startMs = performance.now();
    await connection.write(request);
    await readAnswer(connection, buffer);
    latencies.push(performance.now() - startMs);
  }
  return latencies;
}

async function readAnswer(connection: Deno.TcpConn, buffer: Uint8Array): Promise<void> {
  let size = 0;
  let headEnd = -1;
  while (headEnd < 0) {
    const count = await connection.read(buffer.subarray(size));
    if (count === null) throw new Error("the server ended");
    size += count;
    headEnd = indexOf(buffer.subarray(0, size), HEAD_END);
  }
  const head = new TextDecoder().decode(buffer.subarray(0, headEnd));
  if (!head.startsWith("HTTP/1.1 200")) throw new Error(head.split("\r\n")[0]);
  let left = Number(/content-length: (\d+)/i.exec(head)![1]) - (size - headEnd - 4);
  while (left > 0) {
    const count = await connection.read(buffer);
    if (count === null) throw new Error("the server ended");
    left -= count;
  }
}

function indexOf(bytes: Uint8Array, wanted: Uint8Array): number {
  for (let at = bytes.indexOf(wanted[0]); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}

async function follow(load: FollowLoad): Promise<LoadReport> {
  const latencies: number[] = [];
  const opened: Promise<void>[] = [];
  const done = Array.from({ length: load.clients }, () => {
    const url = `ws://127.0.0.1:${load.port}/ws/events${load.query}`;
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${load.token}` } });
    opened.push(
      new Promise((resolve) => {
        socket.onopen = () => resolve();
      }),
    );
    return new Promise<void>((resolve, reject) => {
      let heard = 0;
      socket.onmessage = ({ data }) => {
        const lines = (data as string).split("\n");
        for (const line of lines) if (heard++ % SAMPLE === 0) latencies.push(latencyOf(line));
        if (heard >= load.events) socket.close();
      };
      socket.onclose = () =>
        heard === load.events ? resolve() : reject(new Error(`heard ${heard} events`));
    });
  });
  await Promise.all(opened);
  scope.postMessage("opened");
  const startMs = performance.now();
  await Promise.all(done);
  return { ...report(latencies, performance.now() - startMs), count: load.clients * load.events };
}

function latencyOf(line: string): number {
  const { sentMs, reason } = JSON.parse(line).event.data;
  return sharedNowMs() - Number(sentMs ?? reason);
}

function report(latencies: number[], timeMs: number): LoadReport {
  latencies.sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  return { count: latencies.length, timeMs, p50Ms: at(0.5), p99Ms: at(0.99) };
}
