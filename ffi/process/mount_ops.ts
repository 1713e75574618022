/**
 * Turns mount steps into the system calls of a child.
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import type { SyscallArgument } from "../symbols.ts";
import { SPAWN_OP_SIZE } from "./stub.ts";
import type { MountAttribute, MountStep } from "./mount_steps.ts";
import type { SpawnTable } from "./spawn_table.ts";

const AT_FDCWD = -100;
const AT_RECURSIVE = 0x8000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;
const S_IFREG = 0o100000;
const MOUNT_ATTR_BYTES = 32;
/** `MS_…` of mount(2) and `MOUNT_ATTR_…` of mount_setattr(2) are the same bits here. */
const ATTRIBUTE_BITS: Record<MountAttribute, number> = { ro: 1, nosuid: 2, nodev: 4, noexec: 8 };

/** Appends the calls of all steps; a failing one is named `mountSteps[<index>]: …`. */
export function appendMountSteps(table: SpawnTable, steps: readonly MountStep[]): void {
  steps.forEach((step, index) =>
    appendMountStep(table, step, `mountSteps[${index}]: ${describeMountStep(step)}`)
  );
}

/** Bytes of memory that {@link appendMountSteps} may take, from above. */
export function mountStepsBytes(steps: readonly MountStep[]): number {
  return steps.reduce((sum, step) => {
    const texts = Object.values(step).filter((value) => typeof value === "string");
    return sum + 3 * SPAWN_OP_SIZE + 128 + texts.reduce((all, text) => all + 3 * text.length, 0);
  }, 0);
}

/** What a step does, for people: `mount "proc" on "/proc"`. */
export function describeMountStep(step: MountStep): string {
  const quote = JSON.stringify;
  switch (step.kind) {
    case "makePrivate":
      return "make all mounts private";
    case "mount":
      return `mount ${quote(step.fsType)} on ${quote(step.target)}`;
    case "bind":
      return `bind ${quote(step.source)} on ${quote(step.target)}`;
    case "attributes":
      return `set ${step.set.join(",")} on ${quote(step.target)}`;
    case "mkdir":
      return `make directory ${quote(step.path)}`;
    case "file":
      return `make file ${quote(step.path)}`;
    case "symlink":
      return `link ${quote(step.path)} to ${quote(step.target)}`;
    case "pivotRoot":
      return `make ${quote(step.newRoot)} the root`;
    case "unmount":
      return `unmount ${quote(step.target)}`;
  }
}

function appendMountStep(table: SpawnTable, step: MountStep, label: string): void {
  const text = (value: string): bigint => table.arena.cstring(value);
  const mount = (...args: SyscallArgument[]) => table.step(label, "mount", args);
  switch (step.kind) {
    case "makePrivate":
      return mount(text("none"), text("/"), 0, MS_REC | MS_PRIVATE, 0);
    case "mount": {
      const data = step.data === undefined ? 0 : text(step.data);
      const flags = attributeBits(step.attributes);
      return mount(text(step.source), text(step.target), text(step.fsType), flags, data);
    }
    case "bind": {
      const flags = MS_BIND | (step.recursive ? MS_REC : 0);
      return mount(text(step.source), text(step.target), 0, flags, 0);
    }
    case "attributes":
      return appendAttributes(table, step, label);
    case "mkdir":
      return appendMkdir(table, step, label);
    case "file":
      return table.step(label, "mknodat", [AT_FDCWD, text(step.path), S_IFREG | step.mode, 0]);
    case "symlink":
      return table.step(label, "symlinkat", [text(step.target), AT_FDCWD, text(step.path)]);
    case "pivotRoot":
      table.step(label, "pivot_root", [text(step.newRoot), text(step.putOld)]);
      return table.step(`${label}: go there`, "chdir", [text("/")]);
    case "unmount":
      return table.step(label, "umount2", [text(step.target), MNT_DETACH]);
  }
}

function appendAttributes(
  table: SpawnTable,
  step: Extract<MountStep, { kind: "attributes" }>,
  label: string,
): void {
  const attr = table.arena.alloc(MOUNT_ATTR_BYTES); // struct mount_attr
  table.arena.view.setBigUint64(attr, BigInt(attributeBits(step.set)), true);
  table.step(label, "mount_setattr", [
    AT_FDCWD,
    table.arena.cstring(step.target),
    step.recursive ? AT_RECURSIVE : 0,
    table.arena.address(attr),
    MOUNT_ATTR_BYTES,
  ]);
}

function appendMkdir(
  table: SpawnTable,
  step: Extract<MountStep, { kind: "mkdir" }>,
  label: string,
): void {
  const path = table.arena.cstring(step.path);
  const tolerated = step.existsOk === true ? [ERRNO.EEXIST] : [];
  table.step(label, "mkdirat", [AT_FDCWD, path, step.mode], tolerated);
  if (step.uid === undefined && step.gid === undefined) return;
  // -1 leaves an id as it is.
  const args = [AT_FDCWD, path, step.uid ?? -1, step.gid ?? -1, AT_SYMLINK_NOFOLLOW];
  table.step(`${label}: set its owner`, "fchownat", args);
}

function attributeBits(attributes: readonly MountAttribute[]): number {
  return attributes.reduce((bits, attribute) => bits | ATTRIBUTE_BITS[attribute], 0);
}
