/**
 * What every command is given: its io, the settings, the ports behind them, and how to paint.
 *
 * The ports are made on first use, so that help, completions and usage errors cost nothing and
 * work on any host.
 *
 * @module
 */
import {
  type CliPorts,
  CONFIG_PATH_DEFAULT,
  CONFIG_VARIABLE,
  parseConfigFile,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
  type SettingTexts,
} from "#lib/daemon/mod.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import type { CliIo } from "./io.ts";
import type { RenderOptions } from "./render.ts";
import { choosePaint, type Paint } from "./style.ts";

/** Makes the ports for settings; see `lib/daemon/compose.ts`. */
export type Connect = (settings: Settings) => CliPorts;

/** See the module. */
export class CliContext {
  /** The outside. */
  readonly io: CliIo;
  /** What the process will answer; commands set it. */
  exitCode: number = EXIT_OK;
  /** Whether `--json` was given. */
  isJson = false;
  readonly #connect: Connect;
  #flags: SettingTexts = {};
  #file: { readonly path: string; readonly texts: SettingTexts } | undefined;
  #resolved: ResolvedSettings | undefined;
  #ports: CliPorts | undefined;

  /** @param connect Called at most once, on first use of {@link CliContext.ports}. */
  constructor(io: CliIo, connect: Connect) {
    this.io = io;
    this.#connect = connect;
  }

  /** Takes the flags that name settings; call it before the first use of the settings. */
  setFlags(flags: SettingTexts): void {
    this.#flags = flags;
  }

  /**
   * Reads the configuration file, which must be there where somebody names it; call it before the
   * first use of the settings. Rejects with a `UsageError` or a `SettingError`.
   */
  async readConfig(named: string | undefined): Promise<void> {
    const chosen = named ?? (this.io.env[CONFIG_VARIABLE] || undefined);
    const path = chosen ?? CONFIG_PATH_DEFAULT;
    let text: string;
    try {
      text = await this.io.readFile(path);
    } catch (error) {
      if (chosen === undefined && error instanceof UsageError) return;
      throw error;
    }
    this.#file = { path, texts: await parseConfigFile(text, path) };
  }

  /** The settings with their origins; throws a `SettingError`. */
  get resolved(): ResolvedSettings {
    this.#resolved ??= resolveSettings({
      flags: this.#flags,
      env: this.io.env,
      ...(this.#file === undefined ? {} : { file: this.#file }),
    });
    return this.#resolved;
  }

  /** The settings; throws a `SettingError`. */
  get settings(): Settings {
    return this.resolved.settings;
  }

  /** The ports; throws a `SettingError`. */
  get ports(): CliPorts {
    this.#ports ??= this.#connect(this.settings);
    return this.#ports;
  }

  /** How to paint stdout. */
  get paint(): Paint {
    return choosePaint({ isTerminal: this.io.outIsTerminal, env: this.io.env });
  }

  /** How to paint stderr. */
  get errPaint(): Paint {
    return choosePaint({ isTerminal: this.io.errIsTerminal, env: this.io.env });
  }

  /** How to render to stdout: cut to the width of a terminal, whole for anything else. */
  get outOptions(): RenderOptions {
    return renderOptions(this.paint, this.io.outIsTerminal ? this.io.width : undefined);
  }

  /** How to render to stderr. */
  get errOptions(): RenderOptions {
    return renderOptions(this.errPaint, this.io.errIsTerminal ? this.io.width : undefined);
  }

  /** Writes one JSON line to stdout. */
  writeJson(value: unknown): void {
    this.io.writeOut(`${JSON.stringify(value)}\n`);
  }
}

function renderOptions(paint: Paint, widthMax: number | undefined): RenderOptions {
  return widthMax === undefined ? { paint } : { paint, widthMax };
}
