import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseEventsOption, parseTimeout } from "#lib/cli/commands/run.ts";
import type { CliPorts, RunCellOptions, RunCellResult, SpecOverrides } from "#lib/daemon/mod.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { decisionEvent, eventOf, fakeIo, type FakeIoOptions, run } from "./fake_io.ts";

const SPEC = { id: "demo", run: { limits: { gracefulShutdownSeconds: 5 } } } as never;
const EXITED: RunCellResult = { exitCode: 0, reason: "exited", cellId: "demo", runId: "run-1" };
const bytes = (text: string) => new TextEncoder().encode(text);

function ports(
  play: (options: RunCellOptions) => RunCellResult | Promise<RunCellResult>,
  seen: SpecOverrides[] = [],
): Partial<CliPorts> {
  return {
    parseSpec: (_text, overrides) => {
      seen.push(overrides);
      return Promise.resolve(SPEC);
    },
    runCell: async (options) => await play(options),
  };
}

const FILES: FakeIoOptions = { files: { "cell.yaml": "spec" } };

Deno.test("run prints the workload's output as it is and each decision on stderr", async () => {
  const { code, out, err } = await run(
    ["run", "cell.yaml"],
    ports(({ onOutput, onEvent }) => {
      onOutput("stdout", bytes("hello\n"));
      onEvent(decisionEvent(), 1);
      onEvent(decisionEvent({ decision: "allow", reasonCode: "nft_log_accept" }), 2);
      onOutput("stderr", bytes("warning\n"));
      return { ...EXITED, exitCode: 7 };
    }),
    FILES,
  );
  assertEquals(code, 7);
  assertEquals(out, "hello\n");
  const lines = err.split("\n");
  assertMatch(lines[0], /^14:02:11\.532Z {2}deny .*no rule allows it \(nft_log_drop\)$/);
  assertMatch(lines[1], /allow/);
  assertEquals(lines[2], "warning");
  assertEquals(lines[3], "celld: demo exited with 7 after 0ms; 1 allowed, 1 denied");
});

Deno.test("run --quiet prints only what the workload prints, and what was lost", async () => {
  const quiet = await run(
    ["run", "-q", "cell.yaml"],
    ports(({ onOutput, onEvent }) => {
      onOutput("stderr", bytes("no newline"));
      onEvent(decisionEvent(), 1);
      return EXITED;
    }),
    FILES,
  );
  assertEquals([quiet.out, quiet.err], ["", "no newline"]);
  const lossy = await run(
    ["run", "-q", "cell.yaml"],
    ports(({ onEvent }) => {
      onEvent(eventOf(EVENT_TYPES.flowGap, { cellId: "demo", lost: 4, cause: "overrun" }), 1);
      return EXITED;
    }),
    FILES,
  );
  assertStringIncludes(lossy.err, "4 packets of cell");
});

Deno.test("a decision never begins in the middle of a line of the workload's", async () => {
  const { err } = await run(
    ["run", "cell.yaml"],
    ports(({ onOutput, onEvent }) => {
      onOutput("stderr", bytes("half"));
      onEvent(decisionEvent(), 1);
      return EXITED;
    }),
    FILES,
  );
  assertMatch(err, /^half\n14:02/);
});

Deno.test("on a terminal that both streams share, half a line of stdout is ended first", async () => {
  const { err } = await run(
    ["run", "cell.yaml"],
    ports(({ onOutput, onEvent }) => {
      onOutput("stdout", bytes("half"));
      onEvent(decisionEvent(), 1);
      onEvent(decisionEvent(), 2);
      return EXITED;
    }),
    { ...FILES, isTerminal: true, env: { NO_COLOR: "1" } },
  );
  assertMatch(err, /^\n14:02[^\n]*\n14:02/);
});

Deno.test("run --events jsonl writes every event as a JSON line in place of decision lines", async () => {
  const started = eventOf(EVENT_TYPES.cellStarted, { cellId: "demo" });
  const { out, err } = await run(
    ["run", "cell.yaml", "--events", "jsonl"],
    ports(({ onEvent, onOutput }) => {
      onOutput("stdout", bytes("out\n"));
      onEvent(started, 1);
      onEvent(decisionEvent(), 2);
      return EXITED;
    }),
    FILES,
  );
  assertEquals(out, "out\n");
  assertEquals(err.trimEnd().split("\n").map((line) => JSON.parse(line)), [
    started,
    decisionEvent(),
  ]);
});

