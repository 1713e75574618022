/**
 * The probe of `celld doctor` that launches: `/bin/true`, shut in as a workload is, seeing the
 * host through a read-only overlay. Leaves nothing: its namespaces go with the process, its
 * directory is removed.
 *
 * @module
 */
import {
  createNetns,
  createPipe,
  createUserNamespace,
  decodeExitRecord,
  defaultFilter,
  EXIT_RECORD_BYTES,
  type Fd,
  launch,
  type MountStep,
  OPEN,
  openFile,
  readFdAt,
  waitPidfdBlocking,
} from "#ffi/mod.ts";
import type { Probe } from "./doctor.ts";

/** A uid of nobody's: the kernel's overflow id. */
const PROBE_UID = 65_534;
const EXECUTABLES = ["/bin/true", "/usr/bin/true"] as const;

/** Makes a user namespace and lets it go. */
export function probeUserNamespace(): Probe {
  const map = [{ inside: 0, outside: PROBE_UID, count: 1 }];
  try {
    createUserNamespace({ uidMap: map, gidMap: map }).close();
    return { ok: true };
  } catch (error) {
    return { ok: false, error: messageOf(error) };
  }
}

/** Launches and waits for the end. Blocks the thread for some milliseconds. */
export function probeLaunch(): Probe {
  const directory = Deno.makeTempDirSync({ prefix: "celld-doctor-" });
  try {
    return launchIn(directory);
  } catch (error) {
    return { ok: false, error: messageOf(error) };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** The directory becomes a file system of its own in the child; on the host it stays empty. */
function viewSteps(directory: string): MountStep[] {
  const root = `${directory}/root`;
  return [
    { kind: "makePrivate" },
    { kind: "mount", source: "tmpfs", target: directory, fsType: "tmpfs", attributes: [] },
    { kind: "mkdir", path: `${directory}/upper`, mode: 0o755 },
    { kind: "mkdir", path: `${directory}/upper/.doctor-old`, mode: 0o755 },
    { kind: "mkdir", path: root, mode: 0o755 },
    {
      kind: "mount",
      source: "overlay",
      target: root,
      fsType: "overlay",
      attributes: ["ro", "nosuid", "nodev"],
      data: `lowerdir=${directory}/upper:/`,
    },
    { kind: "pivotRoot", newRoot: root, putOld: `${root}/.doctor-old` },
    {
      kind: "mount",
      source: "proc",
      target: "/proc",
      fsType: "proc",
      attributes: ["nosuid", "nodev", "noexec"],
    },
    { kind: "unmount", target: "/.doctor-old" },
  ];
}

function launchIn(directory: string): Probe {
  using netns = createNetns();
  using nothing = openFile("/dev/null", { flags: OPEN.READ_WRITE });
  const status = `${directory}/exit`;
  using statusFile = openFile(status, { flags: OPEN.READ_WRITE | OPEN.CREATE });
  const pipe = createPipe();
  using _read = pipe.read;
  using ready = pipe.write;
  using pidfd = launch({
    executableCandidates: EXECUTABLES,
    argv: ["true"],
    env: {},
    workingDirectory: "/",
    hostname: "doctor",
    netns,
    cgroupTasks: [],
    mountSteps: viewSteps(directory),
    uid: PROBE_UID,
    gid: PROBE_UID,
    stdin: nothing,
    stdout: nothing,
    stderr: nothing,
    rlimits: [],
    seccomp: defaultFilter(),
    statusFile,
    ready,
  }).pidfd;
  waitPidfdBlocking(pidfd);
  return judge(statusFile);
}

function judge(statusFile: Fd): Probe {
  const bytes = new Uint8Array(EXIT_RECORD_BYTES);
  const length = readFdAt(statusFile, bytes, 0);
  const record = decodeExitRecord(bytes.subarray(0, length));
  if (record === undefined) return { ok: false, error: "Cannot tell how /bin/true ended" };
  switch (record.kind) {
    case "exited":
      return record.code === 0
        ? { ok: true }
        : { ok: false, error: `/bin/true exited with ${record.code}` };
    case "signaled":
      return { ok: false, error: `/bin/true was ended by signal ${record.signal}` };
    case "execFailed":
      return { ok: false, error: `Cannot execute /bin/true: error ${record.errno}` };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
