/** Facts about replicas, and which of them the control plane does not know yet. */
import type { FactBase } from "../shared/converge/facts.ts";
import type { ReplicaFact, ReplicaState } from "../shared/wire/report.ts";

interface Entry {
  base: FactBase;
  readySinceMs: number | null;
  /** Boot milliseconds when the engine last confirmed it. */
  seenMs: number;
  version: number;
  acknowledged: number;
}

/** What a report carried, to be acknowledged with it. */
export type Carried = ReadonlyMap<string, number>;

export class FactBook {
  readonly #entries = new Map<string, Entry>();
  readonly #onChange: () => void;
  /** What ended may be forgotten now. */
  readonly onAcknowledged: () => void;

  constructor(listeners: { readonly onChange: () => void; readonly onAcknowledged: () => void }) {
    this.#onChange = listeners.onChange;
    this.onAcknowledged = listeners.onAcknowledged;
  }

  put(base: FactBase, { readySinceMs, seenMs }: { readonly readySinceMs: number | null; readonly seenMs: number }): void {
    const entry = this.#entries.get(base.replica);
    if (entry === undefined) {
      this.#entries.set(base.replica, { base, readySinceMs, seenMs, version: 1, acknowledged: 0 });
      this.#onChange();
      return;
    }
    entry.seenMs = seenMs;
    if (entry.readySinceMs === readySinceMs && isSame(entry.base, base)) return;
    entry.base = base;
    entry.readySinceMs = readySinceMs;
    entry.version++;
    this.#onChange();
  }

  remove(replica: string): void {
    this.#entries.delete(replica);
  }

  /** The control plane knows that the replica is in this state. What it was told of an earlier state does not count. */
  isAcknowledged(replica: string, state: ReplicaState): boolean {
    const entry = this.#entries.get(replica);
    return entry !== undefined && entry.base.state === state && entry.acknowledged === entry.version;
  }

  /** A copy: the caller removes while it walks. */
  replicas(): string[] {
    return [...this.#entries.keys()];
  }

  get hasNews(): boolean {
    for (const entry of this.#entries.values()) if (entry.acknowledged !== entry.version) return true;
    return false;
  }

  collect(nowMs: number, { all }: { readonly all: boolean }): { readonly facts: ReplicaFact[]; readonly carried: Carried } {
    const facts: ReplicaFact[] = [];
    const carried = new Map<string, number>();
    for (const [replica, entry] of this.#entries) {
      if (!all && entry.acknowledged === entry.version) continue;
      const ageMs = Math.max(0, nowMs - entry.seenMs);
      facts.push({
        ...entry.base,
        readyForMs: entry.readySinceMs === null ? null : Math.max(0, nowMs - ageMs - entry.readySinceMs),
        ageMs,
      });
      carried.set(replica, entry.version);
    }
    return { facts, carried };
  }

  acknowledge(carried: Carried): void {
    for (const [replica, version] of carried) {
      const entry = this.#entries.get(replica);
      if (entry !== undefined && entry.acknowledged < version) entry.acknowledged = version;
    }
  }

  /** A new session: the control plane may know nothing. */
  unacknowledge(): void {
    for (const entry of this.#entries.values()) entry.acknowledged = 0;
  }
}

const isSame = (a: FactBase, b: FactBase): boolean => JSON.stringify(a) === JSON.stringify(b);
