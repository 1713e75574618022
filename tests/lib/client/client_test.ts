import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import {
  ApiClient,
  ApiError,
  EventsExpiredError,
  parseEndpoint,
  RemoteLog,
  ServerUnreachableError,
  UnexpectedAnswerError,
} from "#lib/client/mod.ts";
import { refuse } from "#lib/http/mod.ts";
import { FORMATION_ID, startedEvent, TOKENS } from "#tests/lib/http/plane.ts";
import { type ServedPlane, withServedPlane } from "#tests/support/served_plane.ts";

function clientOf({ url }: Pick<ServedPlane, "url">, token: string = TOKENS.admin): ApiClient {
  return new ApiClient(parseEndpoint(url), { token });
}

/** A server that answers every request with the same. */
async function withAnswer(
  answer: () => Response,
  use: (client: ApiClient) => Promise<void>,
): Promise<void> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer);
  const client = clientOf({ url: `http://127.0.0.1:${server.addr.port}` });
  try {
    await use(client);
  } finally {
    client.close();
    await server.shutdown();
  }
}

Deno.test("the client asks over TCP with a token and over the Unix socket without one", async () => {
  await withServedPlane(async (served) => {
    const tcp = clientOf(served);
    const unix = new ApiClient(parseEndpoint(`unix:${served.socketPath}`));
    for (const client of [tcp, unix]) {
      assertEquals((await client.version()).version, "9.9.9");
      client.close();
    }
  });
});

Deno.test("a problem becomes an error with its kind, its detail and what to do", async () => {
  await withServedPlane(async (served) => {
    const client = clientOf(served, "wrong");
    const wrong = await assertRejects(() => client.version(), ApiError);
    assertEquals([wrong.problem.status, wrong.problem.kind], [401, "unauthorized"]);
    assertEquals(wrong.message, "Cannot ask for the version: invalid token");
    assert(wrong.hint?.includes("--token"));
    client.close();

    const reader = clientOf(served, TOKENS.read);
    const scope = await assertRejects(() => reader.deleteFormation("a"), ApiError);
    assertEquals([scope.problem.kind, scope.exitCode], ["forbidden", 3]);
    const absent = await assertRejects(() => reader.cell("nobody"), ApiError);
    assertEquals(absent.message, 'Cannot find cell "nobody"');
    reader.close();
  });
});

Deno.test("problems of a specification come with their places", async () => {
  await withServedPlane(async (served) => {
    const problem = { path: "spec.id", found: "1", wanted: "a text" };
    served.plane.refusal = refuse("spec-invalid", "Cannot use it", { errors: [problem] });
    const client = clientOf(served);
    const error = await assertRejects(() => client.runCell("spec: 1"), ApiError);
    assertEquals(error.problems, [problem]);
    client.close();
  });
});

Deno.test("a server that is not there is named, with the reason and what to do", async () => {
  for (const name of ["http://127.0.0.1:4", "unix:/nowhere/api.sock"]) {
    const client = new ApiClient(parseEndpoint(name), { token: "t" });
    const error = await assertRejects(() => client.version(), ServerUnreachableError);
    assert(error.message.startsWith(`Cannot reach celld at ${name}: `), error.message);
    assertEquals(error.exitCode, 4);
    assert(error.hint.includes("celld serve"));
    client.close();
  }
});

Deno.test("what answers and is no celld is told as such, whatever it says", async () => {
  for (const text of ["<html>", "null", "[]", "{}", '{"formations":[7]}']) {
    await withAnswer(() => new Response(text), async (client) => {
      await assertRejects(() => client.version(), UnexpectedAnswerError);
      await assertRejects(() => Array.fromAsync(client.formations()), UnexpectedAnswerError);
    });
  }
  await withAnswer(() => new Response("no", { status: 502 }), async (client) => {
    const error = await assertRejects(() => client.version(), ApiError);
    assertEquals(error.message, "Cannot ask for the version: no");
    assertEquals(error.problem.kind, "http-502");
  });
});

Deno.test("lists are read page by page, up to a limit", async () => {
  await withServedPlane(async (served) => {
    const ids = Array.from({ length: 2300 }, (_, index) => `c-${String(index).padStart(4, "0")}`);
    for (const id of ids) served.plane.addCell(id);
    const client = clientOf(served);
    const all = await Array.fromAsync(client.cells(), ({ id }) => id);
    assertEquals(all, ids);
    const some = await Array.fromAsync(client.cells({ limit: 1500 }), ({ id }) => id);
    assertEquals(some, ids.slice(0, 1500));
    client.close();
  });
});

Deno.test("a formation is found by its id and by a name with any characters", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "a/b ü?");
    const client = clientOf(served);
    assertEquals((await client.formation(FORMATION_ID)).name, "a/b ü?");
    assertEquals((await client.formation("a/b ü?")).id, FORMATION_ID);
    client.close();
  });
});

