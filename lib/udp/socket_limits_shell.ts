/**
 * What this process may open, as the kernel says it now.
 *
 * @module
 */
import type { FlowBoundInput } from "./flow_bound.ts";

/**
 * Reads the bounds on sockets: descriptors and local ports.
 *
 * @param inheritedFiles Open ones that are the flows' already.
 */
export function readSocketLimits(
  inheritedFiles = 0,
): Omit<FlowBoundInput, "asked" | "sources"> {
  const files = /^Max open files\s+(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits"));
  const range = Deno.readTextFileSync("/proc/sys/net/ipv4/ip_local_port_range").trim().split(/\s+/);
  return {
    filesMax: files === null ? 1024 : Number(files[1]),
    filesOpen: Array.from(Deno.readDirSync("/proc/self/fd")).length - inheritedFiles,
    portFirst: Number(range[0]),
    portLast: Number(range[1]),
  };
}
