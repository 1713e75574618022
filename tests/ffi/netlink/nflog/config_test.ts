import { assertEquals, assertThrows } from "@std/assert";
import { encodeNflogBind } from "#ffi/netlink/nflog/config.ts";
import { bytesOf } from "../golden.ts";

Deno.test("encodeNflogBind() binds and configures in one message", () => {
  const { type, body } = encodeNflogBind({ group: 258 });
  assertEquals(type, 0x401);
  assertEquals(
    body,
    bytesOf(
      [
        "00000102", // nfgenmsg: the group in network order
        "05000100 01000000", // bind
        "0a000200 00000080 0200 0000", // 128 bytes, packet mode; six bytes, not eight
        "08000400 00000001", // 10 ms
        "08000500 00000020", // 32 packets
        "08000300 00010000", // 64 KiB
        "06000600 00010000", // sequence numbers
      ].join(" ").replaceAll(" ", ""),
    ),
  );
});

Deno.test("encodeNflogBind() refuses what the kernel would acknowledge and ignore", () => {
  assertThrows(
    () => encodeNflogBind({ group: 1, bufferBytes: 131_073 }),
    RangeError,
    "Cannot use an nflog buffer of 131073 bytes: want at most 131072",
  );
  assertThrows(() => encodeNflogBind({ group: 65_536 }), RangeError);
});
