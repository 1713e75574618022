/**
 * Tests of the UDP load balancer that hold for IPv4 and for IPv6.
 *
 * @module
 */
import { kernelTest, type Need } from "./kernel.ts";

/** Loopback of each family, with the family's name. */
export const UDP_FAMILIES = [["IPv4", "127.0.0.1"], ["IPv6", "::1"]] as const;

/** Registers a test for each family; `run` has the family's loopback address. */
export function bothFamilies(
  name: string,
  run: (address: string) => Promise<void>,
  needs: readonly Need[] = [],
): void {
  for (const [family, address] of UDP_FAMILIES) {
    kernelTest(`${name} (${family})`, needs, () => run(address));
  }
}

/** An address and a port as a document has them. */
export function placeText(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
