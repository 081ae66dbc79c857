/** `berth agent`: the agent of this machine, in the foreground. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { AgentHandle } from "../../agent/main.ts";
import { CliError, EXIT } from "../exit.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";

export interface AgentOptions {
  readonly join?: string;
  readonly joinFile?: string;
  readonly dataDir: string;
  readonly name?: string;
  readonly ca?: string;
  readonly engine?: string;
}

export async function agent(shell: Shell, options: AgentOptions): Promise<void> {
  const joinToken =
    options.join ?? (options.joinFile === undefined ? shell.env["BERTH_JOIN_TOKEN"] : (await readFile(options.joinFile, "utf8")).trim());
  const { signal } = shell;
  const { runAgent, AgentError } = await import("../../agent/main.ts");
  let handle: AgentHandle;
  try {
    handle = await runAgent({
      dataDir: path.resolve(shell.cwd, options.dataDir),
      env: shell.env,
      signal,
      onState: (sentence) => line(shell.terminal, visible(sentence)),
      ...(joinToken === undefined || joinToken === "" ? {} : { joinToken }),
      ...(options.name === undefined ? {} : { name: options.name }),
      ...(options.ca === undefined ? {} : { caFile: path.resolve(shell.cwd, options.ca) }),
      ...(options.engine === undefined ? {} : { engineSocket: options.engine }),
    });
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof AgentError)
      throw new CliError(
        visible(error.message),
        error.code === "notJoined"
          ? { exitCode: EXIT.usage, next: "berth join-token create --site SITE   (where the control plane is)" }
          : {},
      );
    throw error;
  }
  const end = await handle.ended;
  if (end !== "stopped") throw new CliError(`this machine is no node any more: ${visible(String(end))} by an operator`);
}
