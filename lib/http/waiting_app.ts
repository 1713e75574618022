/**
 * What is answered while a server waits for its log: that it lives, and that it is not ready and
 * why. Nothing else is answered, and no token is asked for, as for the probes it stands in for.
 *
 * @module
 */
import { jsonAnswer } from "./answers.ts";
import { ProblemError, problemResponse } from "./problem.ts";

/** How it stands, told by whoever waits. */
export interface WaitingView {
  /** Why, each a short sentence. */
  readonly reasons: readonly string[];
  /** Events that wait for the log. */
  readonly logBehind: number;
  /** More members of the body. */
  readonly members: Readonly<Record<string, unknown>>;
}

/** Has the methods of the app that a server needs. */
export class WaitingApp {
  readonly #view: () => WaitingView;

  /** Asks for the view with each request. */
  constructor(view: () => WaitingView) {
    this.#view = view;
  }

  /** There is nothing to start. */
  start(): Promise<void> {
    return Promise.resolve();
  }

  /** There is nothing to stop. */
  stop(): Promise<void> {
    return Promise.resolve();
  }

  /** Answers a request. */
  fetch(request: Request): Promise<Response> {
    const { reasons, logBehind, members } = this.#view();
    if (request.method === "GET" && new URL(request.url).pathname === "/healthz") {
      return Promise.resolve(jsonAnswer(JSON.stringify({ status: "ok", logBehind })));
    }
    const problem = new ProblemError("not-ready", reasons.join("; "), {
      members: { reasons, logBehind, ...members },
    });
    return Promise.resolve(problemResponse(problem, crypto.randomUUID()));
  }
}
