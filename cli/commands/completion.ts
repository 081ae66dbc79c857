/** Completion for bash, zsh and fish: the scripts ask `berth __complete`, which knows the commands and asks the cluster for names. */
import type { Command } from "commander";
import type { App, Node } from "../../shared/api/resources.ts";
import { readContexts } from "../client/contexts.ts";
import type { JoinTokenInfo, Namespace, RegistryInfo, Site, TokenInfo } from "../client/resources.ts";
import { CliError, EXIT } from "../exit.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { appPath, appsPath, inNamespace } from "./paths.ts";

const SCRIPTS: Readonly<Record<string, string>> = {
  // By the line and not by bash's words, which end at every "=" and ":"; what stands before the last of these is not to be said again.
  bash: `_berth() {
  local line="\${COMP_LINE:0:COMP_POINT}" typed said name
  local -a words
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  typed="\${words[\${#words[@]}-1]}"
  said="\${typed%"\${typed##*[=:]}"}"
  COMPREPLY=()
  while IFS= read -r name; do COMPREPLY+=("\${name#"$said"}"); done < <(berth __complete -- "\${words[@]:1}" 2>/dev/null)
}
complete -o default -F _berth berth`,
  zsh: `#compdef berth
_berth() {
  local -a names
  names=(\${(f)"$(berth __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#names} )); then compadd -a names; else _files; fi
}
compdef _berth berth`,
  fish: `complete -c berth -e
complete -c berth -a '(berth __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
};

export async function completion(shell: Shell, name: string): Promise<void> {
  const script = SCRIPTS[name];
  if (script === undefined)
    throw new CliError(`there is no completion for "${visible(name)}": bash, zsh or fish`, { exitCode: EXIT.usage });
  line(shell.terminal, script);
}

/** A person at the keyboard does not wait longer for names. */
const NAMES_TIMEOUT_MS = 1_000;

/** What may stand at the last of `words`, a line each. Silent when the cluster cannot be asked. */
export async function complete(shell: Shell, program: Command, words: readonly string[]): Promise<void> {
  const { command, before, last, value } = locate(program, words);
  const names =
    value !== null
      ? value
      : last.startsWith("-")
        ? flags(command)
        : command.commands.length > 0
          ? subcommands(command)
          : await argumentNames(shell, command, before);
  for (const name of names) if (name.startsWith(last)) line(shell.terminal, visible(name));
}

interface Place {
  readonly command: Command;
  /** Arguments that stand before the word. */
  readonly before: readonly string[];
  readonly last: string;
  /** What the option before the word may have; null: the word is no option's value. Empty: any text. */
  readonly value: readonly string[] | null;
}

export function locate(program: Command, words: readonly string[]): Place {
  const last = words.at(-1) ?? "";
  let command = program;
  const before: string[] = [];
  let awaited: readonly string[] | null = null;
  for (const word of words.slice(0, -1)) {
    if (awaited !== null) {
      awaited = null;
      continue;
    }
    if (word.startsWith("-")) {
      const option = [...command.options, ...program.options].find((candidate) => candidate.short === word || candidate.long === word);
      awaited = option !== undefined && (option.required || option.optional) ? (option.argChoices ?? []) : null;
      continue;
    }
    const child = command.commands.find((candidate) => candidate.name() === word);
    if (child !== undefined) command = child;
    else before.push(word);
  }
  return { command, before, last, value: awaited };
}

const subcommands = (command: Command): string[] => command.commands.map((child) => child.name()).filter((name) => !name.startsWith("__"));

function flags(command: Command): string[] {
  const chain: Command[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) chain.push(at);
  return [...new Set(chain.flatMap((at) => at.options.map((option) => option.long ?? "")))].filter((flag) => flag !== "").concat("--help");
}

/** Names for an argument, by what the argument is called. */
const NAMES: Readonly<Record<string, (shell: Shell, before: readonly string[], signal: AbortSignal) => Promise<readonly string[]>>> = {
  app: async (shell, _before, signal) =>
    (await shell.client().list<App>(appsPath(shell.namespace), {}, signal)).items.map(({ name }) => name),
  service: async (shell, [app = ""], signal) =>
    (await shell.client().get<App>(appPath(shell.namespace, app), {}, signal)).services.map(({ name }) => name),
  "app/service=number": async (shell, _before, signal) =>
    (await shell.client().list<App>(appsPath(shell.namespace), {}, signal)).items.flatMap((app) =>
      app.services.map(({ name, wanted }) => `${app.name}/${name}=${wanted}`),
    ),
  node: async (shell, _before, signal) => (await shell.client().list<Node>("/v1/nodes", {}, signal)).items.map(({ name }) => name),
  site: async (shell, _before, signal) => (await shell.client().list<Site>("/v1/sites", {}, signal)).items.map(({ name }) => name),
  namespace: async (shell, _before, signal) =>
    (await shell.client().list<Namespace>("/v1/namespaces", {}, signal)).items.map(({ name }) => name),
  token: async (shell, _before, signal) => (await shell.client().list<TokenInfo>("/v1/tokens", {}, signal)).items.map(({ id }) => id),
  "join-token": async (shell, _before, signal) =>
    (await shell.client().list<JoinTokenInfo>("/v1/join-tokens", {}, signal)).items.map(({ id }) => id),
  registry: async (shell, _before, signal) =>
    (await shell.client().list<RegistryInfo>(inNamespace(shell.namespace, "/registries"), {}, signal)).items.map(
      ({ registry }) => registry,
    ),
  context: async (shell) => readContexts(shell.env).contexts.map(({ name }) => name),
  shell: async () => Object.keys(SCRIPTS),
};

async function argumentNames(shell: Shell, command: Command, before: readonly string[]): Promise<readonly string[]> {
  const { registeredArguments } = command;
  const argument = registeredArguments[Math.min(before.length, registeredArguments.length - 1)];
  if (argument === undefined || (before.length >= registeredArguments.length && !argument.variadic)) return [];
  try {
    return (await NAMES[argument.name()]?.(shell, before, AbortSignal.timeout(NAMES_TIMEOUT_MS))) ?? [];
  } catch {
    return [];
  }
}
