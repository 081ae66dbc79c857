/** The systemd unit of the agent, and putting it in place. */
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

/** Proxy settings, which may hold passwords, and the engine's address: a service inherits nothing of a login. */
const PASSED_ON = [
  "HTTP_PROXY",
  "http_proxy",
  "HTTPS_PROXY",
  "https_proxy",
  "NO_PROXY",
  "no_proxy",
  "ALL_PROXY",
  "all_proxy",
  "DOCKER_HOST",
];

export const passedOn = (env: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    PASSED_ON.flatMap((name) => {
      const value = env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );

const run = promisify(execFile);
export const UNIT_NAME = "berth-agent.service";
export const UNIT_PATH = `/etc/systemd/system/${UNIT_NAME}`;

export interface UnitInput {
  /** Absolute paths. */
  readonly node: string;
  readonly script: string;
  readonly dataDir: string;
  /** Further arguments of `run`. */
  readonly args?: readonly string[];
  /** Absolute path of a file with further variables. */
  readonly environmentFile?: string;
}

/** In the data directory, 0600: units and what `systemctl show` says of them are read by everyone. */
const ENVIRONMENT_FILE = "service.env";

/** As systemd.exec(5) reads an EnvironmentFile. */
export const environmentText = (environment: Readonly<Record<string, string>>): string =>
  Object.entries(environment)
    .map(([name, value]) => {
      if (LINE_BREAK.test(value)) throw new Error(`${name} holds a line break, which a service cannot be given`);
      return `${name}="${value.replaceAll(/[\\"$`]/g, "\\$&")}"\n`;
    })
    .join("");

const LINE_BREAK = /[\n\r\0]/;
/** A word of ExecStart, by systemd's quoting; `%` and `$` are its specifiers. */
const word = (text: string): string =>
  `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("%", "%%")}"`.replaceAll("$", "$$$$");

export function unitText({ node, script, dataDir, args = [], environmentFile }: UnitInput): string {
  for (const text of [node, script, dataDir, ...args]) {
    if (LINE_BREAK.test(text)) throw new Error("a path or setting with a line break cannot stand in a unit");
  }
  const command = [node, script, "run", "--data-dir", dataDir, ...args].map(word).join(" ");
  // Not demanded: without it the agent still starts what the ledger says. The path is taken as it stands, unquoted.
  const variables = environmentFile === undefined ? "" : `EnvironmentFile=-${environmentFile.replaceAll("%", "%%")}\n`;
  return `[Unit]
Description=berth agent
# Wanted, not required: containers start from the ledger with no network, and a restarted engine must not stop the agent.
Wants=network-online.target docker.service
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${command}
${variables}Restart=always
RestartSec=2
# Containers belong to the engine: ending the agent ends none of them.
KillMode=process
TimeoutStopSec=15
# Ends last when memory is short: what it looks after can be started again by it, it by nobody but systemd.
OOMScoreAdjust=-500
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
ProtectKernelModules=yes
ProtectClock=yes
UMask=0077

[Install]
WantedBy=multi-user.target
`;
}

export const hasSystemd = (): boolean => existsSync("/run/systemd/system");

/** Writes the unit, and starts it now and at each boot. `environment`: as `passedOn` picks it. Rejects with what systemctl said. */
export async function installUnit(
  { environment, ...input }: Omit<UnitInput, "environmentFile"> & { readonly environment: Readonly<Record<string, string>> },
  path: string = UNIT_PATH,
): Promise<void> {
  const environmentFile = join(input.dataDir, ENVIRONMENT_FILE);
  const unit = unitText({ ...input, environmentFile });
  await rm(environmentFile, { force: true });
  await writeFile(environmentFile, environmentText(environment), { mode: 0o600, flag: "wx" });
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, unit, { mode: 0o644 });
  await systemctl("daemon-reload");
  await systemctl("enable", UNIT_NAME);
  // Restart, not start: installing again brings a new version into use.
  await systemctl("restart", UNIT_NAME);
}

/** Containers go on running. */
export async function uninstallUnit(path: string = UNIT_PATH): Promise<void> {
  if (existsSync(path)) {
    await systemctl("disable", "--now", UNIT_NAME);
    const environmentFile = environmentFileOf(await readFile(path, "utf8"));
    if (environmentFile !== null) await rm(environmentFile, { force: true });
  }
  await rm(path, { force: true });
  await systemctl("daemon-reload");
}

/** Of a unit that was installed by this agent, wherever its data directory is. */
function environmentFileOf(unit: string): string | null {
  const file = /^EnvironmentFile=-(\/.+)$/m.exec(unit)?.[1]?.replaceAll("%%", "%");
  return file !== undefined && basename(file) === ENVIRONMENT_FILE ? file : null;
}

async function systemctl(...args: string[]): Promise<void> {
  try {
    await run("systemctl", args);
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new Error(`systemctl ${args.join(" ")}: ${said === undefined || said === "" ? String(error) : said}`, { cause: error });
  }
}
