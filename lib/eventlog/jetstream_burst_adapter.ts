/**
 * A burst: messages published in one go, with one wait for all answers, and what the answers mean.
 *
 * @module
 */
import { createInbox, headers, type Msg, type Subscription } from "@nats-io/transport-node";
import { streamEnds } from "./jetstream_follow_adapter.ts";
import {
  type BurstOutcome,
  type Failure,
  type Item,
  judgeOutcome,
  type Publication,
} from "./jetstream_items.ts";
import type { Session } from "./jetstream_link_adapter.ts";

/** Publishes items and notes their numbers; answers with the first failure. */
export async function sendItems(
  session: Session,
  items: readonly Item[],
  timeoutMs: number,
): Promise<Failure | undefined> {
  if (items.length === 0) return undefined;
  const outcomes = await publishBurst(session, items, timeoutMs);
  const duplicates: Item[] = [];
  let failure: Failure | undefined;
  for (const [index, outcome] of outcomes.entries()) {
    const item = items[index];
    const judged = judgeOutcome(item, outcome, session.stream);
    if ("reason" in judged) {
      failure ??= judged;
    } else {
      item.seq = judged.seq;
      if (judged.duplicate) duplicates.push(item);
    }
  }
  if (duplicates.length > 0) await checkDuplicates(session, duplicates);
  return failure;
}

/** The broker remembers ids of messages that were dropped since: those are free again. */
async function checkDuplicates(session: Session, duplicates: readonly Item[]): Promise<void> {
  try {
    const { firstSeq } = await streamEnds(session);
    for (const item of duplicates) {
      if (item.seq! >= firstSeq) continue;
      item.messageId = `${item.id} after ${item.seq}`;
      delete item.seq;
    }
  } catch {
    // Asked again with the next burst, which sends them again.
    for (const item of duplicates) delete item.seq;
  }
}

/**
 * Publishes messages in one go and waits for all answers. Never rejects: what was not answered
 * in time, or before the connection broke, is told as a failure of its own.
 */
function publishBurst(
  session: Session,
  publications: readonly Publication[],
  timeoutMs: number,
): Promise<BurstOutcome[]> {
  const { promise, resolve } = Promise.withResolvers<BurstOutcome[]>();
  const outcomes: (BurstOutcome | undefined)[] = publications.map(() => undefined);
  let missing = publications.length;
  const inbox = createInbox();
  let subscription: Subscription | undefined;
  const finish = (reason: string) => {
    clearTimeout(timer);
    session.over.removeEventListener("abort", onOver);
    subscription?.unsubscribe();
    resolve(outcomes.map((outcome) => outcome ?? { failure: reason }));
  };
  const onOver = () => finish("the connection broke");
  const timer = setTimeout(() => finish("the broker did not answer in time"), timeoutMs);
  const onAnswer = (message: Msg) => {
    const index = Number(message.subject.slice(inbox.length + 1));
    if (!(index in outcomes) || outcomes[index] !== undefined) return;
    // Status 503: nobody listens on the subject, as long as the stream has no leader.
    outcomes[index] = message.headers?.code === 503
      ? { failure: "the stream has no leader" }
      : { answer: message.string() };
    if (--missing === 0) finish("");
  };
  session.over.addEventListener("abort", onOver, { once: true });
  if (session.over.aborted) return onOver(), promise;
  try {
    subscription = session.nc.subscribe(`${inbox}.*`, {
      callback: (error, message) => error === null ? onAnswer(message) : finish(error.message),
    });
    for (const [index, { subject, messageId, body }] of publications.entries()) {
      const hdrs = headers();
      hdrs.set("Nats-Msg-Id", messageId);
      session.nc.publish(subject, body, { reply: `${inbox}.${index}`, headers: hdrs });
    }
  } catch (error) {
    finish((error as Error).message);
  }
  return promise;
}
