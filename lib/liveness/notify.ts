/**
 * Datagrams of systemd's notify protocol (sd_notify(3)): lines of `NAME=value`.
 *
 * Pure, never throws, bounded: a datagram of more than {@link NOTIFY_BYTES_MAX} bytes, or without
 * one good line, is no notification. Lines that cannot be read are told, and the others count.
 * Names that we have no use for are counted.
 *
 * @module
 */

/** The longest datagram that is read, as systemd reads. */
export const NOTIFY_BYTES_MAX = 4096;
/** The longest status text kept, in UTF-16 units. */
export const NOTIFY_STATUS_MAX = 256;
/** Bad lines told of one datagram. */
export const NOTIFY_BAD_LINES_MAX = 8;

/** What one datagram says. Members that it does not speak of are absent. */
export interface Notification {
  /** The service is up (or has reloaded). */
  ready?: true;
  /** It ends, of its own will. */
  stopping?: true;
  /** It reads its configuration again. */
  reloading?: true;
  /** `ping`: a beat. `trigger`: it calls itself hung. */
  watchdog?: "ping" | "trigger";
  /** From now on a beat is due every so many microseconds. */
  watchdogUsec?: number;
  /** For people, cut at {@link NOTIFY_STATUS_MAX}. */
  status?: string;
  /** The process that the service is, where the sender is a helper. */
  mainPid?: number;
  /** An error number of the kernel. */
  errno?: number;
  /** The code it will exit with, or has. */
  exitStatus?: number;
  /** It sent descriptors to keep; we keep none. */
  fdStore?: true;
  /** Good lines whose names mean nothing here. */
  ignoredLines: number;
  /** Lines that could not be read, cut short, at most {@link NOTIFY_BAD_LINES_MAX}. */
  badLines: string[];
}

const LINE = /^([A-Z][A-Z0-9_]{0,63})=(.*)$/su;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Whether bytes may be a notification: cheap, for a socket that takes beats as well. */
export function looksLikeNotification(bytes: Uint8Array): boolean {
  const first = bytes[0];
  if (first === undefined || first < 0x41 || first > 0x5a) return false;
  const equals = bytes.subarray(0, 65).indexOf(0x3d);
  return equals > 0 && bytes.length <= NOTIFY_BYTES_MAX;
}

/** Reads a datagram; `undefined` where it is no notification. */
export function parseNotification(bytes: Uint8Array): Notification | undefined {
  if (bytes.length === 0 || bytes.length > NOTIFY_BYTES_MAX) return undefined;
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    // Not text: not a notification, and no more is to be said about it.
    return undefined;
  }
  const found: Notification = { ignoredLines: 0, badLines: [] };
  let goodLines = 0;
  for (const line of text.replace(/\0$/u, "").split("\n")) {
    if (line === "") continue;
    const match = LINE.exec(line);
    if (match !== null && take(found, match[1]!, match[2]!)) goodLines += 1;
    else if (found.badLines.length < NOTIFY_BAD_LINES_MAX) found.badLines.push(line.slice(0, 80));
  }
  return goodLines === 0 ? undefined : found;
}

/** Notes one line; false where its value is none of its name's. */
function take(found: Notification, name: string, value: string): boolean {
  switch (name) {
    case "READY":
      return flag(value, () => found.ready = true);
    case "STOPPING":
      return flag(value, () => found.stopping = true);
    case "RELOADING":
      return flag(value, () => found.reloading = true);
    case "FDSTORE":
      return flag(value, () => found.fdStore = true);
    case "WATCHDOG":
      if (value === "trigger") found.watchdog = "trigger";
      else return flag(value, () => found.watchdog ??= "ping");
      return true;
    case "STATUS":
      found.status = value.slice(0, NOTIFY_STATUS_MAX);
      return true;
    case "MAINPID":
      return integer(value, 2, 2 ** 22, (pid) => found.mainPid = pid);
    case "WATCHDOG_USEC":
      return integer(value, 0, Number.MAX_SAFE_INTEGER, (usec) => found.watchdogUsec = usec);
    case "ERRNO":
      return integer(value, 0, 4095, (errno) => found.errno = errno);
    case "EXIT_STATUS":
      return integer(value, 0, 255, (code) => found.exitStatus = code);
    default:
      found.ignoredLines += 1;
      return true;
  }
}

function flag(value: string, set: () => void): boolean {
  if (value === "1") set();
  // `READY=0` and the like say nothing, as for systemd.
  return value === "1" || value === "0";
}

function integer(value: string, min: number, max: number, set: (value: number) => void): boolean {
  if (!/^\d{1,16}$/.test(value)) return false;
  const number = Number(value);
  if (number < min || number > max) return false;
  set(number);
  return true;
}
