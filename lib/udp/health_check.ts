/**
 * What a health probe sends and what it wants to hear: a TCP connection, bytes with an expected
 * answer, or a DNS query.
 *
 * Pure. What an operator writes wrong is thrown as {@link HealthCheckError} when it is compiled;
 * whatever a backend answers is judged by value.
 *
 * Source: RFC 1035 section 4.1 (DNS messages).
 *
 * @module
 */
import { encodeUtf8, fromHex, sameBytes } from "#lib/base/mod.ts";

/** Bytes as an operator writes them. */
export type ProbeBytes = { readonly text: string } | { readonly hex: string };

/** What an answer must be. */
export type ProbeExpect =
  /** Any answer will do. */
  | { readonly any: true }
  /** The answer holds these bytes. */
  | { readonly contains: ProbeBytes }
  /** The answer is these bytes. */
  | { readonly equals: ProbeBytes }
  /** The answer, each byte taken as one character (Latin-1), matches. */
  | { readonly matches: string };

/** How a backend is asked. */
export type HealthProbe =
  /** A TCP connection can be made. */
  | { readonly by: "tcp"; readonly port?: number }
  /** A datagram is answered as expected. */
  | {
    readonly by: "udp";
    readonly port?: number;
    readonly send: ProbeBytes;
    readonly expect: ProbeExpect;
  }
  /** A DNS query is answered. */
  | {
    readonly by: "dns";
    readonly port?: number;
    /** @default {"."} */
    readonly name?: string;
    /** @default {"NS"} */
    readonly type?: DnsType;
    /** Answer codes that count as healthy. @default {["NOERROR", "NXDOMAIN"]} */
    readonly codes?: readonly DnsCode[];
  }
  /** Not asked: up until its traffic says otherwise. */
  | { readonly by: "none" };

/** Numbers of record types. */
export const DNS_TYPES = { A: 1, NS: 2, SOA: 6, TXT: 16, AAAA: 28 } as const;
/** Numbers of answer codes. */
export const DNS_CODES = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
} as const;
/** Record types that can be asked for. */
export type DnsType = keyof typeof DNS_TYPES;
/** Answer codes by name. */
export type DnsCode = keyof typeof DNS_CODES;

const LABEL_BYTES_MAX = 63;
const NAME_BYTES_MAX = 255;
const DNS_HEADER_BYTES = 12;
const CLASS_IN = 1;
/** The longest probe; it has to go without fragments. */
const SEND_BYTES_MAX = 1200;

/** A probe is written in a way that cannot be carried out. */
export class HealthCheckError extends TypeError {
  /** The class's name. */
  override name = "HealthCheckError";
}

/** A probe made ready. */
export type CompiledProbe =
  | { readonly by: "tcp"; readonly port: number | undefined }
  | {
    readonly by: "udp";
    readonly port: number | undefined;
    /** The datagram of one probe; `nonce` (16 bits) makes DNS answers tell apart. */
    request(nonce: number): Uint8Array<ArrayBuffer>;
    /** Why an answer to it is not good; absent where it is. */
    judge(answer: Uint8Array, nonce: number): string | undefined;
  }
  | { readonly by: "none" };

/** Makes a probe ready. Throws {@link HealthCheckError}. */
export function compileProbe(probe: HealthProbe): CompiledProbe {
  switch (probe.by) {
    case "none":
      return { by: "none" };
    case "tcp":
      return { by: "tcp", port: probe.port };
    case "udp": {
      const bytes = probeBytes(probe.send, "send");
      if (bytes.length > SEND_BYTES_MAX) {
        throw new HealthCheckError(
          `Cannot probe with ${bytes.length} bytes: want at most ${SEND_BYTES_MAX}`,
        );
      }
      const judge = compileExpect(probe.expect);
      return { by: "udp", port: probe.port, request: () => bytes.slice(), judge };
    }
    case "dns": {
      const question = dnsQuestion(probe.name ?? ".", probe.type ?? "NS");
      const names = probe.codes ?? (["NOERROR", "NXDOMAIN"] as const);
      const codes = names.map((name) => DNS_CODES[name]);
      return {
        by: "udp",
        port: probe.port,
        request: (nonce) => dnsQuery(question, nonce),
        judge: (answer, nonce) => judgeDns(answer, question, nonce, codes),
      };
    }
  }
}

