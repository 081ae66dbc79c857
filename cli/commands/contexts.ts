/** `berth context …`: the clusters this account knows. */
import { Client } from "../client/client.ts";
import {
  changeContexts,
  checkedUrl,
  type ContextFile,
  readContexts,
  refusePlaintext,
  resolveTarget,
  type StoredContext,
  type Target,
} from "../client/contexts.ts";
import type { WhoAmI } from "../client/resources.ts";
import { httpTransport } from "../client/transport.ts";
import { readAllInput, readSecret } from "../ask.ts";
import { CliError, EXIT } from "../exit.ts";
import { emit, printFields, printTable } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { readNamed } from "../read-named.ts";

/** A context as it may be shown: without the token. */
const withoutToken = ({ token: _token, ...rest }: StoredContext) => rest;

function effective(shell: Shell): Target | null {
  try {
    return resolveTarget({ env: shell.env, cwd: shell.cwd });
  } catch {
    return null;
  }
}

export async function contextLs(shell: Shell): Promise<void> {
  const { current, contexts } = readContexts(shell.env);
  const used = effective(shell);
  await emit(
    shell,
    { current, used: used === null ? null : { name: used.name, url: used.url, source: used.source }, contexts: contexts.map(withoutToken) },
    () => {
      printTable(
        shell,
        [
          { header: "", cell: (context) => (context.name === current ? "*" : "") },
          { header: "context", cell: (context) => context.name },
          { header: "address", cell: (context) => context.url },
          {
            header: "pinned",
            cell: (context) =>
              [context.rootThumbprint === null ? "" : "root", context.spki === null ? "" : "certificate"]
                .filter((text) => text !== "")
                .join(", ") || "-",
          },
        ],
        contexts,
        "no contexts are kept; add one with `berth context add NAME --url https://HOST:7420`",
      );
      if (used !== null && used.source !== "chosen")
        line(
          shell.terminal,
          `\nHere commands go to ${visible(used.url)}, from ${used.source === "directory" ? visible(used.name) : used.source === "environment" ? "BERTH_URL" : visible(used.name)}.`,
        );
    },
  );
}

export interface ContextAddOptions {
  readonly url: string;
  readonly root?: string;
  readonly spki?: string;
  readonly tokenStdin: boolean;
  readonly tokenFile?: string;
}

export async function contextAdd(shell: Shell, name: string, options: ContextAddOptions): Promise<void> {
  const url = checkedUrl(options.url);
  refusePlaintext(url, shell.isInsecure);
  const token = await tokenFor(shell, options);
  if (!/^berth_[A-Za-z0-9_-]+$/.test(token))
    throw new CliError("a token begins with berth_ and holds letters, digits, - and _", {
      exitCode: EXIT.usage,
      next: "berth token create NAME --role deployer   (where you are known already)",
    });
  const context: StoredContext = { name, url, token, rootThumbprint: options.root ?? null, spki: options.spki ?? null };
  // Asked before it is kept: a context that cannot work is found out now, not at three in the morning.
  const pins = { root: context.rootThumbprint, spki: context.spki };
  const client = new Client({ url, token, startHint: "check the address", transport: httpTransport(url, pins, process.env) });
  const who = await client.get<WhoAmI>("/v1/whoami");
  let current: string | null = null;
  await changeContexts(shell.env, (file) => {
    current = file.current ?? name;
    return { current, contexts: [...file.contexts.filter((other) => other.name !== name), context] };
  });
  await emit(shell, { ...withoutToken(context), whoami: who }, () =>
    line(
      shell.terminal,
      `${name} is kept: ${visible(who.name)}, ${visible(who.role)} of ${who.namespace === null ? "all namespaces" : visible(who.namespace)}${current === name ? "" : `; use it with: berth context use ${name}`}`,
    ),
  );
}

async function tokenFor(shell: Shell, options: ContextAddOptions): Promise<string> {
  if (options.tokenFile !== undefined) return readNamed("--token-file", options.tokenFile).trim();
  if (options.tokenStdin) return (await readAllInput()).trim();
  const fromEnvironment = shell.env["BERTH_TOKEN"];
  if (fromEnvironment !== undefined && fromEnvironment !== "") return fromEnvironment;
  return (await readSecret(shell, "Token: ", false)).trim();
}

function withContext(file: ContextFile, name: string): ContextFile {
  if (file.contexts.some((context) => context.name === name)) return file;
  throw new CliError(`there is no context "${visible(name)}"`, { exitCode: EXIT.usage, next: "berth context ls" });
}

export async function contextUse(shell: Shell, name: string): Promise<void> {
  await changeContexts(shell.env, (file) => ({ contexts: withContext(file, name).contexts, current: name }));
  const used = effective(shell);
  await emit(shell, { current: name }, () => {
    line(shell.terminal, `commands go to ${name} from now on`);
    if (used !== null && used.source !== "chosen")
      line(
        shell.terminal,
        `but not here: ${used.source === "environment" ? "BERTH_URL is set" : `${visible(used.name)} comes first`}; use --context ${name}`,
      );
  });
}

export async function contextRm(shell: Shell, name: string): Promise<void> {
  await changeContexts(shell.env, (file) => ({
    current: file.current === name ? null : file.current,
    contexts: withContext(file, name).contexts.filter((context) => context.name !== name),
  }));
  await emit(shell, { removed: name }, () =>
    line(shell.terminal, `${name} is forgotten here; its token still works until \`berth token rm\``),
  );
}

export async function contextShow(shell: Shell): Promise<void> {
  const target = shell.target();
  const who = await shell.client().get<WhoAmI>("/v1/whoami");
  await emit(
    shell,
    { name: target.name, url: target.url, source: target.source, rootThumbprint: target.pins.root, spki: target.pins.spki, whoami: who },
    () =>
      printFields(shell, [
        ["context", target.name],
        ["address", target.url],
        ["pinned", target.pins.root ?? target.pins.spki ?? "nothing"],
        ["token", `${who.name} (${who.role} of ${who.namespace ?? "all namespaces"})`],
      ]),
  );
}
