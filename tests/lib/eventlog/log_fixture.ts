/**
 * Logs and events that the event log's tests share.
 *
 * @module
 */
import { type CloudEvent, makeEvent } from "#lib/events/mod.ts";

/** A small event; `sizeBytes` pads its data. */
export function someEvent(id: string, sizeBytes = 0): CloudEvent {
  return makeEvent({
    id,
    source: "/celld/test",
    type: "dev.celld.test.v1.happened",
    subject: "cell:test",
    time: "2026-05-16T00:00:00Z",
    data: { id, padding: "x".repeat(sizeBytes) },
  });
}

/** Events with the ids `<prefix><first>` and so on. */
export function someEvents(prefix: string, count: number, first = 0): CloudEvent[] {
  return Array.from({ length: count }, (_, index) => someEvent(`${prefix}${first + index}`));
}

/** Runs with a folder of its own, which is removed afterwards. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = Deno.makeTempDirSync({ prefix: "celld-log-" });
  try {
    return await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Copies all files of a folder into another one, which is made. */
export function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  // A copy is what a crash of the machine leaves: no process holds its locks. Copying the
  // database would drop SQLite's own locks where this process has it open (closing any
  // descriptor does), so another process copies.
  const { success } = new Deno.Command("cp", { args: ["-a", `${from}/.`, to] }).outputSync();
  if (!success) throw new Error(`Cannot copy ${from}`);
}