Deno.test("a cell's output comes with its streams, byte by byte", async () => {
  await withServedPlane(async (served) => {
    served.plane.addCell("c-1");
    served.plane.output = [
      { stream: "stdout", bytes: new Uint8Array([0, 255, 10]) },
      { stream: "stderr", bytes: new TextEncoder().encode("oh\n") },
    ];
    const client = clientOf(served);
    const { signal } = new AbortController();
    const parts = await Array.fromAsync(client.output("c-1", { follow: false, signal }));
    assertEquals(parts, served.plane.output);
    client.close();
  });
});

Deno.test("following a cell's output ends quietly with the signal", async () => {
  await withServedPlane(async (served) => {
    served.plane.addCell("c-1");
    served.plane.output = [{ stream: "stdout", bytes: new Uint8Array([1]) }];
    const client = clientOf(served);
    const controller = new AbortController();
    let count = 0;
    for await (
      const _ of client.output("c-1", { follow: true, signal: controller.signal })
    ) {
      count++;
      controller.abort();
    }
    assertEquals(count, 1);
    client.close();
  });
});

Deno.test("a remote log is read and followed as a local one", async () => {
  await withServedPlane(async (served) => {
    await served.plane.appendCells("a", "b", "c");
    const log = new RemoteLog(clientOf(served));
    assertEquals([await log.firstSeq(), await log.lastSeq()], [1, 3]);
    assertEquals((await log.read({ since: 1 })).map(({ seq }) => seq), [2, 3]);
    assertEquals((await log.read({ limit: 2 })).map(({ seq }) => seq), [1, 2]);
    const controller = new AbortController();
    const seqs: number[] = [];
    for await (const { seq } of log.subscribe({ since: 1, signal: controller.signal })) {
      seqs.push(seq);
      if (seq === 3) await served.plane.append(startedEvent("d"));
      if (seq === 4) controller.abort();
    }
    assertEquals(seqs, [2, 3, 4]);
    await log.close();
  });
});

Deno.test("a cursor that retention overtook is told with where the log begins", async () => {
  await withServedPlane(async (served) => {
    await served.plane.appendCells("a", "b", "c", "d");
    await served.plane.log.dropBefore(4);
    // A server that was there before still has them in memory.
    await served.stop();
    await served.restart();
    const log = new RemoteLog(clientOf(served));
    const read = await assertRejects(() => log.read({ since: 1 }), EventsExpiredError);
    assertEquals([read.name, read.firstSeq], ["CursorExpiredError", 4]);
    await assertRejects(async () => {
      for await (const _ of log.subscribe({ since: 1 })) break;
    }, EventsExpiredError);
    await log.close();
  });
});

Deno.test("a follower sees every event once across restarts of the server", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    await plane.appendCells("a");
    const client = clientOf(served);
    const controller = new AbortController();
    const seqs: number[] = [];
    const following = (async () => {
      const options = { since: 0, signal: controller.signal };
      for await (const { seq } of client.followEvents(options)) {
        seqs.push(seq);
        if (seq >= 31) controller.abort();
      }
    })();
    for (let round = 0; round < 3; round++) {
      await plane.appendCells(...Array.from({ length: 5 }, (_, n) => `x-${round}-${n}`));
      await served.stop();
      await plane.appendCells(...Array.from({ length: 5 }, (_, n) => `y-${round}-${n}`));
      await served.restart();
    }
    await following;
    assertEquals(seqs, Array.from({ length: 31 }, (_, index) => index + 1));
    client.close();
  });
});

Deno.test("a follower that is refused says why, and one whose server is gone gives up", async () => {
  await withServedPlane(async (served) => {
    const { signal } = new AbortController();
    const stranger = clientOf(served, "wrong");
    const refused = await assertRejects(
      async () => await stranger.followEvents({ since: 0, signal }).next(),
      ApiError,
    );
    assertEquals(refused.problem.kind, "unauthorized");
    stranger.close();
    const client = clientOf(served);
    await served.stop();
    const failure = await client.followEvents({ since: 0, signal, awayMs: 0 }).next()
      .catch((error) => error);
    assertInstanceOf(failure, ServerUnreachableError);
    client.close();
    await served.restart();
  });
});

Deno.test("a cursor ahead of the log is refused, not waited for", async () => {
  await withServedPlane(async (served) => {
    const client = clientOf(served);
    const { signal } = new AbortController();
    const error = await assertRejects(
      async () => await client.followEvents({ since: 99, signal }).next(),
      ApiError,
    );
    assertEquals(error.problem.kind, "bad-cursor");
    client.close();
  });
});
