/** `berth audit`: who changed what, and whether anybody has changed that record since. */
import { type AuditRow, type ChainVerdict, type SignedHead, verifyChain } from "../../shared/audit/chain.ts";
import type { AuditEntry, AuditHead } from "../../shared/api/resources.ts";
import { JOSE_TYPES } from "../../shared/wire/jose.ts";
import type { KeysAnswer } from "../../shared/wire/keys.ts";
import type { List } from "../client/client.ts";
import { openKeySet, openSigned, type TrustedKeys } from "../client/signed.ts";
import { CliError } from "../exit.ts";
import { age } from "../render/amount.ts";
import { emit, printTable } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";

type AuditList = List<AuditEntry> & { readonly head: AuditHead | null };
const PATH = "/v1/audit";

export async function audit(shell: Shell, options: { readonly verify: boolean }): Promise<void> {
  if (options.verify) await verifyLog(shell);
  else await showLog(shell);
}

async function showLog(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.get<AuditList>(PATH);
  const nowMs = client.nowMs();
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "rev", cell: (row) => row.rev, align: "right" },
        { header: "age", cell: (row) => age(row.at, nowMs), align: "right" },
        { header: "actor", cell: (row) => row.actor },
        { header: "verb", cell: (row) => row.verb },
        { header: "namespace", cell: (row) => row.namespace ?? "-" },
        { header: "object", cell: (row) => row.object },
        { header: "hash", cell: (row) => row.hash?.slice(0, 12) ?? "not yet", style: (row) => (row.hash === null ? "quiet" : undefined) },
        { header: "detail", cell: (row) => row.detail },
      ],
      list.items,
      "nothing has been changed yet",
    ),
  );
}

/** A broken log or signature ends with exit code 1 and the first row that is wrong. */
async function verifyLog(shell: Shell): Promise<void> {
  const { entries, head } = await readLog(shell);
  const pinned = shell.target().pins.root;
  const keys = openKeySet((await shell.client().get<KeysAnswer>("/agent/v1/keys")).keySet, pinned);
  if (head !== null) checkHead(head, keys);
  const verdict = verifyChain(entries.map(toRow), head);
  if (verdict.kind === "broken") throw brokenAt(verdict, entries);
  const result = {
    ...verdict,
    head: head === null ? null : { rev: head.rev, hash: head.hash },
    root: keys.root,
    rootPinned: pinned !== null,
  };
  await emit(shell, result, () => {
    const { terminal } = shell;
    line(
      terminal,
      `${terminal.style.good("unbroken")}: ${verdict.rows} ${verdict.rows === 1 ? "row" : "rows"}${head === null ? "" : ` up to rev ${head.rev}, head ${head.hash}`}`,
    );
    if (verdict.waiting > 0)
      line(
        terminal,
        `${verdict.waiting} newer ${verdict.waiting === 1 ? "row waits" : "rows wait"} to be chained, which takes a few seconds`,
      );
    line(
      terminal,
      pinned === null
        ? `signed under root key ${keys.root}, which nothing here pins: compare it`
        : "signed under the root key that this context pins",
    );
  });
}

/** The whole log, oldest first. The head is the first page's: rows that came after it count as waiting. */
async function readLog(shell: Shell): Promise<{ readonly entries: readonly AuditEntry[]; readonly head: AuditHead | null }> {
  const entries: AuditEntry[] = [];
  let head: AuditHead | null = null;
  for (let after = 0, isFirst = true; ; isFirst = false) {
    const page = await shell.client().get<AuditList>(PATH, { after });
    if (isFirst) ({ head } = page);
    // The first tick of all came between two pages: now there is a head to check against.
    else if (head === null && page.head !== null) return await readLog(shell);
    const last = page.items.at(-1);
    if (last === undefined) return { entries, head };
    entries.push(...page.items);
    after = last.rev;
  }
}

function checkHead(head: AuditHead, keys: TrustedKeys): void {
  const what = "the head of the audit log";
  const claims = openSigned(head.signed, JOSE_TYPES.auditHead, { keys, what }) as SignedHead;
  if (claims.iss !== keys.set.iss || claims.rev !== head.rev || claims.rows !== head.rows || claims.hash !== head.hash)
    throw new CliError(`${what} was changed: row ${head.rev} is not the one that was signed (row ${claims.rev} was)`);
}

function brokenAt({ rev, message }: Extract<ChainVerdict, { kind: "broken" }>, entries: readonly AuditEntry[]): CliError {
  const row = entries.find((entry) => entry.rev === rev);
  return new CliError(`the audit log is broken at row ${rev}: ${message}`, {
    details: row === undefined ? [] : [visible(`row ${rev} says: ${row.at} ${row.actor} ${row.verb} ${row.object} ${row.detail}`)],
  });
}

const toRow = ({ at, ...entry }: AuditEntry): AuditRow & { readonly hash: string | null } => ({ ...entry, atMs: Date.parse(at) });
