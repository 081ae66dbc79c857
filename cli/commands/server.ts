/** `berth server`: the control plane, in the foreground. */
import { mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { ADDRESS_FILE, checkedUrl, type LocalAddress, TOKEN_FILE } from "../client/contexts.ts";
import { CliError, EXIT } from "../exit.ts";
import { readNamed } from "../read-named.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { listenerOn } from "../up/lock.ts";
import { openLogFile } from "../up/log-file.ts";

export interface ServerOptions {
  readonly listen: string;
  readonly dataDir: string;
  readonly cert?: string;
  readonly key?: string;
  readonly behindProxy?: true;
  readonly url?: string;
  readonly plainRegistry: readonly string[];
}

/** In the data directory, as with `berth up`. */
const LOG_FILE = "server.log";

/** `127.0.0.1:7420`, `[::]:7420`, `:7420` (all addresses), `7420` (loopback). */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:[\]]*):)?([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535)
    throw new CliError(`"${text}" is no place to listen: write ADDRESS:PORT, like 0.0.0.0:7420`, { exitCode: EXIT.usage });
  const host = match[1] === undefined ? "127.0.0.1" : match[1] === "" ? "0.0.0.0" : match[1].replace(/^\[|\]$/g, "");
  return { host, port };
}

/** Where a control plane can be found from this machine, kept beside its token. */
export async function writeAddress(dataDir: string, address: LocalAddress): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  // Renamed into its place: a command that reads it meanwhile finds the old one or the new one, whole.
  const beside = path.join(dataDir, `${ADDRESS_FILE}.${process.pid}`);
  await writeFile(beside, `${JSON.stringify(address, null, 2)}\n`, { mode: 0o600 });
  await rename(beside, path.join(dataDir, ADDRESS_FILE));
}

export const portTaken = (port: number, mend: string): CliError => {
  const who = listenerOn(port);
  return new CliError(`port ${port} is taken${who === null ? "" : ` by ${who}`}: stop that, or choose another port`, { next: mend });
};

/** A control plane that does not start, in words where they are known. */
export function startFailure(error: unknown, at: { readonly dataDir: string; readonly port: number; readonly otherPort: string }): unknown {
  if (!(error instanceof Error)) return error;
  const code = "code" in error ? error.code : null;
  if (code === "EADDRINUSE") return portTaken(at.port, at.otherPort);
  // A plain error is a sentence about this machine's files and addresses; any other kind is a fault of berth's own.
  if (code !== "DATABASE_IN_USE") return error.constructor === Error ? new CliError(visible(error.message), { cause: error }) : error;
  const pid = "pid" in error && typeof error.pid === "number" ? error.pid : null;
  return new CliError(
    `another control plane${pid === null ? "" : ` (process ${pid})`} runs with the data directory ${at.dataDir}: stop it, or name another directory`,
    { next: pid === null ? "berth server --data-dir DIRECTORY" : `kill ${pid}`, cause: error },
  );
}

export async function server(shell: Shell, options: ServerOptions): Promise<void> {
  const { host, port } = parseListen(options.listen);
  if ((options.cert === undefined) !== (options.key === undefined))
    throw new CliError("--cert and --key go together", { exitCode: EXIT.usage });
  if (options.cert !== undefined) readNamed("--cert", path.resolve(shell.cwd, options.cert));
  if (options.key !== undefined) readNamed("--key", path.resolve(shell.cwd, options.key));
  const dataDir = path.resolve(shell.cwd, options.dataDir);
  const { signal } = shell;
  const fail = (error: unknown): never => {
    throw startFailure(error, { dataDir, port, otherPort: `berth server --listen ${host}:${port + 1}` });
  };
  await mkdir(dataDir, { recursive: true, mode: 0o700 }).catch(fail);
  // A terminal is for people; a service manager or a container collects what is written to standard error.
  const log = shell.terminal.isTty ? openLogFile(path.join(dataDir, LOG_FILE)) : null;
  const { startServer } = await import("../../worker/node.ts");
  const running = await startServer({
    dataDir,
    host,
    port,
    ...(options.cert === undefined || options.key === undefined
      ? {}
      : { cert: path.resolve(shell.cwd, options.cert), key: path.resolve(shell.cwd, options.key) }),
    behindProxy: options.behindProxy === true,
    plainRegistries: options.plainRegistry,
    ...(log === null ? {} : { log }),
    ...(options.url === undefined ? {} : { url: checkedUrl(options.url) }),
  }).catch(fail);
  const { url, address, root } = running;
  await writeAddress(dataDir, { url, root: address.spki === null ? null : root, spki: address.spki });
  line(shell.terminal, `The control plane listens on ${url}`);
  line(shell.terminal, `  API docs     ${url}/docs`);
  line(shell.terminal, `  admin token  ${path.join(dataDir, TOKEN_FILE)}`);
  if (log !== null) line(shell.terminal, `  log          ${path.join(dataDir, LOG_FILE)}`);
  if (address.spki !== null) line(shell.terminal, `  elsewhere    berth context add NAME --url ${url} --root ${root}`);
  await new Promise<void>((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve(), { once: true })));
  await running.close();
  log?.close();
}
