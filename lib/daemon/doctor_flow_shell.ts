/**
 * The probe of `celld doctor` for the flow backend `ebpf`: loads the flow program and attaches it
 * to a cgroup that it makes and removes. Nothing is asked that a cell would not do.
 *
 * @module
 */
import { discoverCgroups, OPEN, openFile } from "#ffi/mod.ts";
import { FlowPrograms } from "#lib/flow/mod.ts";
import type { Probe } from "./doctor.ts";

/** Loads, attaches, and takes everything back. */
export function probeFlowPrograms(): Probe {
  try {
    const { v2Mount } = discoverCgroups();
    if (v2Mount === undefined) return { ok: false, error: "this host has no cgroup v2" };
    const directory = `${v2Mount}/celld-doctor-${Deno.pid}`;
    Deno.mkdirSync(directory);
    try {
      using cgroup = openFile(directory, { flags: OPEN.DIRECTORY });
      new FlowPrograms({ cgroupFd: cgroup.number, marksMax: 1 }).close();
    } finally {
      Deno.removeSync(directory);
    }
    return { ok: true };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}
