/**
 * Opens sealed packets, the cheap checks first.
 *
 *   length ─▶ plausible pid ─▶ nonce not older than its session ─▶ room for the sender
 *          ─▶ budgets (of the address, of all strangers together) ─▶ keys ─▶ replay table
 *
 * No key is touched before a packet has passed all that costs nothing. A packet that continues a known
 * session does not pay from the strangers' budgets, so that a flood does not silence those who are
 * known; it pays from its own. An agent's key is derived once and kept, and only those of agents that
 * have proved themselves: forged pids push none of them out.
 *
 * Every loaded key is tried on every packet, also after one has fitted: how long it takes does not tell
 * which. Pure; never throws on a packet's bytes.
 *
 * @module
 */
import { AddressBuckets, type BucketLimits, TokenBucket } from "./rate_limit.ts";
import {
  claimedPid,
  deriveAgentKey,
  MASTER_PACKET_BYTES,
  nonceOffset,
  openFrame,
  SHARED_PACKET_BYTES,
} from "./secure_frame.ts";
import { SecureSessions } from "./secure_sessions.ts";
import { DECODE, decodeFrame, type DecodeResult, readU32, VlpFrame } from "./vlp_frame.ts";

/** Shared keys that are tried on each packet. */
export const SHARED_KEYS_MAX = 16;
/** Derived keys that are kept. */
export const AGENT_KEYS_MAX = 1024;
/** What packets of unknown sessions may cost, from one address. */
export const STRANGER_ADDRESS_LIMITS: BucketLimits = { ratePerSecond: 50, burst: 100 };
/** What they may cost from all addresses. */
export const STRANGER_LIMITS: BucketLimits = { ratePerSecond: 1000, burst: 2000 };
/** What packets that claim to continue one known session may cost. */
export const SESSION_LIMITS: BucketLimits = { ratePerSecond: 200, burst: 400 };

/** What became of a packet. `frame`: opened; its decoding is {@link SecureReceiver.decoded}. */
export type SecureVerdict =
  | "frame"
  | "badLength"
  | "implausiblePid"
  | "overBudget"
  | "replayed"
  | "undecryptable"
  | "sendersFull";

/** The keys, and how long a silence makes a pid new. */
export interface SecureOptions {
  /** Keys of the shorter form; all are accepted. */
  readonly sharedKeys: readonly Uint8Array[];
  /** The key from which each agent's own is derived. */
  readonly masterKey?: Uint8Array;
  /** Silence after which a pid may start again: the threshold. */
  readonly gapNs: number;
}

/** Counts of one receiver; names as in the metrics. */
export interface SecureCounters {
  /** Keys tried. */
  aeadAttempts: number;
  /** Packets that no key opened. */
  decryptFailures: number;
  /** Packets seen before, told by their bare nonce or by the table. */
  replayRefused: number;
  /** Packets of new senders while the table was full. */
  senderStateFull: number;
  /** Packets of another length. */
  truncated: number;
  /** Packets refused unopened, because too many came. */
  budgetRefused: number;
}

/** Opens packets of one socket. */
export class SecureReceiver {
  /** Counts so far. */
  readonly counters: SecureCounters = {
    aeadAttempts: 0,
    decryptFailures: 0,
    replayRefused: 0,
    senderStateFull: 0,
    truncated: 0,
    budgetRefused: 0,
  };
  /** The frame of the last packet, where its verdict was `frame` and it decoded. */
  readonly frame: VlpFrame = new VlpFrame();
  /** How the last packet's frame decoded. */
  decoded: DecodeResult = DECODE.ok;
  readonly #options: SecureOptions;
  readonly #sessions: SecureSessions;
  readonly #byAddress = new AddressBuckets(STRANGER_ADDRESS_LIMITS);
  readonly #bySession = new AddressBuckets(SESSION_LIMITS);
  readonly #strangers = new TokenBucket(STRANGER_LIMITS);
  readonly #agentKeys = new Map<number, Uint8Array>();

