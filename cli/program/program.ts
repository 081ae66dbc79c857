/**
 * Every command with its arguments and options. What a command does is loaded when it runs, so that `berth ps` does not
 * pay for reading Compose files.
 */
import { Command, Option } from "commander";
import manifest from "../../package.json" with { type: "json" };
import { NAMESPACE_DEFAULT, OUTPUT_FORMATS } from "../shell.ts";
import { addApps } from "./apps.ts";
import { addBegin } from "./begin.ts";
import { addChanges } from "./changes.ts";
import { addCompletion } from "./completion.ts";
import { addContexts } from "./contexts.ts";
import { addJoinTokens } from "./join-tokens.ts";
import { addLooks } from "./looks.ts";
import { addNamespaces } from "./namespaces.ts";
import { addNodes } from "./nodes.ts";
import { addRegistries } from "./registries.ts";
import { addSites } from "./sites.ts";
import { addTokens } from "./tokens.ts";
import type { ShellOf } from "./options.ts";

const FOOTER = `
Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 control plane not reached or token not known,
4 still going on when --wait ended, 130 interrupted. \`deploy --plan\`: 0 nothing to do, 1 changes, 255 error.
Where to go: --context, BERTH_URL with BERTH_TOKEN, a cluster in this directory (.berth/), the chosen context.`;

/** `errors`: `thrown` leaves it to the caller to print what is wrong with a command line. */
export function buildProgram(shellOf: ShellOf, { errors = "printed" }: { readonly errors?: "printed" | "thrown" } = {}): Command {
  const program = new Command("berth")
    .description("Runs containers on machines that nobody can reach.")
    .addOption(new Option("-o, --output <format>", "how to print").choices(OUTPUT_FORMATS).default("table"))
    .option("-n, --namespace <name>", `namespace (BERTH_NAMESPACE, else ${NAMESPACE_DEFAULT})`)
    .option("--context <name>", "which cluster (BERTH_CONTEXT)")
    .option("--insecure", "send the token over plain HTTP to other machines too (BERTH_INSECURE=1)")
    .version(manifest.version, "-V, --version")
    .addHelpText("after", FOOTER)
    .helpCommand(false)
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, "berth: ")),
      ...(errors === "thrown" ? { writeErr: () => undefined } : {}),
    })
    .exitOverride();
  program.commandsGroup("Begin:");
  addBegin(program, shellOf);
  program.commandsGroup("Apps:");
  addApps(program, shellOf);
  addChanges(program, shellOf);
  addLooks(program, shellOf);
  program.commandsGroup("Machines:");
  addNodes(program, shellOf);
  addSites(program, shellOf);
  addJoinTokens(program, shellOf);
  program.commandsGroup("Access:");
  addTokens(program, shellOf);
  addNamespaces(program, shellOf);
  addRegistries(program, shellOf);
  addContexts(program, shellOf);
  program.commandsGroup("Shell:");
  addCompletion(program, shellOf);
  settle(program);
  return program;
}

/** Settings that commander does not hand down to subcommands, and help without "(default: false)" on every switch. */
function settle(command: Command): void {
  command.showHelpAfterError(`next: ${pathOf(command)} --help`);
  for (const option of command.options)
    if (option.defaultValue === false || Array.isArray(option.defaultValue)) option.defaultValue = undefined;
  for (const child of command.commands) {
    child.copyInheritedSettings(command).helpCommand(false).configureHelp({ showGlobalOptions: true });
    settle(child);
  }
}

const pathOf = (command: Command): string => (command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`);