Deno.test("run --events jsonl:PATH writes events to a file beside the decision lines", async () => {
  const io = fakeIo(FILES);
  const { err } = await run(
    ["run", "cell.yaml", "--events", "jsonl:/tmp/e"],
    ports(({ onEvent }) => {
      onEvent(decisionEvent(), 1);
      return EXITED;
    }),
    io,
  );
  assertEquals(JSON.parse(io.appended.get("/tmp/e") ?? ""), decisionEvent());
  assertMatch(err, /deny/);
});

Deno.test("a file of events that breaks is told once and does not end the run", async () => {
  const io = fakeIo(FILES);
  io.openAppend = () => ({
    write: () => {
      throw new Error("No space left on device");
    },
    close: () => {},
  });
  const { code, err } = await run(
    ["run", "cell.yaml", "--events", "jsonl:/tmp/e"],
    ports(({ onEvent }) => {
      onEvent(decisionEvent(), 1);
      onEvent(decisionEvent(), 2);
      return EXITED;
    }),
    io,
  );
  assertEquals(code, 0);
  assertEquals(err.match(/Cannot write events/g)?.length, 1);
});

Deno.test("run --json ends with the result as a JSON line", async () => {
  const { err } = await run(
    ["run", "cell.yaml", "--json"],
    ports(() => ({ ...EXITED, exitCode: 137, reason: "oom" })),
    FILES,
  );
  assertEquals(JSON.parse(err), {
    result: { ...EXITED, exitCode: 137, reason: "oom", durationMs: 0 },
  });
});

Deno.test("what comes after --, the name and the timeout override the spec", async () => {
  const seen: SpecOverrides[] = [];
  const args = ["run", "cell.yaml", "--name", "b", "--timeout", "90s", "--", "sh", "-c", "x", "--"];
  await run(args, ports(() => EXITED, seen), FILES);
  assertEquals(seen, [{ argv: ["sh", "-c", "x", "--"], id: "b", timeoutSeconds: 90 }]);
});

Deno.test("options may stand before and after the spec, and the program's own stay its own", async () => {
  const seen: SpecOverrides[] = [];
  await run(
    ["run", "-q", "cell.yaml", "--", "prog", "-q", "--name", "x"],
    ports(() => EXITED, seen),
    FILES,
  );
  assertEquals(seen, [{ argv: ["prog", "-q", "--name", "x"] }]);
});

Deno.test("a spec comes from stdin with -, which the workload then cannot have", async () => {
  const texts: string[] = [];
  const stdinPorts: Partial<CliPorts> = {
    ...ports(() => EXITED),
    parseSpec: (text) => {
      texts.push(text);
      return Promise.resolve(SPEC);
    },
  };
  assertEquals((await run(["run", "-"], stdinPorts, { stdin: "a spec" })).code, 0);
  assertEquals(texts, ["a spec"]);
  const both = await run(["run", "-", "-i"], stdinPorts, { stdin: "a spec" });
  assertEquals(both.code, 2);
  assertStringIncludes(both.err, "from stdin");
});

Deno.test("the workload has our stdin only where it was given", async () => {
  const modes: string[] = [];
  const play = ports(({ stdinMode }) => {
    modes.push(stdinMode);
    return EXITED;
  });
  await run(["run", "cell.yaml"], play, FILES);
  await run(["run", "cell.yaml", "--stdin"], play, FILES);
  assertEquals(modes, ["null", "inherit"]);
});

Deno.test("a spec that runs nothing is refused", async () => {
  const { code, err } = await run(
    ["run", "cell.yaml"],
    { parseSpec: () => Promise.resolve({ id: "demo" } as never) },
    FILES,
  );
  assertEquals(code, 2);
  assertStringIncludes(err, "no spec.run.argv");
});

Deno.test("every problem of a spec is printed with path, found and wanted, and nothing starts", async () => {
  const error = Object.assign(new SyntaxError("Cannot read spec"), {
    name: "SpecError",
    problems: [
      { path: "spec.authority.egressRules[1].port", found: '"https"', wanted: "a port" },
      {
        path: "spec.rnu",
        found: "an unknown field",
        wanted: "a known one",
        suggestion: "did you mean run?",
      },
    ],
  });
  const refuse = { parseSpec: () => Promise.reject(error) };
  const { code, out, err } = await run(["run", "cell.yaml"], refuse, FILES);
  assertEquals([code, out], [2, ""]);
  assertEquals(
    err,
    "celld: The spec has 2 problems; nothing was started\n" +
      '  spec.authority.egressRules[1].port\n    found   "https"\n    wanted  a port\n' +
      "  spec.rnu\n    found   an unknown field\n    wanted  a known one\n    did you mean run?\n",
  );
  const json = await run(["run", "cell.yaml", "--json"], refuse, FILES);
  assertEquals(JSON.parse(json.err).error.problems, error.problems);
});

