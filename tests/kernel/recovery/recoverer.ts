/**
 * A process that recovers and is killed: `recoverer.ts <audit> <fired> <first> <count>` tells itself stalls
 * of so many agents from the first number on, each by a command that appends the number to `fired`.
 *
 * @module
 */
import { RecoveryService } from "#lib/recovery/service_shell.ts";
import { ghost, once, shell } from "./support.ts";

const [audit, fired, first, count] = Deno.args as [string, string, string, string];

const service = await RecoveryService.start({
  rules: [{ policy: once(shell('echo "$1" >> "$2"', "{pid}", fired)) }],
  environment: { PATH: "/usr/bin:/bin" },
  audit: { path: audit, maxBytes: 4096 },
  // More windows in less time: the kill is to hit in the middle of things.
  windowMs: 3,
}, {
  onEvents: () => {},
  onOrder: () => {},
  onTrouble: (text) => console.log(text),
});
const running = service.run();
console.log("ready");
for (let index = 0; index < Number(count); index++) {
  service.observe({ stalled: [ghost(Number(first) + index)] });
  await new Promise((resolve) => setTimeout(resolve, 1));
}
console.log("done");
await running;
