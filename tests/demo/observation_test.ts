import { assertEquals } from "@std/assert";
import { formatServerLine, parseServerLine, type ServerLine } from "../../demo/observation.ts";

Deno.test("parseServerLine() reads back what formatServerLine() wrote", () => {
  const lines: ServerLine[] = [{ kind: "ready" }, { kind: "flushed" }, {
    kind: "seen",
    observation: {
      id: 1,
      protocol: "tcp",
      service: "http",
      peer: { address: "198.51.100.1", port: 40000 },
      local: { address: "203.0.113.10", port: 80 },
      bytesReceived: 3,
      bytesSent: 4,
      open: false,
      request: "GET /",
    },
  }];
  for (const line of lines) assertEquals(parseServerLine(formatServerLine(line).trimEnd()), line);
});

Deno.test("parseServerLine() ignores lines of others", () => {
  for (
    const text of ["", "Warning: something", "[]", "null", '{"kind":"other"}', '{"kind":"seen"}']
  ) {
    assertEquals(parseServerLine(text), undefined);
  }
});