Deno.test("a first signal stops the cell and says how long that may take, a second one kills it", async () => {
  const io = fakeIo(FILES);
  const reasons: unknown[] = [];
  const { code, err } = await run(
    ["run", "cell.yaml"],
    ports(({ signal, killSignal }) => {
      signal.addEventListener("abort", () => reasons.push(signal.reason.message));
      killSignal?.addEventListener("abort", () => reasons.push("kill"));
      io.raise("SIGINT");
      io.raise("SIGINT");
      return { ...EXITED, exitCode: 143, reason: "stopped" };
    }),
    io,
  );
  assertEquals(code, 143);
  assertEquals(reasons, ["Stopped by SIGINT", "kill"]);
  assertStringIncludes(
    err,
    "celld: SIGINT: stopping the cell (5 s; once more to kill it)",
  );
  assertStringIncludes(err, "celld: killing it");
  assertEquals(io.listenerCount(), 0);
});

Deno.test("when the reader of the output goes away, the cell is stopped", async () => {
  let aborted = false;
  const { code } = await run(
    ["run", "cell.yaml"],
    ports(({ onOutput, signal }) => {
      onOutput("stdout", bytes("first\n"));
      onOutput("stdout", bytes("second\n"));
      onOutput("stdout", bytes("third\n"));
      aborted = signal.aborted;
      return { ...EXITED, exitCode: 143, reason: "stopped" };
    }),
    { ...FILES, readerGoneAfterBytes: 1 },
  );
  assertEquals([code, aborted], [141, true]);
});

Deno.test("an error of the run is one line, 125, and leaves no signal handler", async () => {
  const io = fakeIo(FILES);
  const { code, err } = await run(
    ["run", "cell.yaml"],
    {
      ...ports(() => EXITED),
      runCell: () =>
        Promise.reject(Object.assign(new Error("Cannot unshare: EPERM"), { code: "EPERM" })),
    },
    io,
  );
  assertEquals(code, 125);
  assertMatch(err, /^celld: Cannot unshare: EPERM\n {2}run as root[^\n]*\n$/);
  assertEquals(io.listenerCount(), 0);
});

Deno.test("--timeout takes durations and seconds, at least one", () => {
  assertEquals(["30", "30s", "5m", "1h30m", "1500ms"].map(parseTimeout), [30, 30, 300, 5400, 2]);
  for (const text of ["", "0", "10ms", "soon", "-1"]) {
    let refused = false;
    try {
      parseTimeout(text);
    } catch (error) {
      refused = (error as Error).name === "UsageError";
    }
    assertEquals(refused, true, text);
  }
});

Deno.test("--events takes jsonl and jsonl:PATH and nothing else", async () => {
  assertEquals(parseEventsOption("jsonl"), { isOnStderr: true, path: undefined });
  assertEquals(parseEventsOption("jsonl:/dev/fd/3"), { isOnStderr: false, path: "/dev/fd/3" });
  for (const text of ["json", "jsonl:", "-"]) {
    assertEquals((await run(["run", "cell.yaml", "--events", text], {}, FILES)).code, 2);
  }
});

Deno.test("a warning is told even where all else is quiet, and as JSON where that is asked for", async () => {
  const warn = ports(({ onWarning }) => {
    onWarning?.("The event log refuses");
    return EXITED;
  });
  assertEquals(
    (await run(["run", "-q", "cell.yaml"], warn, FILES)).err,
    "celld: The event log refuses\n",
  );
  const { err } = await run(["run", "cell.yaml", "--events", "jsonl"], warn, FILES);
  assertEquals(JSON.parse(err), { warning: "The event log refuses" });
});

Deno.test("the kernel's code in the text of an error is enough for the hint", async () => {
  const { err } = await run(["run", "cell.yaml"], {
    ...ports(() => EXITED),
    runCell: () =>
      Promise.reject(new Error("Cannot start the cell at netns: Cannot unshare: EPERM")),
  }, FILES);
  assertStringIncludes(err, "run as root");
});
