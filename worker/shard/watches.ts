/** Requests that wait for the cluster's rev to move (`?watch=REV`). */
import type { Clock } from "../ports.ts";

interface Waiter {
  readonly rev: number;
  end(): void;
}

export class Watches {
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #rev = 0;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get rev(): number {
    return this.#rev;
  }

  /** Resolves when `rev` has been committed, after `timeoutMs`, or when the caller goes away; which of them, the caller reads. */
  waitFor(rev: number, timeoutMs: number, signal: AbortSignal | null): Promise<void> {
    if (rev <= this.#rev || this.#stopped || signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const cancelTimer = this.#clock.after(timeoutMs, () => waiter.end());
      const onAbort = () => waiter.end();
      const waiter: Waiter = {
        rev,
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

  reached(rev: number): void {
    if (rev <= this.#rev) return;
    this.#rev = rev;
    for (const waiter of this.#waiters) if (waiter.rev <= rev) waiter.end();
  }

  stop(): void {
    this.#stopped = true;
    for (const waiter of this.#waiters) waiter.end();
  }
}
