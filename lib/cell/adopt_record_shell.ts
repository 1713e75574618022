/**
 * A served cell's record as its cell keeps it: written at each step that matters to whoever may
 * have to go on with it. See `adopt.ts` for what is in it and what it decides.
 *
 * @module
 */
import {
  CELL_RECORD_SCHEMA,
  type CellRecordFile,
  type CellRecordStage,
  type ProcessIdentity,
} from "./adopt.ts";
import { readBootId, readStartTicks, writeCellRecord } from "./adopt_shell.ts";
import type { CellOrder } from "./host_protocol.ts";

/** See the module. */
export class RecordKeeper {
  readonly #path: string;
  #record: CellRecordFile;

  private constructor(path: string, record: CellRecordFile) {
    this.#path = path;
    this.#record = record;
  }

  /** Writes the first record of a cell that is being made. */
  static begin(path: string, order: CellOrder, index: number): RecordKeeper {
    const { cellId, runId, spec } = order;
    const keeper = new RecordKeeper(path, {
      schema: CELL_RECORD_SCHEMA,
      bootId: readBootId(),
      stage: "making",
      cellId,
      runId,
      spec,
      index,
      bornAtMs: Date.now(),
    });
    keeper.#write({});
    return keeper;
  }

  /** Goes on with a record, of a cell whose init is known now. */
  static goOn(path: string, record: CellRecordFile, init: ProcessIdentity): RecordKeeper {
    const keeper = new RecordKeeper(path, record);
    if (record.stage !== "running" || record.init === undefined) {
      keeper.#write({ stage: "running", init });
    }
    return keeper;
  }

  /** As it was written last. */
  get record(): CellRecordFile {
    return this.#record;
  }

  /** Whether the program may have run. */
  get wasLaunched(): boolean {
    return this.#record.stage !== "making";
  }

  /** The ruleset is about to be made, with these. */
  noteRuleset(ruleset: NonNullable<CellRecordFile["ruleset"]>): void {
    this.#write({ ruleset });
  }

  /** The program is about to run: from here on it is never started a second time. */
  noteLaunching(): void {
    this.#write({ stage: "launching", launchedAtMs: Date.now() });
  }

  /** It could not be launched: nothing of it ran. */
  noteNotLaunched(): void {
    this.#write({ stage: "making" });
  }

  /** The init runs. */
  noteInit(pid: number): void {
    // One that has ended already needs no name: its exit record is there.
    const startTicks = readStartTicks(pid);
    const stage: CellRecordStage = "running";
    this.#write(startTicks === undefined ? { stage } : { stage, init: { pid, startTicks } });
  }

  #write(news: Partial<CellRecordFile>): void {
    this.#record = { ...this.#record, ...news };
    writeCellRecord(this.#path, this.#record);
  }
}
