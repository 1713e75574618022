/**
 * Builds the ports of the command line for some settings.
 *
 * Whatever enters the kernel or opens the log is imported when a port first needs it: the
 * command line starts fast, and where such a module cannot be loaded, only the commands that
 * need it fail.
 *
 * @module
 */
import type { CellSpec } from "#lib/cell/mod.ts";
import type { ApiClient } from "#lib/client/mod.ts";
import { apiSocketPath, logPath, SettingError, type Settings } from "./config.ts";
import { diagnose, type LogFact } from "./doctor.ts";
import type {
  ApiOptions,
  CliPorts,
  LogBackupReport,
  LogReader,
  LogVerifyReport,
  PolicyView,
  RunCellOptions,
  RunCellResult,
  ServeOptions,
  SpecOverrides,
  TokenPort,
  TokenView,
  VersionView,
} from "./ports.ts";
import { CELLD_VERSION } from "./version.ts";

/** The ports of a celld with these settings. Nothing is opened or loaded yet. */
export function composePorts(settings: Settings): CliPorts {
  return {
    parseSpec: parseSpecText,
    runCell,
    serve: serveApi,
    showPolicy: (spec, options) => showPolicy(settings, spec, options),
    openLog: () => openLog(settings),
    verifyLog: () => verifyLogFile(localLogPath(settings, "verify")),
    importLog: async (events) => {
      const { importLog } = await import("./log_transfer.ts");
      return await importLog(settings, events);
    },
    backupLog: (path) => backupLogFile(localLogPath(settings, "back up"), path),
    openApi: (options) => openApi(settings, options),
    tokens: tokenPort(settings),
    doctor: async () => {
      const { gatherHostFacts } = await import("./doctor_shell.ts");
      return diagnose(await gatherHostFacts({ settings, inspectLog: () => inspectLog(settings) }));
    },
    beat: async (options) => {
      const { beatForChild } = await import("./beat_child.ts");
      return await beatForChild(options);
    },
    watch: async (options) => {
      const { watch } = await import("./watch.ts");
      await watch(options);
    },
    version: versionView,
  };
}

async function runCell(options: RunCellOptions): Promise<RunCellResult> {
  const { runCell: run } = await import("./run_cell.ts");
  return await run(options);
}

async function serveApi(options: ServeOptions): Promise<void> {
  const { serve } = await import("./serve.ts");
  await serve(options);
}

async function parseSpecText(text: string, overrides: SpecOverrides): Promise<CellSpec> {
  const { parseCellSpec } = await import("#lib/cell/mod.ts");
  const spec = parseCellSpec(text);
  const { id = spec.id, argv, timeoutSeconds } = overrides;
  if (argv === undefined && id === spec.id && timeoutSeconds === undefined) return spec;
  // What comes from the command line is judged by the same parser, as a spec of its own.
  const given = parseCellSpec(JSON.stringify({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: {
      id,
      run: {
        argv: argv ?? spec.run?.argv ?? ["true"],
        ...(timeoutSeconds === undefined ? {} : { limits: { timeoutSeconds } }),
      },
    },
  }));
  const run = spec.run ?? (argv === undefined ? undefined : given.run);
  if (run === undefined || given.run === undefined) return { ...spec, id };
  const limits = timeoutSeconds === undefined ? run.limits : { ...run.limits, timeoutSeconds };
  return { ...spec, id, run: { ...run, argv: given.run.argv, limits } };
}

/** The lease whose addresses the text is made with: what a first cell on a host would get. */
const SHOWN_INDEX = 1;

