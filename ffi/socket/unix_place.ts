/**
 * Places of Unix sockets: bound so that nobody can stand in for them (unix(7)).
 *
 * Several threads share a umask, so it cannot say who may write to a new socket. Instead the
 * socket is made in a fresh directory that nobody else can enter, given its mode and owner there,
 * and moved to its place in one step that replaces nothing.
 *
 * The parent must be a directory (no link) of ours or root's; where others may write in it, it must
 * be sticky. A socket that is left over is removed only when nobody answers on it and it is
 * still the same one. Closing removes the path only if it is still ours.
 *
 * @module
 */
import { check, ERRNO, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { OPEN, openFile, syncFd } from "../file.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import { AF, encodeSockaddr } from "./sockaddr.ts";

const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const AT_REMOVEDIR = 0x200;
const RENAME_NOREPLACE = 1;
/** Rounds of finding a left-over socket and removing it before we give up. */
const STALE_ROUNDS_MAX = 4;

/** The path cannot be bound safely; the message says why. */
export class UnixBindError extends Error {
  /** The class's name. */
  override name = "UnixBindError";
  /** A word for programs. */
  readonly reason: "parent" | "notSocket" | "inUse" | "changed" | "mode";

  /** Says which path, and what is wrong. */
  constructor(path: string, reason: UnixBindError["reason"], detail: string) {
    super(`Cannot bind ${JSON.stringify(path)}: ${detail}`);
    this.reason = reason;
  }
}

/** Where a socket is to be, and whose it is. */
export interface UnixPlaceOptions {
  /** An absolute path of at most 107 bytes. */
  readonly path: string;
  /** Permission bits. @default {0o600} */
  readonly mode?: number;
  /** Who owns the socket; ourselves by default. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** A socket at its place. */
export interface UnixPlace {
  /** What {@link removeUnixSocket} knows it by. */
  readonly identity: string;
  /** Whether the new name is known to be on the disk. */
  readonly isParentSynced: boolean;
}

/**
 * Makes the socket's name: in a directory of its own, then in its place. Throws
 * {@link UnixBindError}, or `SyscallError` where the kernel refuses.
 *
 * @param prepare What is to be done to the bound socket before anybody can find it.
 */
export function placeUnixSocket(
  fd: Fd,
  options: UnixPlaceOptions,
  prepare: () => void = () => {},
): UnixPlace {
  const { path, owner, mode = 0o600 } = options;
  const slash = path.lastIndexOf("/");
  const parentPath = path.slice(0, slash) || "/";
  checkParent(path, parentPath);
  using parent = openFile(parentPath, { flags: OPEN.DIRECTORY | OPEN.NOFOLLOW });
  const room = `.celld-bind-${Deno.pid}-${fd.number}`;
  unlink(parent, `${room}/socket`, 0); // what an earlier process of our number left
  unlink(parent, room, AT_REMOVEDIR);
  withScratch((arena) => call("mkdirat", parent.number, arena.cstring(room), 0o700));
  try {
    // A path of a few bytes, however long the real one is, and whatever is renamed meanwhile.
    const short = `/proc/self/fd/${parent.number}/${room}/socket`;
    bind(fd, short);
    Deno.chmodSync(short, mode);
    if (owner !== undefined) Deno.chownSync(short, owner.uid, owner.gid);
    prepare();
    const identity = identityOf(short);
    moveIntoPlace(parent, `${room}/socket`, path);
    checkMode(path, mode, identity);
    return { identity: identity!, isParentSynced: trySync(parent) };
  } finally {
    unlink(parent, `${room}/socket`, 0);
    unlink(parent, room, AT_REMOVEDIR);
  }
}

/** Removes a socket's name, if it is still that socket's. */
export function removeUnixSocket(path: string, identity: string): void {
  if (identityOf(path) === identity) unlink(undefined, path, 0);
}

/** Connects a socket to the one at a path; 0 or `-errno`. */
export function connectUnix(fd: Fd, path: string): number {
  const address = encodeSockaddr({ family: "unix", path });
  return withScratch((arena) =>
    syscall(NR.connect, fd.number, arena.copy(address), address.length)
  );
}

function checkParent(path: string, parentPath: string): void {
  const fail = (detail: string) => new UnixBindError(path, "parent", detail);
  if (!path.startsWith("/")) throw fail("want an absolute path");
  const info = lstat(parentPath);
  if (info === undefined) throw fail(`${JSON.stringify(parentPath)} does not exist`);
  if (!info.isDirectory) throw fail(`${JSON.stringify(parentPath)} is no directory`);
  if (info.uid !== 0 && info.uid !== Deno.uid()) {
    throw fail(`${JSON.stringify(parentPath)} belongs to uid ${info.uid}, want root or ourselves`);
  }
  const mode = info.mode ?? 0;
  if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
    throw fail(`others may write in ${JSON.stringify(parentPath)}, and it is not sticky`);
  }
}

function moveIntoPlace(parent: Fd, from: string, path: string): void {
  const name = path.slice(path.lastIndexOf("/") + 1);
  for (let round = 0; round < STALE_ROUNDS_MAX; round++) {
    const result = withScratch((arena) =>
      syscall(
        NR.renameat2,
        parent.number,
        arena.cstring(from),
        parent.number,
        arena.cstring(name),
        RENAME_NOREPLACE,
      )
    );
    if (result === 0) return;
    if (result !== -ERRNO.EEXIST) check(result, `rename to ${JSON.stringify(path)}`);
    removeStale(parent, name, path);
  }
  throw new UnixBindError(path, "changed", "the path changed while it was probed");
}

/** Removes a socket on which nobody answers; throws where somebody does, or it is something else. */
function removeStale(parent: Fd, name: string, path: string): void {
  const info = lstat(path);
  if (info === undefined) return;
  if (!info.isSocket) throw new UnixBindError(path, "notSocket", "it exists and is no socket");
  const before = identityOf(path);
  // Datagrams, whatever type is there: another one's socket refuses with EPROTOTYPE, so that a
  // listener is seen to live before it listens, and gets no connection that nobody wants.
  using probe = new Fd(call("socket", AF.unix, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const result = connectUnix(probe, path);
  if (result !== -ERRNO.ECONNREFUSED && result !== -ERRNO.ENOENT) {
    // Connected; or refused for another reason than that nobody is there.
    throw new UnixBindError(path, "inUse", "another process listens there");
  }
  if (identityOf(path) !== before) {
    throw new UnixBindError(path, "changed", "the path changed while it was probed");
  }
  unlink(parent, name, 0);
}

function checkMode(path: string, mode: number, identity: string | undefined): void {
  const info = lstat(path);
  if (info === undefined || !info.isSocket || identityOf(path) !== identity) {
    throw new UnixBindError(path, "changed", "the socket was replaced");
  }
  if (((info.mode ?? 0) & 0o7777) !== mode) {
    const found = ((info.mode ?? 0) & 0o7777).toString(8);
    throw new UnixBindError(path, "mode", `its mode is ${found}, want ${mode.toString(8)}`);
  }
}

function bind(fd: Fd, path: string): void {
  const address = encodeSockaddr({ family: "unix", path });
  withScratch((arena) => call("bind", fd.number, arena.copy(address), address.length));
}

function lstat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function identityOf(path: string): string | undefined {
  const info = lstat(path);
  return info === undefined ? undefined : `${info.dev}:${info.ino}`;
}

/** Removes a name where it is there; what cannot be removed is found by whoever needs the place. */
function unlink(directory: Fd | undefined, name: string, flags: number): void {
  const AT_FDCWD = -100;
  const at = directory?.number ?? AT_FDCWD;
  withScratch((arena) => syscall(NR.unlinkat, at, arena.cstring(name), flags));
}

function trySync(directory: Fd): boolean {
  try {
    syncFd(directory);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}