function probeBytes(bytes: ProbeBytes, what: string): Uint8Array<ArrayBuffer> {
  if ("text" in bytes) return encodeUtf8(bytes.text);
  const decoded = fromHex(bytes.hex.replaceAll(/[\s:]/g, ""));
  if (decoded === undefined) {
    throw new HealthCheckError(`Cannot ${what} ${JSON.stringify(bytes.hex)}: it is not hex`);
  }
  return decoded;
}

function compileExpect(expect: ProbeExpect): (answer: Uint8Array) => string | undefined {
  if ("any" in expect) return () => undefined;
  if ("equals" in expect) {
    const wanted = probeBytes(expect.equals, "expect");
    return (answer) => sameBytes(answer, wanted) ? undefined : "another answer than expected";
  }
  if ("contains" in expect) {
    const wanted = latin1(probeBytes(expect.contains, "expect"));
    return (answer) =>
      latin1(answer).includes(wanted) ? undefined : "the answer lacks what is expected";
  }
  let pattern: RegExp;
  try {
    pattern = new RegExp(expect.matches, "s");
  } catch (cause) {
    const reason = `it is no regular expression`;
    throw new HealthCheckError(`Cannot expect ${JSON.stringify(expect.matches)}: ${reason}`, {
      cause,
    });
  }
  return (answer) => pattern.test(latin1(answer)) ? undefined : "the answer does not match";
}

/** Each byte as the character of that number. */
function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

function dnsQuestion(name: string, type: DnsType): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const label of name.split(".").filter((part) => part !== "")) {
    const encoded = encodeUtf8(label);
    if (encoded.length > LABEL_BYTES_MAX) {
      throw new HealthCheckError(
        `Cannot ask for ${JSON.stringify(name)}: a label is longer than ${LABEL_BYTES_MAX} bytes`,
      );
    }
    bytes.push(encoded.length, ...encoded);
  }
  bytes.push(0);
  if (bytes.length > NAME_BYTES_MAX) {
    throw new HealthCheckError(
      `Cannot ask for ${JSON.stringify(name)}: it is longer than ${NAME_BYTES_MAX} bytes`,
    );
  }
  return new Uint8Array([...bytes, 0, DNS_TYPES[type], 0, CLASS_IN]);
}

function dnsQuery(question: Uint8Array, nonce: number): Uint8Array<ArrayBuffer> {
  const query = new Uint8Array(DNS_HEADER_BYTES + question.length);
  query[0] = nonce >> 8;
  query[1] = nonce;
  query[2] = 0x01; // recursion desired, as resolvers want
  query[5] = 1; // one question
  query.set(question, DNS_HEADER_BYTES);
  return query;
}

function judgeDns(
  answer: Uint8Array,
  question: Uint8Array,
  nonce: number,
  codes: readonly number[],
): string | undefined {
  if (answer.length < DNS_HEADER_BYTES) return "the answer is no DNS message";
  if (((answer[0] << 8) | answer[1]) !== (nonce & 0xffff)) return "the answer has another id";
  if ((answer[2] & 0x80) === 0) return "the answer is a query";
  const echoed = answer.subarray(DNS_HEADER_BYTES, DNS_HEADER_BYTES + question.length);
  // A server that refuses may leave the question out.
  const hasQuestion = answer[4] !== 0 || answer[5] !== 0;
  if (hasQuestion && !sameQuestion(echoed, question)) return "the answer is to another question";
  const code = answer[3] & 0x0f;
  if (codes.includes(code)) return undefined;
  const name = Object.entries(DNS_CODES).find(([, value]) => value === code)?.[0];
  return `the answer is ${name ?? `code ${code}`}`;
}

/** Names are compared without regard to case; the numbers are equal where the bytes are. */
function sameQuestion(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  const fold = (byte: number) => byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
  return a.every((byte, index) => fold(byte) === fold(b[index]));
}
