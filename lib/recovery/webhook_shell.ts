/**
 * Alerts by webhook: a POST of JSON to the address that the operator named, tried three times, few at a
 * time; what finds the queue full is told and left out.
 *
 * @module
 */
import { BoundedQueue } from "#lib/base/mod.ts";
import type { RecoveryOutput } from "./outputs.ts";

/** Alerts that wait. */
export const WEBHOOKS_WAITING_MAX = 256;
/** Alerts on their way at a time. */
const WEBHOOKS_AT_ONCE = 4;
const TRIES = 3;
const TRY_TIMEOUT_MS = 5000;

/** An alert. */
export type WebhookOrder = RecoveryOutput & { kind: "webhook" };

/** See the module. */
export class Webhooks {
  readonly #waiting = new BoundedQueue<WebhookOrder>(WEBHOOKS_WAITING_MAX);
  readonly #sending = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  readonly #onTrouble: (text: string) => void;

  /** @param onTrouble Told what was not delivered. */
  constructor(onTrouble: (text: string) => void) {
    this.#onTrouble = onTrouble;
  }

  /** Sends an alert, now or when others are through. */
  send(order: WebhookOrder): void {
    if (!this.#waiting.push(order)) {
      this.#onTrouble(`The alert about agent ${order.facts.pid} was not sent: too many wait`);
    }
    this.#next();
  }

  /** Gives up what is on its way. */
  async stop(): Promise<void> {
    this.#abort.abort();
    while (this.#waiting.shift() !== undefined);
    await Promise.all(this.#sending);
  }

  #next(): void {
    while (this.#sending.size < WEBHOOKS_AT_ONCE) {
      const order = this.#waiting.shift();
      if (order === undefined) return;
      const sending: Promise<void> = this.#deliver(order).finally(() => {
        this.#sending.delete(sending);
        this.#next();
      });
      this.#sending.add(sending);
    }
  }

  async #deliver(order: WebhookOrder): Promise<void> {
    let reason = "";
    for (let attempt = 1; attempt <= TRIES; attempt++) {
      if (this.#abort.signal.aborted) return;
      const answer = await this.#post(order);
      if (answer === undefined) return;
      reason = answer;
    }
    if (this.#abort.signal.aborted) return;
    this.#onTrouble(`The alert about agent ${order.facts.pid} was not taken: ${reason}`);
  }

  /** Returns why it was not taken. */
  async #post({ url, facts, attempt }: WebhookOrder): Promise<string | undefined> {
    const { pid, generation, name, cell, label, origin, lastNs } = facts;
    const body = JSON.stringify({
      kind: "stall",
      ...{ pid, name, cell, label, origin, attempt },
      generation: `${generation}`,
      lastNs: `${lastNs}`,
    });
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
        redirect: "manual",
        signal: AbortSignal.any([this.#abort.signal, AbortSignal.timeout(TRY_TIMEOUT_MS)]),
      });
      await response.body?.cancel();
      return response.ok ? undefined : `status ${response.status}`;
    } catch (cause) {
      return cause instanceof Error ? cause.message : `${cause}`;
    }
  }
}
