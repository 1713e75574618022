/**
 * The init of a cell: pid 1 of its pid namespace, a static program of one page.
 *
 * It starts the workload as pid 2 (so the workload is never pid 1, which the kernel shields
 * from signals), passes every signal on to it, reaps what is orphaned, writes how the
 * workload ended to a file that outlives us, and exits with the shell's code for it; with
 * it the kernel ends every other process of the namespace.
 *
 *   start ──executed──▶ waiting ──workload ended──▶ "EXIT" record, exit code | 128 + signal
 *     └────not executed──▶ "EXEC" record, exit 127 (not found) | 126
 *
 * It makes itself non-dumpable, so that the workload cannot look into it through
 * `/proc/1`, and it runs from a sealed memory file, so that nobody can write to it.
 * The code is assembled from `asm/init_*.S`; a test assembles it again and compares.
 *
 * @module
 */
import type { StubArch } from "./stub.ts";

/** Assembled code of `asm/init_<arch>.S`, base64. */
export const INIT_CODE: Record<StubArch, string> = {
  x86_64:
    "SIsEJEyNbCQITY1kxQhJi0UIRA+2MEGD7jBNjX0QSIHsgAAAAEiD5PAxwEiJRCQYSIlEJDhIiUQkQEiJRCRISIlE" +
    "JFBIiUQkWEj/yEiJRCQovwQAAAAx9ridAAAADwW/AwAAAL7/////ugQAAAC4tAEAAA8FvwIAAABIjXQkKDHSQboI" +
    "AAAAuA4AAAAPBbtAAAAAid9IjXQkQDHSQboIAAAAuA0AAAAPBf/LdeZIiee+AAAIALglAQAADwVIhcAPiP0AAAC/" +
    "EUEAADH2MdJFMdJFMcC4OAAAAA8FSIXAD4RYAQAAD4jYAAAAicWLfCQEuAMAAAAPBYs8JEiNdCQIugQAAAAxwA8F" +
    "SIP4BA+EqQAAAIs8JLgDAAAADwXHRCQwAAAAAMdEJDQAAAAA6PQAAAC/BAAAALgDAAAADwVIjXwkKDH2MdJBuggA" +
    "AAC4gAAAAA8FhcB45oP4EXQNie+Jxrg+AAAADwXr1L//////SI10JCC6AQAAQEUx0rg9AAAADwWFwH63Oeh134tc" +
    "JCDHRCQwRVhJVIlcJDToYwAAAInfg+d/dAiBx4AAAADrTInfwe8Igef/AAAA6z+LRCQISPfYSPfYicPHRCQwRVhF" +
    "Q4lcJDToKgAAAIlcJDDHRCQ0AAAAAOg8AAAAv38AAACD+wJ0B4P7FHQC/8+45wAAAA8F9EiNdCQ4SMdEJEAAAAAA" +
    "vwMAAAC6EAAAAEUx0rgSAAAADwXDSI10JDi/BAAAALoIAAAAuAEAAAAPBcO4cAAAAA8FvwIAAABIjXQkGDHSQboI" +
    "AAAAuA4AAAAPBbsCAAAAMe1PjQz3TTnPdC5Jiz9Mic5MieK4OwAAAA8F99iJw0mDxwiD+AJ03oP4FHTZg/gNdRC9" +
    "AQAAAOvNhe10BbsNAAAAiVwkEIt8JARIjXQkELoEAAAAuAEAAAAPBb9/AAAAuOcAAAAPBfQ=",
  aarch64:
    "4ANA+fMjAJF3DgCL9yIAkWAGQPkUAEA5lMIAUXVCAJH/AwLR/38Bqf9/A6n/fwSp/38FqQAAgJLgFwD5gACA0gEA" +
    "gNLoFIDSAQAA1GAAgNIBAIASggCA0og2gNIBAADUQACA0uGjAJECAIDSAwGA0ugQgNIBAADUGAiA0uADGKrhAwGR" +
    "AgCA0gMBgNLIEIDSAQAA1BgHAPEh//9U4AMAkQEBoNJoB4DSAQAA1GAI+LcgIojSAQCA0gIAgNIDAIDSBACA0ogb" +
    "gNIBAADUQAsAtEAH+Lf2AwAq4AdAuSgHgNIBAADU4ANAueEjAJGCAIDS6AeA0gEAANQfEADxoAUAVOADQLkoB4DS" +
    "AQAA1P8bAPlDAACUgACA0igHgNIBAADU4KMAkQEAgNICAIDSAwGA0igRgNIBAADUQP//Nx9EAHHAAABU4QMAKuAD" +
    "FiooEIDSAQAA1PP//xcAAIAS4YMAkSIAgFICAKhyAwCA0ogggNIBAADUHwAAcU39/1QfABZrwf7/VPgjQLmgCItS" +
    "IImqcuBjBikaAACUABsAEmAAADQAAAIREwAAFAA/CFMRAAAU4AtAueADAMvgAwDL+AMAKqAIi1KgaKhy4GMGKQwA" +
    "AJT4fwYpEgAAlOAPgFIfCwBxgAAAVB9TAHFAAABUwA+AUsgLgNIBAADUAAAg1P8fAPlgAIDS4cMAkQICgNIDAIDS" +
    "iAiA0gEAANTAA1/WgACA0uHDAJECAYDSCAiA0gEAANTAA1/WqBOA0gEAANRAAIDS4WMAkQIAgNIDAYDS6BCA0gEA" +
    "ANRYAIBSGQCAUroOFIu/Ahrr4AEAVKCGQPjhAxqq4gMXqqgbgNIBAADU+AMASx8LAHHg/v9UH1MAcaD+/1QfNwBx" +
    "oQAAVDkAgFLx//8XWQAANLgBgFL4EwC54AdAueFDAJGCAIDSCAiA0gEAANTgD4DSyAuA0gEAANQAACDU",
};

