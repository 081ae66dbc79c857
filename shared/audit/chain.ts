/**
 * The audit log as a chain. Each row's hash is the SHA-256 of the hash before it followed by the row's canonical JSON;
 * the newest chained row is the head, which the control plane signs. Whoever changes or removes a row breaks the hash of
 * it or of the row after it, and whoever makes all hashes anew cannot sign the head.
 *
 * What this does not show: an older copy of the whole log with the head that was signed then. A head that somebody kept
 * elsewhere does.
 */
import { canonicalJson, hashText } from "../model/content.ts";

/** One carried out mutation, as it is hashed. */
export interface AuditRow {
  /** Of the commit that carried it out. */
  readonly rev: number;
  readonly atMs: number;
  readonly actor: string;
  readonly verb: string;
  readonly namespace: string | null;
  readonly object: string;
  readonly detail: string;
}

/** Where a chain ends: its newest row's rev and hash, and how many rows it has. */
export interface ChainHead {
  readonly rev: number;
  readonly rows: number;
  readonly hash: string;
}

/** What the control plane signs under its lease key: JWS, typ `auditHead` (shared/wire/jose.ts). */
export interface SignedHead extends ChainHead {
  /** The cluster's id, as in its key set. */
  readonly iss: string;
  readonly era: string;
}

/** Before the first row. */
export const CHAIN_START: ChainHead = { rev: 0, rows: 0, hash: "" };

/** Lower-case hex. */
export function auditHash(previous: string, { rev, atMs, actor, verb, namespace, object, detail }: AuditRow): string {
  return hashText(previous + canonicalJson({ rev, atMs, actor, verb, namespace, object, detail }));
}

/** Chains `rows`, oldest first, to `head`: the hash of each, and where the chain ends then. */
export function chainRows(
  head: ChainHead,
  rows: readonly AuditRow[],
): { readonly hashes: readonly { readonly rev: number; readonly hash: string }[]; readonly head: ChainHead } {
  let { hash } = head;
  const hashes = rows.map((row) => {
    hash = auditHash(hash, row);
    return { rev: row.rev, hash };
  });
  return { hashes, head: { rev: rows.at(-1)?.rev ?? head.rev, rows: head.rows + rows.length, hash } };
}

export type ChainVerdict =
  /** `waiting`: rows after the head, which are not chained yet. */
  | { readonly kind: "intact"; readonly rows: number; readonly waiting: number }
  /** `rev`: the first row at which it breaks. */
  | { readonly kind: "broken"; readonly rev: number; readonly message: string };

/**
 * Recomputes the chain over the whole log, oldest first. `head` is read before the rows or with them, and its signature
 * is the caller's to check; null: nothing has been chained yet.
 */
export function verifyChain(rows: readonly (AuditRow & { readonly hash: string | null })[], head: ChainHead | null): ChainVerdict {
  const end = head ?? CHAIN_START;
  let last = CHAIN_START;
  let waiting = 0;
  for (const row of rows) {
    if (row.rev > end.rev) {
      if (head === null && row.hash !== null) return broken(row.rev, `row ${row.rev} is chained, and no head was signed`);
      waiting += 1;
      continue;
    }
    const hash = auditHash(last.hash, row);
    if (row.hash !== hash) {
      const between = last.rows === 0 ? "rows before it were removed" : `rows between ${last.rev} and it were removed`;
      return broken(row.rev, `row ${row.rev} was changed, or ${between}`);
    }
    last = { rev: row.rev, rows: last.rows + 1, hash };
  }
  if (last.rev !== end.rev)
    return broken(end.rev, `row ${end.rev} is missing, and with it all after ${last.rev}: the signed head names it`);
  if (last.hash !== end.hash)
    return broken(end.rev, `the log is not the one whose head was signed: its rows up to ${end.rev} were written anew`);
  return { kind: "intact", rows: last.rows, waiting };
}

const broken = (rev: number, message: string): ChainVerdict => ({ kind: "broken", rev, message });
