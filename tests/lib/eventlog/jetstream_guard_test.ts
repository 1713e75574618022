/**
 * Which errors of sockets are nobody's.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { guardSockets, isCut } from "#lib/eventlog/jetstream_guard_adapter.ts";

function errorOf(members: Record<string, unknown>, message = "x"): Error {
  return Object.assign(new Error(message), members);
}

Deno.test("guardSockets: a cut connection and a refused certificate end nothing, all else does", () => {
  assertEquals(isCut(errorOf({ code: "ECONNRESET", syscall: "read", errno: -104 })), true);
  assertEquals(isCut(errorOf({ code: "EPIPE", syscall: "write" })), true);
  assertEquals(isCut(errorOf({ code: "ECONNRESET" })), false);
  const told: string[] = [];
  const letGo = guardSockets((error) => told.push(error.message));
  const isTaken = (error: unknown) =>
    !globalThis.dispatchEvent(new ErrorEvent("error", { error, cancelable: true }));
  assertEquals(isTaken(errorOf({ code: "ECONNRESET", syscall: "read" })), true);
  assertEquals(isTaken(errorOf({}, "received fatal alert: BadCertificate")), true);
  letGo();
  assertEquals(isTaken(errorOf({}, "received fatal alert: again")), true);
  // A reset may come after the last link was closed.
  assertEquals(isTaken(errorOf({ code: "ECONNRESET", syscall: "read" })), true);
  assertEquals(told, ["received fatal alert: BadCertificate"]);
  const listened: unknown[] = [];
  const listen = (event: ErrorEvent) => {
    listened.push(event.defaultPrevented);
    event.preventDefault();
  };
  globalThis.addEventListener("error", listen);
  globalThis.dispatchEvent(new ErrorEvent("error", { error: errorOf({}), cancelable: true }));
  globalThis.removeEventListener("error", listen);
  assertEquals(listened, [false]);
});
