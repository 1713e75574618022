/**
 * A client of NATS that is not celld's, in a process of its own: publishes `{subject, body}` lines
 * from a file, and ends when the server has them.
 *
 *   deno run -A nats_publish_child.ts <url> <file>
 *
 * @module
 */
import { withClient } from "./nats.ts";

const [url, path] = Deno.args;
const lines = Deno.readTextFileSync(path!).trimEnd().split("\n");
await withClient(url!, async (nc) => {
  for (const line of lines) {
    const { subject, body } = JSON.parse(line) as { subject: string; body: string };
    nc.publish(subject, body);
  }
  await nc.flush();
});
