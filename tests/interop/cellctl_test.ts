/**
 * The original's own command line drives our server: every command, its outputs, its exit codes.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { FormationRecord } from "#lib/http/mod.ts";
import { destroyedEvent, FORMATION_ID, startedEvent, TOKENS } from "#tests/lib/http/plane.ts";
import { cellctl, type CellctlOptions, type CellctlResult } from "#tests/support/cellctl.ts";
import { type ServedPlane, withServedPlane } from "#tests/support/served_plane.ts";

const FORMATION = `name: build-1
coordinator: lead
members:
  - { id: lead }
  - { id: worker-a, authorizedBy: lead }
`;
const FILES = {
  "formation.yaml": FORMATION,
  "other.yaml": FORMATION.replace("worker-a", "worker-b"),
  "broken.yaml": "name: [",
  "empty.yaml": "a: 1",
};

function run(
  served: ServedPlane,
  args: string,
  options: Partial<CellctlOptions> = {},
): Promise<CellctlResult> {
  const given = { server: served.url, token: TOKENS.admin, files: FILES, pollMs: 20 };
  return cellctl(args.split(" "), { ...given, ...options });
}

function setStatus({ plane }: ServedPlane, status: string): void {
  const formation = plane.formationById.get(FORMATION_ID);
  plane.formationById.set(FORMATION_ID, { ...formation, status } as FormationRecord);
  plane.revision += 1;
}

Deno.test("cellctl version tells both versions, and succeeds where no server is", async () => {
  await withServedPlane(async (served) => {
    assertEquals(await run(served, "version"), {
      code: 0,
      out: `client: cellctl 0.5.6\nserver: cellos-server 9.9.9 (${served.url})\n`,
      err: "",
    });
    const away = await run(served, "version", { server: "http://127.0.0.1:4" });
    assertEquals([away.code, away.out], [0, "client: cellctl 0.5.6\n"]);
    assertStringIncludes(away.err, "transport");
  });
});

Deno.test("cellctl apply creates a formation and prints its state", async () => {
  await withServedPlane(async (served) => {
    assertEquals(await run(served, "apply -f formation.yaml"), {
      code: 0,
      out: "formation/build-1 created (state=PENDING)\n",
      err: "",
    });
    assertMatch(served.plane.commands[0], /^admit \{"name":"build-1",.*"authorizedBy":"lead"/);
    for (const file of ["broken.yaml", "empty.yaml"]) {
      assertEquals((await run(served, `apply -f ${file}`)).code, 3);
    }
    assertEquals((await run(served, "apply -f nowhere.yaml")).code, 1);
  });
});

Deno.test("cellctl get lists formations and cells in every form", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "build-1");
    served.plane.addCell("c-1", { name: "worker", formation_id: FORMATION_ID, outcome: null });
    served.plane.addCell("c-2", { name: "other" });
    const out = async (args: string) => (await run(served, args)).out;
    assertEquals(await out("get formations"), "NAME STATE\nbuild-1 PENDING\n");
    assertEquals(
      await out("get formations -o wide"),
      `NAME STATE ID\nbuild-1 PENDING ${FORMATION_ID}\n`,
    );
    assertEquals(await out("get formations -o name"), "formation/build-1\n");
    const [formation] = JSON.parse(await out("get formations -o json"));
    assertEquals([formation.id, formation.state], [FORMATION_ID, "PENDING"]);
    assertEquals(await out("get cells -o name"), "cell/worker\ncell/other\n");
    assertEquals(await out("get cells --formation build-1 -o name"), "cell/worker\n");
    assertEquals((await run(served, "get cells -o xml")).code, 1);
  });
});

Deno.test("cellctl describe shows a formation by name and by id, and a cell", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "build 1/ü");
    served.plane.addCell("c-1");
    for (const name of ["build 1/ü", FORMATION_ID]) {
      const { code, out } = await cellctl(["describe", "formation", name], {
        server: served.url,
        token: TOKENS.read,
      });
      assertEquals(code, 0);
      assertStringIncludes(out, `ID: ${FORMATION_ID}\nState: PENDING\nTenant: -\n`);
      assertStringIncludes(out, "Cells:\n  (none reported)\n");
    }
    assertEquals((await run(served, "describe cell c-1")).out, "ID: c-1\nState: running\n");
    const absent = await run(served, "describe formation nobody");
    assertEquals(absent.code, 2);
    assertMatch(absent.err, /^error: 404 Not found: Cannot find formation "nobody"\n$/);
  });
});

Deno.test("cellctl delete cancels by name and by id", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "build-1");
    for (const name of ["build-1", FORMATION_ID]) {
      assertEquals((await run(served, `delete formation ${name}`)).code, 0);
    }
    assertEquals(served.plane.commands, Array(2).fill(`cancel ${FORMATION_ID}`));
    assertEquals((await run(served, "delete formation nobody")).code, 2);
  });
});

Deno.test("cellctl logs prints a cell's events, the last of them, and follows to its end", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    plane.addCell("c-1");
    await plane.append(startedEvent("c-1"), startedEvent("c-2"), startedEvent("c-1"));
    const count = (out: string) => out.trimEnd().split("\n").length;
    assertEquals(count((await run(served, "logs c-1")).out), 2);
    assertEquals(count((await run(served, "logs c-1 --tail 1")).out), 1);
    const lines: string[] = [];
    const following = run(served, "logs c-1 -f", {
      onLine: async (line) => {
        lines.push(line);
        if (lines.length === 2) await plane.append(destroyedEvent("c-1"));
      },
    });
    assertEquals((await following).code, 0);
    assertEquals(lines.length, 3);
    assertEquals((await run(served, "logs nobody")).code, 2);
  });
});

Deno.test("cellctl events pages, resumes and follows", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    await plane.appendCells("a", "b", "c");
    const cells = (out: string) =>
      out.trimEnd().split("\n").filter((line) => line !== "")
        .map((line) => JSON.parse(line).data.cellId);
    assertEquals(cells((await run(served, "events")).out), ["a", "b", "c"]);
    assertEquals(cells((await run(served, "events --since 1 --limit 1")).out), ["b"]);
    const controller = new AbortController();
    let count = 0;
    const following = await run(served, "events -f --since 2", {
      signal: controller.signal,
      onLine: async () => {
        count += 1;
        if (count === 1) await plane.appendCells("d");
        if (count === 2) controller.abort();
      },
    });
    assertEquals([following.code, cells(following.out)], [0, ["c", "d"]]);
  });
});

Deno.test("cellctl rollout status waits for success, tells failure, and times out", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "build-1");
    const waiting = run(served, "rollout status build-1");
    for (const status of ["RUNNING", "SUCCEEDED"]) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      setStatus(served, status);
    }
    assertEquals((await waiting).code, 0);
    setStatus(served, "FAILED");
    assertEquals((await run(served, "rollout status build-1")).code, 2);
    setStatus(served, "RUNNING");
    const late = await run(served, "rollout status build-1 --timeout 0.1");
    assertEquals(late, {
      code: 2,
      out: "",
      err: "error: timed out waiting for formation/build-1\n",
    });
  });
});

Deno.test("cellctl diff tells what is absent, the same, and changed", async () => {
  await withServedPlane(async (served) => {
    const out = async (args: string) => (await run(served, args)).out;
    assertEquals(await out("diff -f formation.yaml"), "formation/build-1 would be created\n");
    served.plane.addFormation(FORMATION_ID, "build-1");
    const document = {
      name: "build-1",
      coordinator: "lead",
      members: [{ id: "lead" }, { id: "worker-a", authorizedBy: "lead" }],
    };
    const record = { ...served.plane.formationById.get(FORMATION_ID)!, document };
    served.plane.formationById.set(FORMATION_ID, record);
    assertEquals(await out("diff -f formation.yaml"), "formation/build-1 unchanged\n");
    assertEquals(await out("diff -f other.yaml"), "formation/build-1 would change\n");
  });
});

Deno.test("cellctl with a wrong token or without a server exits with 2", async () => {
  await withServedPlane(async (served) => {
    const commands = [
      "get formations",
      "get cells",
      "describe formation a",
      "delete formation a",
      "logs a",
      "events",
      "events -f",
      "rollout status a",
      "diff -f formation.yaml",
      "apply -f formation.yaml",
    ];
    for (const args of commands) {
      const wrong = await run(served, args, { token: "wrong" });
      assertEquals(wrong.code, 2, args);
      assertMatch(wrong.err, /401/, args);
      const away = await run(served, args, { server: "http://127.0.0.1:4" });
      assertEquals(away.code, 2, args);
    }
    assertEquals((await run(served, "webui")).code, 1);
  });
});
