/** `berth agent`: the agent of this machine, in the foreground or as a service. */
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { AgentHandle } from "../../agent/main.ts";
import { CliError, EXIT } from "../exit.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { readNamed } from "../read-named.ts";

export interface AgentOptions {
  readonly join?: string;
  readonly joinFile?: string;
  readonly dataDir: string;
  readonly name?: string;
  readonly ca?: string;
  readonly engine?: string;
}

const JOIN_NEXT = "berth join-token create --site SITE   (where the control plane is)";
/** What the service runs: this checkout's agent, which the Node that runs this can read as it is. */
const AGENT_SCRIPT = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

/** What joining and running take of the options, the join token read. */
function optionsOf(shell: Shell, options: AgentOptions) {
  const joinToken =
    options.join ?? (options.joinFile === undefined ? shell.env["BERTH_JOIN_TOKEN"] : readNamed("--join-file", options.joinFile).trim());
  if (options.ca !== undefined) readNamed("--ca", path.resolve(shell.cwd, options.ca));
  return {
    dataDir: path.resolve(shell.cwd, options.dataDir),
    env: shell.env,
    signal: shell.signal,
    onState: (sentence: string) => line(shell.terminal, visible(sentence)),
    ...(joinToken === undefined || joinToken === "" ? {} : { joinToken }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.ca === undefined ? {} : { caFile: path.resolve(shell.cwd, options.ca) }),
    ...(options.engine === undefined ? {} : { engineSocket: options.engine }),
  };
}

export async function agent(shell: Shell, options: AgentOptions): Promise<void> {
  const { signal } = shell;
  const given = optionsOf(shell, options);
  const { runAgent, AgentError } = await import("../../agent/main.ts");
  let handle: AgentHandle;
  try {
    handle = await runAgent(given);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof AgentError)
      throw new CliError(visible(error.message), error.code === "notJoined" ? { exitCode: EXIT.usage, next: JOIN_NEXT } : {});
    throw error;
  }
  const end = await handle.ended;
  if (end !== "stopped") throw new CliError(`this machine is no node any more: ${visible(String(end))} by an operator`);
}

export async function agentInstall(shell: Shell, options: AgentOptions): Promise<void> {
  const { installService } = await import("../../agent/main.ts");
  const given = optionsOf(shell, options);
  await serve(shell, () => installService({ ...given, script: AGENT_SCRIPT }));
}

export async function agentUninstall(shell: Shell): Promise<void> {
  const { uninstallService } = await import("../../agent/main.ts");
  await serve(shell, uninstallService);
}

/** What goes wrong with a service is a matter of this machine: a sentence, and exit code 1. */
async function serve(shell: Shell, change: () => Promise<string>): Promise<void> {
  let sentence: string;
  try {
    sentence = await change();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new CliError(visible(error.message), {
      cause: error,
      ...("code" in error && error.code === "notJoined" ? { next: JOIN_NEXT } : {}),
    });
  }
  line(shell.terminal, sentence);
}
