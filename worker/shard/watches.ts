/** Requests that wait for something newer than they have (`?watch`): a commit moves rev, a report what is observed. */
import type { Clock } from "../ports.ts";

/** Where the two counters of the cluster stand. */
export interface Mark {
  readonly rev: number;
  readonly observed: number;
}

export const isNewer = (mark: Mark, than: Mark): boolean => mark.rev > than.rev || mark.observed > than.observed;

interface Waiter {
  readonly than: Mark;
  end(): void;
}

export class Watches {
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #known: Mark = { rev: 0, observed: 0 };
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get rev(): number {
    return this.#known.rev;
  }

  /** Resolves when something newer is known, after `timeoutMs`, or when the caller goes away; which of them, the caller reads. */
  waitFor(than: Mark, timeoutMs: number, signal: AbortSignal | null): Promise<void> {
    if (isNewer(this.#known, than) || this.#stopped || signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const cancelTimer = this.#clock.after(timeoutMs, () => waiter.end());
      const onAbort = () => waiter.end();
      const waiter: Waiter = {
        than,
        end: () => {
          this.#waiters.delete(waiter);
          cancelTimer();
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Both counters only rise: what is heard late changes nothing. */
  reached({ rev, observed }: Mark): void {
    if (!isNewer({ rev, observed }, this.#known)) return;
    this.#known = { rev: Math.max(rev, this.#known.rev), observed: Math.max(observed, this.#known.observed) };
    for (const waiter of this.#waiters) if (isNewer(this.#known, waiter.than)) waiter.end();
  }

  stop(): void {
    this.#stopped = true;
    for (const waiter of this.#waiters) waiter.end();
  }
}
