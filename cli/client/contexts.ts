/**
 * Which control plane a command talks to. In this order:
 *
 * 1. `--context NAME` or BERTH_CONTEXT;
 * 2. BERTH_URL, with BERTH_TOKEN (or BERTH_TOKEN_FILE), BERTH_ROOT and BERTH_SPKI;
 * 3. a cluster that `npm start` or `berth server` made in this directory or above it (`.berth/`);
 * 4. the context chosen with `berth context use`.
 *
 * The nearest wins over the chosen one, as with any tool that keeps its state in a directory: in a clone in which
 * `npm start` runs, `npx berth ps` means that cluster.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { chmod, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CliError, EXIT } from "../exit.ts";
import { readNamed } from "../read-named.ts";
import type { Pins } from "./pin.ts";

/** As kept in `contexts.json`. */
export interface StoredContext {
  readonly name: string;
  readonly url: string;
  readonly token: string;
  readonly rootThumbprint: string | null;
  readonly spki: string | null;
}
export interface ContextFile {
  readonly current: string | null;
  readonly contexts: readonly StoredContext[];
}
export interface Target {
  /** What to call it: the context's name, or where it comes from. */
  readonly name: string;
  readonly source: "option" | "environment" | "directory" | "chosen";
  readonly url: string;
  readonly token: string | null;
  readonly pins: Pins;
  readonly startHint: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export const LOCAL_DIRECTORY = ".berth";
export const TOKEN_FILE = "admin-token";
/** Written by the CLI beside the token when it starts a control plane: where it can be reached and by which keys. */
export const ADDRESS_FILE = "address.json";
export interface LocalAddress {
  readonly url: string;
  readonly root: string | null;
  readonly spki: string | null;
}

export function contextsPath(env: Environment): string {
  const home = env["XDG_CONFIG_HOME"] ?? join(env["HOME"] ?? homedir(), ".config");
  return join(home, "berth", "contexts.json");
}

export function readContexts(env: Environment): ContextFile {
  const path = contextsPath(env);
  if (!existsSync(path)) return { current: null, contexts: [] };
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new CliError(`${path} holds tokens and others may read it`, { next: `chmod 600 ${path}` });
  }
  try {
    const parsed = JSON.parse(readFileSync(path, "utf8")) as Partial<ContextFile>;
    return { current: parsed.current ?? null, contexts: parsed.contexts ?? [] };
  } catch (error) {
    throw new CliError(`${path} is not JSON: ${error instanceof Error ? error.message : ""}`, {
      next: `rm ${path}   (then add the contexts again)`,
    });
  }
}

const LOCK_TRY_MS = 20;
/** A change takes milliseconds: a lock that is held for longer was left by a command that was killed. */
const LOCK_WAIT_MS = 5_000;

/** One command at a time changes the file: of two that had read the same one, the second would undo the first. */
export async function changeContexts(env: Environment, change: (file: ContextFile) => ContextFile): Promise<void> {
  const path = contextsPath(env);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const lock = `${path}.lock`;
  const untilMs = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      // Without a text: a full disk would leave the lock and refuse the text.
      await (await open(lock, "wx", 0o600)).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      if (performance.now() > untilMs)
        throw new CliError(
          `${lock} has been there for ${LOCK_WAIT_MS / 1_000} s: a command was killed while it changed the contexts, or still does`,
          {
            next: `rm ${lock}`,
          },
        );
      await sleep(LOCK_TRY_MS);
    }
  }
  try {
    await writeContexts(path, change(readContexts(env)));
  } finally {
    await rm(lock, { force: true });
  }
}

/** Written beside and renamed over, so that a full disk never leaves half a file; readable by the owner only from the first byte. */
async function writeContexts(path: string, file: ContextFile): Promise<void> {
  const part = `${path}.${process.pid}`;
  await writeFile(part, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  await chmod(part, 0o600);
  await rename(part, path);
}

/** The data directory of a control plane made here: `.berth` with a token in it, in `cwd` or above. */
export function findLocalDirectory(cwd: string): string | null {
  for (let directory = cwd; ; directory = dirname(directory)) {
    const candidate = join(directory, LOCAL_DIRECTORY);
    if (existsSync(join(candidate, TOKEN_FILE))) return candidate;
    if (dirname(directory) === directory) return null;
  }
}

const DEFAULT_LOCAL_URL = "http://127.0.0.1:7420";

/**
 * A directory that somebody else put here, or could have changed, would be told everything that a command sends: it is
 * taken only from this account, from root, and under sudo from the account that called it.
 */
function refuseStrangers(directory: string): void {
  const uid = process.getuid?.();
  if (uid === undefined) return;
  const trusted = new Set([uid, 0, ...(uid === 0 && process.env["SUDO_UID"] !== undefined ? [Number(process.env["SUDO_UID"])] : [])]);
  for (const file of [directory, join(directory, TOKEN_FILE), join(directory, ADDRESS_FILE)]) {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found === undefined || (trusted.has(found.uid) && (found.mode & 0o002) === 0)) continue;
    throw new CliError(
      `${file} ${trusted.has(found.uid) ? "may be written by everybody" : "belongs to another account"}, so what it says is not followed`,
      {
        exitCode: EXIT.unreachable,
        details: ["A .berth directory says which control plane a command talks to, and with which token."],
        next: "berth --context NAME …   (or run it from another directory)",
      },
    );
  }
}

