/**
 * The door to programs in the kernel: assembler, maps, programs, ring buffers.
 *
 * @module
 */
export * from "./assembler.ts";
export * from "./clock.ts";
export { BpfError } from "./command.ts";
export * from "./instruction.ts";
export * from "./map.ts";
export * from "./program.ts";
export * from "./ring.ts";
