/** When nodes are called silent and lost: by the requests that truly reached the control plane. */
import type { HttpRequest } from "../../../agent/ports.ts";
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { Findings } from "./findings.ts";
import type { Batch, NodeRow } from "./rows.ts";

/** A node is lost at the earliest so long after its last word: the first of the waits that double with each return. */
const LOST_AFTER_MS = 8_000;
/** Agents wait so long at most between two tries. */
const PAUSE_MAX_MS = 30_000;
/** Who serves looks at silence so often at least: of a standstill it sees so much less. */
const LOOKS_EVERY_MS = 7_000;
/** A session whose commit came late is heard of here when it is written, and by its process when it was asked for. */
const LATE_MS = 100;
/** Contacts that are remembered of each node: a write can be on its way for longer than a node needs to come again. */
const CONTACTS_KEPT = 40;

export class Presence {
  readonly #findings: Findings;
  /** When proved requests of each node arrived, oldest first. */
  readonly #contacts = new Map<string, number[]>();
  /** When somebody last wrote each node's status or session. */
  readonly #writtenMs = new Map<string, number>();
  /** The process that serves has counted every node as seen when it began. */
  #servesSinceMs = 0;
  readonly #standstills: { readonly fromMs: number; toMs: number }[] = [];
  #isStanding = false;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** Another process serves from now on. */
  serves(): void {
    this.#servesSinceMs = this.#findings.nowMs;
  }

  /** The process that serves stands still: nobody can be heard meanwhile, and that is nobody's silence. */
  standsStill(): void {
    const { nowMs } = this.#findings;
    const last = this.#standstills.at(-1);
    if (this.#isStanding && last !== undefined) last.toMs = nowMs;
    else this.#standstills.push({ fromMs: nowMs, toMs: nowMs });
    this.#isStanding = true;
  }
  goesOn(): void {
    this.#isStanding = false;
  }

  #stoodStillMs(fromMs: number, toMs: number): number {
    return this.#standstills.reduce((sum, one) => sum + Math.max(0, Math.min(toMs, one.toMs) - Math.max(fromMs, one.fromMs)), 0);
  }

  answered({ headers, url }: HttpRequest, { status }: { readonly status: number }, askedMs: number): void {
    if (status >= 300 || !url.includes("/agent/v1/")) return;
    const node = proverOf(headers?.["authorization"]);
    if (node !== null) this.#heard(node, askedMs);
  }

  #heard(node: string, atMs: number): void {
    const contacts = obtain(this.#contacts, node, () => []);
    contacts.push(atMs);
    // Answers come in another order than their requests.
    for (let at = contacts.length - 1; at > 0 && contacts[at]! < contacts[at - 1]!; at--)
      [contacts[at], contacts[at - 1]] = [contacts[at - 1]!, contacts[at]!];
    if (contacts.length > CONTACTS_KEPT) contacts.shift();
  }

  check(batch: Batch): void {
    for (const { key, before, after } of batch.of("nodes")) {
      if (after === null) continue;
      const isNewSession = before?.session !== after.session;
      if (isNewSession && after.session > 0) this.#heard(key, this.#findings.nowMs);
      if (before === null) continue;
      if (before.status === after.status && before.status_ms !== after.status_ms)
        this.#findings.fail("I12", `${after.name} was called ${after.status} again, which it was: somebody wrote over what was committed`);
      if (before.status !== after.status && after.status !== "ready") this.#edge(after, batch);
      if (before.status !== after.status || isNewSession) this.#writtenMs.set(key, this.#findings.nowMs);
    }
  }

  #edge({ id, name, status }: NodeRow, { askedMs }: Batch): void {
    const writtenMs = this.#writtenMs.get(id) ?? 0;
    this.#findings.expect(
      "I12",
      writtenMs <= askedMs,
      () =>
        `${name} was called ${status} by who had not seen that it had changed ${Math.round(this.#findings.nowMs - writtenMs)} ms before`,
    );
    if (status !== "lost") return;
    const contacts = this.#contacts.get(id) ?? [];
    const last = contacts.findLast((atMs) => atMs <= askedMs) ?? 0;
    const sinceMs = Math.max(last, this.#servesSinceMs);
    const silentMs = Math.round(askedMs - sinceMs - this.#stoodStillMs(sinceMs, askedMs));
    this.#findings.expect("I24", silentMs >= LOST_AFTER_MS - LATE_MS, () => `${name} was called lost ${silentMs} ms after it was heard`);
    this.#returning(name, last, askedMs);
  }

  /** Who could speak to nobody for a while may be in a pause between two tries. */
  #returning(name: string, heardMs: number, askedMs: number): void {
    for (const { fromMs, toMs } of this.#standstills) {
      const awayMs = Math.min(PAUSE_MAX_MS, toMs - fromMs - LOOKS_EVERY_MS);
      if (awayMs <= 0 || heardMs >= toMs || askedMs < toMs) continue;
      const sinceMs = Math.round(askedMs - toMs);
      this.#findings.expect(
        "I24",
        sinceMs >= LOST_AFTER_MS + awayMs - LATE_MS,
        () => `${name} was called lost ${sinceMs} ms after it could be heard again, and agents may pause for longer`,
      );
    }
  }
}

/** Node of a request's proof, `Scheme <jws>` with `kid` node.session; null: it has none. */
export function proverOf(authorization: string | undefined): string | null {
  const header = /^\S+ ([A-Za-z0-9_-]+)\./.exec(authorization ?? "")?.[1];
  if (header === undefined) return null;
  try {
    const { kid } = JSON.parse(Buffer.from(header, "base64url").toString()) as { readonly kid?: unknown };
    return typeof kid === "string" ? kid.slice(0, kid.indexOf(".")) : null;
  } catch {
    return null;
  }
}