export function readLocalTarget(directory: string): Target {
  refuseStrangers(directory);
  const addressPath = join(directory, ADDRESS_FILE);
  const address = readAddress(addressPath);
  let token: string;
  try {
    token = readFileSync(join(directory, TOKEN_FILE), "utf8").trim();
  } catch (error) {
    throw new CliError(`you may not read ${join(directory, TOKEN_FILE)}, which the account that started this cluster owns`, {
      exitCode: EXIT.unreachable,
      cause: error,
      next: "berth context add NAME --url URL   (with a token of your own)",
    });
  }
  return {
    name: `local (${directory})`,
    source: "directory",
    url: address.url,
    token,
    pins: { root: address.root, spki: address.spki },
    startHint: "npm start",
  };
}

function readAddress(path: string): LocalAddress {
  if (!existsSync(path)) return { url: DEFAULT_LOCAL_URL, root: null, spki: null };
  try {
    const { url, root, spki } = JSON.parse(readNamed("the cluster's directory", path)) as Partial<LocalAddress>;
    if (typeof url === "string") return { url, root: root ?? null, spki: spki ?? null };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new CliError(`${path} does not say where the control plane listens; starting it again writes it anew`, {
    exitCode: EXIT.unreachable,
    next: "npm start",
  });
}

function environmentTarget(env: Environment): Target | null {
  const url = env["BERTH_URL"];
  if (url === undefined || url === "") return null;
  const file = env["BERTH_TOKEN_FILE"];
  const token = env["BERTH_TOKEN"] ?? (file === undefined ? null : readNamed("BERTH_TOKEN_FILE", file).trim());
  return {
    name: "BERTH_URL",
    source: "environment",
    url: checkedUrl(url),
    token,
    pins: { root: env["BERTH_ROOT"] ?? null, spki: env["BERTH_SPKI"] ?? null },
    startHint: `check that the control plane runs, that BERTH_URL=${url} is its address and BERTH_ROOT its root key`,
  };
}

const storedTarget = (context: StoredContext, source: "option" | "chosen"): Target => ({
  name: context.name,
  source,
  url: context.url,
  token: context.token,
  pins: { root: context.rootThumbprint, spki: context.spki },
  startHint: "berth context ls",
});

export function checkedUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new CliError(`"${text}" is not an address like https://berth.example.com:7420`, { exitCode: EXIT.usage });
  }
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new CliError(`an address begins with https:// or http://, not ${url.protocol}//`, { exitCode: EXIT.usage });
  if (url.username !== "" || url.password !== "")
    throw new CliError("put no name or password into the address: berth uses a token", { exitCode: EXIT.usage });
  return url.href.replace(/\/$/, "");
}

export function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.[0-9]+){3}$/.test(hostname);
}

/** A token over plain HTTP belongs to everybody on the way. */
export function refusePlaintext(url: string, isInsecure: boolean): void {
  if (isInsecure || new URL(url).protocol !== "http:" || isLoopback(url)) return;
  throw new CliError(`${url} is plain HTTP, over which anybody on the way reads the token: give it an https:// address`, {
    exitCode: EXIT.usage,
    next: "--insecure, or BERTH_INSECURE=1   (where the network is trusted)",
  });
}

export function resolveTarget(options: { context?: string | undefined; env: Environment; cwd: string }): Target {
  const name = options.context ?? options.env["BERTH_CONTEXT"];
  if (name !== undefined && name !== "") {
    const found = readContexts(options.env).contexts.find((context) => context.name === name);
    if (found === undefined) throw new CliError(`there is no context "${name}"`, { exitCode: EXIT.usage, next: "berth context ls" });
    return storedTarget(found, "option");
  }
  const fromEnvironment = environmentTarget(options.env);
  if (fromEnvironment !== null) return fromEnvironment;
  const directory = findLocalDirectory(options.cwd);
  if (directory !== null) return readLocalTarget(directory);
  const file = readContexts(options.env);
  const chosen = file.contexts.find((context) => context.name === file.current);
  if (chosen !== undefined) return storedTarget(chosen, "chosen");
  throw new CliError("no cluster is known here", {
    exitCode: EXIT.unreachable,
    details: ["Start one with `npm start` in a clone of berth, or name one with `berth context add`, BERTH_URL or --context."],
    next: "berth context add NAME --url https://HOST:7420",
  });
}
