/** Polls that are held: at most one a node, woken by node id in time proportional to the woken. */
import type { Clock } from "../ports.ts";

/**
 * rung: look again, something may be new. timeout: the hold is over. replaced: a newer poll of the same node is held.
 * closed: the agent hung up, or the control plane stops.
 */
export type HoldOutcome = "rung" | "timeout" | "replaced" | "closed";

interface Hold {
  end(outcome: HoldOutcome): void;
}

export class Doorbell {
  readonly #clock: Clock;
  readonly #holds = new Map<string, Hold>();
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get held(): number {
    return this.#holds.size;
  }

  /** Waits at most `holdMs`. The newest poll of a node wins: an agent that reconnected must not wait behind its own ghost. */
  hold(node: string, holdMs: number, signal: AbortSignal | null): Promise<HoldOutcome> {
    this.#holds.get(node)?.end("replaced");
    if (this.#stopped || signal?.aborted === true) return Promise.resolve("closed");
    return new Promise((resolve) => {
      const onAbort = () => hold.end("closed");
      const cancelTimer = this.#clock.after(holdMs, () => hold.end("timeout"));
      const hold: Hold = {
        end: (outcome) => {
          if (this.#holds.get(node) === hold) this.#holds.delete(node);
          cancelTimer();
          signal?.removeEventListener("abort", onAbort);
          resolve(outcome);
        },
      };
      this.#holds.set(node, hold);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  ring(node: string): void {
    this.#holds.get(node)?.end("rung");
  }

  /** Ends every held poll and holds none from now on. */
  stop(): void {
    this.#stopped = true;
    for (const hold of this.#holds.values()) hold.end("closed");
  }
}