async function showPolicy(
  settings: Settings,
  spec: CellSpec,
  options: { host: boolean },
): Promise<PolicyView> {
  const cell = await import("#lib/cell/mod.ts");
  const pools = { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool };
  const plan = cell.planNetwork(SHOWN_INDEX, pools);
  const policy = cell.makePolicy(spec);
  const table = cell.cellTable(policy, {
    cellId: spec.id,
    nflogGroup: settings.nflogGroup,
    pools,
    hostAddresses: Deno.networkInterfaces().map(({ address }) => address),
    linkAddresses: [plan.hostIpv4, plan.hostIpv6],
    cellAddresses: [plan.cellIpv4, plan.cellIpv6],
    acceptsToldBy: settings.flowBackend === "ebpf" ? "marks" : "log",
  });
  const view = {
    cellId: spec.id,
    policyDigest: cell.policyDigest(policy),
    cellText: cell.formatTable(table),
  };
  if (!options.host) return view;
  const host = cell.hostTable(pools);
  const { chains, elements } = cell.hostCellRules(policy, plan, pools);
  const maps = host.maps.map((map) => ({
    ...map,
    elements: elements.filter((it) => it.map === map.name).map((it) => it.element),
  }));
  const hostText = cell.formatTable({ ...host, maps, chains: [...host.chains, ...chains] });
  return { ...view, hostText };
}

async function openLog(settings: Settings): Promise<LogReader> {
  const { openLogReader } = await import("./log_store.ts");
  return await openLogReader(settings);
}

/** The log's file. Throws where the log is none. */
function localLogPath({ log, stateDir }: Settings, action: string): string {
  if (log === undefined) return logPath(stateDir);
  throw new SettingError(
    `Cannot ${action} the log at ${JSON.stringify(log.shownUrl)}: that is the broker's to do`,
  );
}

async function verifyLogFile(path: string): Promise<LogVerifyReport> {
  const { verifyLog } = await import("#lib/eventlog/mod.ts");
  const report = await verifyLog(path);
  return {
    isSound: report.isIntact,
    path,
    checkedCount: report.entries,
    problemCount: report.problemCount,
    problems: report.problems.map(({ where, message, seq, page }) => {
      const place = seq !== undefined ? ` ${seq}` : page !== undefined ? `, page ${page}` : "";
      return `${where}${place}: ${message}`;
    }),
    notes: report.notes,
    lastSeq: report.lastSeq,
    lastHash: report.lastHash,
  };
}

async function backupLogFile(from: string, path: string): Promise<LogBackupReport> {
  const { backupLog } = await import("#lib/eventlog/mod.ts");
  const sizeBytes = await backupLog(from, path);
  return { sizeBytes, verified: await verifyLogFile(path) };
}

async function openApi(settings: Settings, options: ApiOptions): Promise<ApiClient> {
  const { ApiClient, findEndpoint, findToken } = await import("#lib/client/mod.ts");
  const { firstTokenPath } = await import("./tokens_file.ts");
  const discovery = {
    ...options,
    socketPath: apiSocketPath(settings.runtimeDir),
    tokenPath: firstTokenPath(settings.stateDir),
  };
  const endpoint = findEndpoint(discovery);
  const { caCert } = options;
  return new ApiClient(endpoint, {
    token: findToken(endpoint, discovery),
    ...(caCert === undefined ? {} : { caCerts: [readCaCert(caCert)] }),
  });
}

function readCaCert(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SettingError(`Cannot read ${JSON.stringify(path)}: ${why}`, { cause });
  }
}

function tokenPort({ stateDir }: Settings): TokenPort {
  const files = () => import("./tokens_file.ts");
  return {
    async create(request) {
      const { text, record } = (await files()).createToken(stateDir, request);
      return { text, ...tokenView(record) };
    },
    list: async () => (await files()).readTokens(stateDir).map(tokenView),
    revoke: async (name) => (await files()).revokeToken(stateDir, name),
  };
}

function tokenView({ name, scope, createdAt, expiresAt }: TokenView): TokenView {
  return { name, scope, createdAt, ...(expiresAt === undefined ? {} : { expiresAt }) };
}

async function inspectLog(settings: Settings): Promise<LogFact | undefined> {
  const path = settings.log?.shownUrl ?? logPath(settings.stateDir);
  try {
    const log = await openLog(settings);
    try {
      return { path, probe: { ok: true }, lastSeq: await log.lastSeq() };
    } finally {
      await log.close();
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error.name === "LogMissingError") return undefined;
    return { path, probe: { ok: false, error: error.message } };
  }
}

function versionView(): VersionView {
  const { deno, v8 } = Deno.version;
  return { celld: CELLD_VERSION, deno, v8, arch: Deno.build.arch };
}
