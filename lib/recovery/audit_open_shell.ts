/**
 * Opens an audit's file, and finds out where its chain goes on.
 *
 * @module
 */
import { type Fd, OPEN, openFile, readFdAt, SyscallError, truncateFd, tryLock } from "#ffi/mod.ts";
import { type ChainPlace } from "./audit_chain.ts";
import {
  type FileEnds,
  type IntentSeen,
  intentsIn,
  planResume,
  RESUME_TAIL_BYTES,
  type ResumePlan,
} from "./audit_resume.ts";
import { type BootReason } from "./audit_record.ts";
import { generationPath, ROTATED_FILES } from "./audit_rotation.ts";

/** Bytes of the newest rows that are looked through for intents. */
const INTENTS_BYTES = 1024 * 1024;
const FILE_MODE = 0o600;
const FIRST_LINE_BYTES_MAX = 256;
const WRITING = OPEN.READ_WRITE | OPEN.APPEND | OPEN.CREATE | OPEN.NOFOLLOW | OPEN.NONBLOCK;

/** The audit's file cannot be used. */
export class AuditFileError extends Error {
  /** The class's name. */
  override name = "AuditFileError";

  /** Quotes the path and says why. */
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`Cannot write the recovery audit ${JSON.stringify(path)}: ${reason}`, options);
  }
}

/** A file that is ready for its boot row. */
export interface OpenedAudit {
  readonly fd: Fd;
  readonly sizeBytes: number;
  readonly reason: BootReason;
  readonly place: ChainPlace;
  /** Whether the boot row names the row that it goes on from. */
  readonly isContinued: boolean;
  /** Whether a header must come first. */
  readonly isNew: boolean;
  /** What an earlier celld meant to do, oldest first. */
  readonly intents: readonly IntentSeen[];
}

/** Opens, repairs, and plans. Throws {@link AuditFileError}. */
export function openAudit(path: string, isKeyed: boolean): OpenedAudit {
  const fd = openForWriting(path);
  try {
    const plan = planResume(endsOf(fd), isKeyed);
    const intents = readIntents(path);
    if (plan.kind === "append") {
      const { reason, place, keepBytes, isContinued } = plan;
      truncateFd(fd, keepBytes);
      return { fd, sizeBytes: keepBytes, reason, place, isContinued, isNew: false, intents };
    }
    if (plan.kind === "set_aside") return setAside(path, fd, plan, intents);
    truncateFd(fd, 0);
    const earlier = continueFromRotated(path, isKeyed);
    const { reason, place } = earlier ?? plan;
    const isContinued = earlier !== undefined;
    return { fd, sizeBytes: 0, reason, place, isContinued, isNew: true, intents };
  } catch (cause) {
    fd.close();
    throw cause;
  }
}

/** Opens a file for rows, ours alone. */
export function openForWriting(path: string, isNew = false): Fd {
  let fd: Fd;
  try {
    fd = openFile(path, { flags: WRITING | (isNew ? OPEN.EXCLUSIVE : 0), mode: FILE_MODE });
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    const reason = cause.code === "ELOOP" ? "it must not be a symbolic link" : cause.code;
    throw new AuditFileError(path, reason, { cause });
  }
  const { isFile } = statOf(fd);
  const problem = !isFile
    ? "it is not a regular file"
    : tryLock(fd, "exclusive")
    ? undefined
    : "another process writes it";
  if (problem === undefined) return fd;
  fd.close();
  throw new AuditFileError(path, problem);
}

/** What is known of an open file. */
export function statOf(fd: Fd): Deno.FileInfo {
  return Deno.statSync(`/proc/thread-self/fd/${fd.number}`);
}

/** Whether `.1` to `.5` are there. */
export function presentGenerations(path: string): boolean[] {
  return Array.from({ length: ROTATED_FILES }, (_, index) => {
    return isThere(generationPath(path, index + 1));
  });
}

function setAside(
  path: string,
  fd: Fd,
  plan: ResumePlan & { kind: "set_aside" },
  intents: readonly IntentSeen[],
): OpenedAudit {
  const present = presentGenerations(path);
  const free = present.indexOf(false);
  for (let to = free < 0 ? ROTATED_FILES : free + 1; to >= 1; to--) {
    Deno.renameSync(generationPath(path, to - 1), generationPath(path, to));
  }
  fd.close();
  const fresh = openForWriting(path, true);
  const place = { seq: 0n, hash: new Uint8Array(32) };
  const { reason } = plan;
  return { fd: fresh, sizeBytes: 0, reason, place, isContinued: false, isNew: true, intents };
}

/** A rotation that was cut short leaves no live file: its chain ends in `.1`. */
function continueFromRotated(
  path: string,
  isKeyed: boolean,
): { reason: BootReason; place: ChainPlace } | undefined {
  const rotated = generationPath(path, 1);
  if (!isThere(rotated)) return undefined;
  using fd = openForWriting(rotated);
  const plan = planResume(endsOf(fd), isKeyed);
  if (plan.kind !== "append") return undefined;
  truncateFd(fd, plan.keepBytes);
  return { reason: "rotation", place: plan.place };
}

function endsOf(fd: Fd): FileEnds {
  const sizeBytes = statOf(fd).size;
  const tailFrom = Math.max(0, sizeBytes - RESUME_TAIL_BYTES);
  const head = new TextDecoder().decode(readRange(fd, 0, FIRST_LINE_BYTES_MAX));
  const end = head.indexOf("\n");
  return {
    sizeBytes,
    firstLine: end < 0 ? undefined : head.slice(0, end),
    tail: readRange(fd, tailFrom, RESUME_TAIL_BYTES),
  };
}

function readIntents(path: string): IntentSeen[] {
  const texts: string[] = [];
  let left = INTENTS_BYTES;
  for (let generation = 0; generation <= ROTATED_FILES && left > 0; generation++) {
    const file = generationPath(path, generation);
    if (!isThere(file)) continue;
    using fd = openFile(file, { flags: OPEN.NOFOLLOW });
    const { size } = statOf(fd);
    const from = Math.max(0, size - left);
    texts.unshift(new TextDecoder().decode(readRange(fd, from, left)));
    left -= size;
  }
  return intentsIn(texts.join("\n"));
}

function readRange(fd: Fd, offset: number, lengthMax: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(lengthMax);
  let length = 0;
  while (length < lengthMax) {
    const count = readFdAt(fd, bytes.subarray(length), offset + length);
    if (count === 0) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
}