  /** Takes the keys. Throws `RangeError` where there are none, or too many. */
  constructor(options: SecureOptions) {
    const { sharedKeys, masterKey } = options;
    if (sharedKeys.length > SHARED_KEYS_MAX) {
      throw new RangeError(
        `Cannot use ${sharedKeys.length} shared keys: want at most ${SHARED_KEYS_MAX}`,
      );
    }
    if (sharedKeys.length === 0 && masterKey === undefined) {
      throw new RangeError("Cannot open sealed frames: no key is given");
    }
    this.#options = options;
    this.#sessions = new SecureSessions({ gapNs: options.gapNs });
  }

  /** How many senders are remembered. */
  get senders(): number {
    return this.#sessions.size;
  }

  /**
   * Judges a packet.
   *
   * @param address Key of the sender's address; see `addressKey`.
   * @param pidMax The highest pid that an agent may have.
   */
  open(
    packet: Uint8Array,
    address: number | string,
    nowNs: number,
    pidMax: number,
  ): SecureVerdict {
    const verdict = this.#judge(packet, address, nowNs, pidMax);
    switch (verdict) {
      case "badLength":
        this.counters.truncated += 1;
        break;
      case "implausiblePid":
      case "undecryptable":
        this.counters.decryptFailures += 1;
        break;
      case "overBudget":
        this.counters.budgetRefused += 1;
        break;
      case "replayed":
        this.counters.replayRefused += 1;
        break;
      case "sendersFull":
        this.counters.senderStateFull += 1;
    }
    return verdict;
  }

  #judge(
    packet: Uint8Array,
    address: number | string,
    nowNs: number,
    pidMax: number,
  ): SecureVerdict {
    const isMaster = packet.length === MASTER_PACKET_BYTES;
    if (!isMaster && packet.length !== SHARED_PACKET_BYTES) return "badLength";
    const pid = isMaster ? claimedPid(packet) : undefined;
    if (pid !== undefined && (pid < 2 || pid > pidMax)) return "implausiblePid";
    const at = nonceOffset(packet.length);
    const prefix = BigInt(readU32(packet, at + 4)) << 32n | BigInt(readU32(packet, at));
    const counter = readU32(packet, at + 8);
    const glance = this.#sessions.glance(prefix, counter, pid);
    if (glance === "stale") return "replayed";
    if (pid !== undefined && this.#sessions.isFullFor(pid, nowNs)) return "sendersFull";
    if (!this.#mayTry(glance === "known" ? prefix : undefined, address, nowNs)) {
      return "overBudget";
    }
    const plain = this.#tryKeys(packet, pid);
    if (plain === undefined) return "undecryptable";
    this.decoded = decodeFrame(plain, 0, this.frame);
    // A frame that is none of the protocol's leaves no trace: its decoding is counted.
    if (this.decoded !== DECODE.ok) return "frame";
    switch (this.#sessions.admit(this.frame, prefix, counter, nowNs)) {
      case "replayed":
        return "replayed";
      case "full":
        return "sendersFull";
      default:
        return "frame";
    }
  }

  #mayTry(session: bigint | undefined, address: number | string, nowNs: number): boolean {
    if (session !== undefined) return this.#bySession.take(String(session), nowNs);
    return this.#byAddress.take(address, nowNs) && this.#strangers.take(nowNs);
  }

  #tryKeys(packet: Uint8Array, pid: number | undefined): Uint8Array | undefined {
    let found: Uint8Array | undefined;
    for (const key of this.#options.sharedKeys) {
      const plain = openFrame(packet, key, false);
      found ??= plain;
    }
    this.counters.aeadAttempts += this.#options.sharedKeys.length;
    if (pid === undefined || this.#options.masterKey === undefined) return found;
    this.counters.aeadAttempts += 1;
    const key = this.#agentKeys.get(pid) ?? deriveAgentKey(this.#options.masterKey, pid);
    const plain = openFrame(packet, key, true);
    if (plain === undefined || found !== undefined) return found;
    // An agent's key speaks for that agent alone.
    if (readU32(plain, 4) !== pid) return undefined;
    this.#keepKey(pid, key);
    return plain;
  }

  #keepKey(pid: number, key: Uint8Array): void {
    this.#agentKeys.delete(pid);
    if (this.#agentKeys.size >= AGENT_KEYS_MAX) {
      for (const oldest of this.#agentKeys.keys()) {
        this.#agentKeys.delete(oldest);
        break;
      }
    }
    this.#agentKeys.set(pid, key);
  }
}
