/** What a command is given: where to print, whom to ask, and the options that every command has. */
import { Client } from "./client/client.ts";
import { type Environment, refusePlaintext, resolveTarget, type Target } from "./client/contexts.ts";
import { httpTransport } from "./client/transport.ts";
import { NAME_PATTERN, NAME_RULE } from "../shared/model/name-pattern.ts";
import { CliError, EXIT } from "./exit.ts";
import { visible } from "./render/visible.ts";
import type { Terminal } from "./terminal.ts";

export const OUTPUT_FORMATS = ["table", "json", "yaml"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export interface GlobalOptions {
  readonly output: OutputFormat;
  readonly namespace?: string | undefined;
  readonly context?: string | undefined;
  readonly insecure?: boolean | undefined;
}

export interface Shell {
  readonly terminal: Terminal;
  readonly env: Environment;
  readonly cwd: string;
  readonly output: OutputFormat;
  readonly namespace: string;
  /** Plain HTTP may carry the token anywhere. */
  readonly isInsecure: boolean;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Made at the first use: commands that need no cluster never look for one. */
  readonly target: () => Target;
  readonly client: () => Client;
}

export const NAMESPACE_DEFAULT = "default";

function namespaceOf(option: string | undefined, variable: string | undefined): string {
  const namespace = option ?? (variable || NAMESPACE_DEFAULT);
  if (NAME_PATTERN.test(namespace)) return namespace;
  const from = option === undefined ? "BERTH_NAMESPACE" : "--namespace";
  throw new CliError(`"${visible(namespace)}" in ${from} is no name of a namespace: ${NAME_RULE}`, {
    exitCode: EXIT.usage,
    // With the variable as it is, no other command would go further.
    next: option === undefined ? "unset BERTH_NAMESPACE" : "berth namespace ls",
  });
}

export function makeShell(
  options: GlobalOptions,
  world: { terminal: Terminal; env: NodeJS.ProcessEnv; cwd: string; signal: AbortSignal },
): Shell {
  let target: Target | undefined;
  let client: Client | undefined;
  const isInsecure = options.insecure === true || world.env["BERTH_INSECURE"] === "1";
  const targetOnce = (): Target => {
    target ??= resolveTarget({ context: options.context, env: world.env, cwd: world.cwd });
    return target;
  };
  return {
    terminal: world.terminal,
    env: world.env,
    cwd: world.cwd,
    // Read through: only a command that looks at it takes the signals over.
    get signal() {
      return world.signal;
    },
    output: options.output,
    namespace: namespaceOf(options.namespace, world.env["BERTH_NAMESPACE"]),
    isInsecure,
    target: targetOnce,
    client: () => {
      if (client === undefined) {
        const { url, token, pins, startHint } = targetOnce();
        refusePlaintext(url, isInsecure);
        client = new Client({ url, token, startHint, transport: httpTransport(url, pins, world.env) });
      }
      return client;
    },
  };
}
