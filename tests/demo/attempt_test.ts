import { assertEquals } from "@std/assert";
import { destinationKey, parseAttempt } from "../../demo/attempt.ts";

Deno.test("parseAttempt() reads what the probe prints, with and without a port", () => {
  assertEquals(parseAttempt("tcp 203.0.113.10 80: answered: 200 OK, 105 bytes"), {
    protocol: "tcp",
    address: "203.0.113.10",
    port: 80,
    outcome: "answered",
    detail: "200 OK, 105 bytes",
  });
  assertEquals(parseAttempt("icmp 2001:db8:113::66: refused: Operation not permitted"), {
    protocol: "icmp",
    address: "2001:db8:113::66",
    outcome: "refused",
    detail: "Operation not permitted",
  });
});

Deno.test("parseAttempt() leaves other lines alone", () => {
  assertEquals(parseAttempt("allowed:"), undefined);
  assertEquals(parseAttempt("tcp 203.0.113.10 80: maybe: later"), undefined);
  assertEquals(parseAttempt(""), undefined);
});

Deno.test("destinationKey() gives ICMP of both families one name and no port", () => {
  assertEquals(destinationKey({ protocol: "icmp6", address: "2001:db8::1" }), "icmp 2001:db8::1");
  assertEquals(
    destinationKey({ protocol: "icmp", address: "192.0.2.1", port: 0 }),
    "icmp 192.0.2.1",
  );
  assertEquals(
    destinationKey({ protocol: "tcp", address: "2001:db8::1", port: 80 }),
    "tcp [2001:db8::1]:80",
  );
  assertEquals(
    destinationKey({ protocol: "udp", address: "192.0.2.1", port: 53 }),
    "udp 192.0.2.1:53",
  );
});