/** Most paths that the init is given to try. */
export const EXECUTABLE_CANDIDATES_MAX = 64;
/** Bytes of the record in the status file. */
export const EXIT_RECORD_BYTES = 16;
/** Bytes that the init writes to the ready pipe. */
export const READY_RECORD_BYTES = 8;
/** The descriptor under which the init expects its status file. */
export const INIT_STATUS_FD = 3;
/** The descriptor under which the init expects its ready pipe. */
export const INIT_READY_FD = 4;

const MAGIC_EXIT = 0x5449_5845; // "EXIT"
const MAGIC_EXEC = 0x4345_5845; // "EXEC"
const E_MACHINE: Record<StubArch, number> = { x86_64: 62, aarch64: 183 };
const LOAD_ADDRESS = 0x40_0000;
const HEADERS_BYTES = 64 + 2 * 56;

/** How a workload ended. */
export type ExitRecord =
  /** It exited by itself; `code` is 0 to 255. */
  | { readonly kind: "exited"; readonly code: number }
  /** A signal ended it. */
  | { readonly kind: "signaled"; readonly signal: number }
  /** It never ran; `errno` is positive and tells why the last path was refused. */
  | { readonly kind: "execFailed"; readonly errno: number };

/** Builds the static ELF executable around the code (System V gABI). */
export function initElf(arch: StubArch): Uint8Array<ArrayBuffer> {
  const code = Uint8Array.from(atob(INIT_CODE[arch]), (char) => char.charCodeAt(0));
  const bytes = new Uint8Array(HEADERS_BYTES + code.length);
  const view = new DataView(bytes.buffer);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // \x7fELF, 64 bit, little endian, version 1
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, E_MACHINE[arch], true);
  view.setUint32(20, 1, true); // EV_CURRENT
  u64(24, LOAD_ADDRESS + HEADERS_BYTES); // entry
  u64(32, 64); // program headers follow the ELF header
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 5, true); // readable and executable
  u64(80, LOAD_ADDRESS);
  u64(88, LOAD_ADDRESS);
  u64(96, bytes.length);
  u64(104, bytes.length);
  u64(112, 0x1_0000); // aarch64 kernels may use pages of 64 KiB
  view.setUint32(120, 0x6474_e551, true); // PT_GNU_STACK
  view.setUint32(124, 6, true); // without execute
  bytes.set(code, HEADERS_BYTES);
  return bytes;
}

/**
 * The arguments that the init is executed with.
 *
 * @param candidates Paths to try in order, at most {@link EXECUTABLE_CANDIDATES_MAX}.
 * @param argv The workload's own arguments, its name first.
 */
export function initArguments(candidates: readonly string[], argv: readonly string[]): string[] {
  if (candidates.length > EXECUTABLE_CANDIDATES_MAX) {
    throw new RangeError(
      `Cannot try ${candidates.length} executables: more than ${EXECUTABLE_CANDIDATES_MAX}`,
    );
  }
  // One byte, '0' + count: the init need not parse.
  return ["celld-init", String.fromCharCode(48 + candidates.length), ...candidates, ...argv];
}

/**
 * Decodes the bytes of a status file. `undefined` means that the init has not written yet,
 * or was killed before it could.
 */
export function decodeExitRecord(bytes: Uint8Array): ExitRecord | undefined {
  if (bytes.length < EXIT_RECORD_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0, true);
  const value = view.getUint32(4, true);
  if (magic === MAGIC_EXEC) return { kind: "execFailed", errno: value };
  if (magic !== MAGIC_EXIT) return undefined;
  const signal = value & 0x7f;
  return signal === 0
    ? { kind: "exited", code: (value >>> 8) & 0xff }
    : { kind: "signaled", signal };
}

/**
 * Decodes what came through the ready pipe: 0 when the workload was executed, else the
 * error number. `undefined` means that the init died before it could tell.
 */
export function decodeReadyRecord(bytes: Uint8Array): number | undefined {
  if (bytes.length < READY_RECORD_BYTES) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
}
