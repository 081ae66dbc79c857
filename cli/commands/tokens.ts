/** `berth token …` for people and programs, `berth join-token …` for machines. A token is printed once, when it is made. */
import { JOIN_TOKEN_LIFETIME_MS, type JoinTokenCreated, type Removed, type Role, TOKEN_LIFETIME_MS } from "../../shared/api/resources.ts";
import { segment } from "../client/client.ts";
import { isLoopback } from "../client/contexts.ts";
import { resolveOne, shortId } from "../client/prefix.ts";
import type { JoinTokenCreate, JoinTokenInfo, TokenCreate, TokenCreated, TokenInfo } from "../client/resources.ts";
import { CliError, EXIT } from "../exit.ts";
import { age, duration, parseDuration } from "../render/amount.ts";
import { emit, emitRemoved, printTable } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { parsePairs } from "./pairs.ts";

/** "in 23h", "expired" or "never". */
const expiry = (expires: string | null, nowMs: number): string => {
  if (expires === null) return "never";
  const leftMs = Date.parse(expires) - nowMs;
  return leftMs <= 0 ? "expired" : `in ${duration(leftMs + 30_000)}`;
};

export function durationOption(text: string): number {
  const ms = parseDuration(text);
  if (ms === null) throw new CliError(`"${text}" is no duration: write 30m, 24h or 7d`, { exitCode: EXIT.usage });
  return ms;
}

function lifetimeOption(text: string, { min, max }: { readonly min: number; readonly max: number }): number {
  const ms = durationOption(text);
  if (ms < min || ms > max)
    throw new CliError(`"${text}" is no lifetime: write one from ${duration(min)} to ${duration(max)}, as 30m, 24h or 7d`, {
      exitCode: EXIT.usage,
    });
  return ms;
}

export async function tokenLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<TokenInfo>("/v1/tokens");
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "token", cell: (token) => shortId(token.id) },
        { header: "name", cell: (token) => token.name },
        { header: "role", cell: (token) => token.role },
        { header: "namespace", cell: (token) => token.namespace ?? "all" },
        { header: "expires", cell: (token) => expiry(token.expires, client.nowMs()) },
        { header: "age", cell: (token) => age(token.created, client.nowMs()), align: "right" },
      ],
      list.items,
      "no tokens",
    ),
  );
}

export async function tokenCreate(
  shell: Shell,
  name: string,
  options: { role: Role; expires?: string; allNamespaces: boolean },
): Promise<void> {
  const body: TokenCreate = {
    name,
    role: options.role,
    namespace: options.allNamespaces ? null : shell.namespace,
    expiresInMs: options.expires === undefined ? null : lifetimeOption(options.expires, TOKEN_LIFETIME_MS),
  };
  const created = await shell.client().post<TokenCreated>("/v1/tokens", body);
  await emit(shell, created, () => {
    line(shell.terminal, created.token);
    shell.terminal.err(
      `This is the only time it is shown. ${visible(created.role)} of ${created.namespace === null ? "all namespaces" : visible(created.namespace)}, expires ${expiry(created.expires, shell.client().nowMs())}.\n`,
    );
  });
}

export async function tokenRm(shell: Shell, typed: string): Promise<void> {
  const { items } = await shell.client().list<TokenInfo>("/v1/tokens");
  const token = resolveOne(items, typed, { noun: "token", list: "berth token ls" });
  const removed = await shell.client().delete<Removed>(`/v1/tokens/${segment(token.id)}`);
  await emitRemoved(shell, removed, `token ${visible(token.name)} is worth nothing any more`);
}

export interface JoinTokenOptions {
  readonly site: string;
  readonly label: readonly string[];
  readonly namePattern?: string;
  readonly needsApproval: boolean;
  readonly uses: number;
  readonly expires: string;
  readonly address?: string;
}

export async function joinTokenCreate(shell: Shell, options: JoinTokenOptions): Promise<void> {
  const body: JoinTokenCreate = {
    site: options.site,
    labels: parsePairs(options.label, "label"),
    needsApproval: options.needsApproval,
    uses: options.uses,
    expiresInMs: lifetimeOption(options.expires, JOIN_TOKEN_LIFETIME_MS),
    ...(options.namePattern === undefined ? {} : { namePattern: options.namePattern }),
    ...(options.address === undefined ? {} : { url: options.address }),
  };
  const created = await shell.client().post<JoinTokenCreated>("/v1/join-tokens", body);
  await emit(shell, created, () => {
    line(shell.terminal, visible(created.command));
    const uses = created.usesMax === 1 ? "one machine" : `${created.usesMax} machines`;
    const approval = created.needsApproval ? "; each waits for `berth node approve`" : "";
    shell.terminal.err(
      `Run it as root on the machine that shall join site ${visible(created.site)}. Good for ${uses}, expires ${expiry(created.expires, shell.client().nowMs())}${approval}.\n`,
    );
    if (isLoopback(shell.target().url) && options.address === undefined) {
      shell.terminal.err(
        `This control plane listens on ${shell.target().url} only, which other machines cannot reach: start it with \`berth server --listen 0.0.0.0:7420\`.\n`,
      );
    }
  });
}

export async function joinTokenLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<JoinTokenInfo>("/v1/join-tokens");
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "join token", cell: (token) => shortId(token.id) },
        { header: "site", cell: (token) => token.site },
        { header: "uses", cell: (token) => `${token.uses}/${token.usesMax}`, align: "right" },
        { header: "approval", cell: (token) => (token.needsApproval ? "needed" : "-") },
        { header: "expires", cell: (token) => expiry(token.expires, client.nowMs()) },
        { header: "age", cell: (token) => age(token.created, client.nowMs()), align: "right" },
      ],
      list.items,
      "no join tokens; make one with `berth join-token create --site NAME`",
    ),
  );
}

export async function joinTokenRm(shell: Shell, typed: string): Promise<void> {
  const { items } = await shell.client().list<JoinTokenInfo>("/v1/join-tokens");
  const token = resolveOne(items, typed, { noun: "join token", list: "berth join-token ls" });
  const removed = await shell.client().delete<Removed>(`/v1/join-tokens/${segment(token.id)}`);
  await emitRemoved(shell, removed, "the join token is worth nothing any more; machines that joined with it stay");
}
