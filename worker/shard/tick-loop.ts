/**
 * Moves the cluster clock, which counts the time that fences wait for, and with it chains the audit log. A clock that
 * stands still only makes a wait longer, so it moves only while something is pending: a cluster in which nothing happens
 * writes nothing.
 *
 * Level-triggered: `kick` looks whether anything is pending, and the loop ends by itself when nothing is any more.
 */
import { errorText } from "../error-text.ts";
import type { Clock, Log } from "../ports.ts";
import type { Tick } from "../store/store.ts";

/** Over the 2 s below which a tick writes nothing, under the 5 s that one may count. */
const EVERY_MS = 3_000;
/** Ticks of this process this far apart at most cannot differ by the 5 s at which one is clamped, unless the database's clock jumped. */
const REGULAR_MS = 4_500;

export interface Ticked extends Tick {
  /** More audit rows wait than one tick chains. */
  readonly isAuditLeft: boolean;
}
/** One tick. What fails is tried again. See ticking.ts. */
export type Ticking = () => Promise<Ticked>;

export interface TickParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly tick: Ticking;
  /** Whether somebody waits for the clock. */
  readonly isOverdue: () => boolean;
}

export class TickLoop {
  readonly #parts: TickParts;
  #state: "idle" | "waiting" | "running" | "stopped" = "idle";
  #cancelTimer: (() => void) | null = null;
  #isAuditWaiting = false;
  #movedMs = Number.NEGATIVE_INFINITY;
  #finished: Promise<void> = Promise.resolve();

  constructor(parts: TickParts) {
    this.#parts = parts;
  }

  /** Audit rows were written. */
  auditWaits(): void {
    this.#isAuditWaiting = true;
    this.kick();
  }

  /** Something may be pending that was not before. */
  kick(): void {
    if (this.#state !== "idle" || !this.#isPending()) return;
    this.#state = "waiting";
    this.#cancelTimer = this.#parts.clock.after(EVERY_MS, () => {
      this.#finished = this.#run();
    });
  }

  /** Resolves when a tick that is being committed has ended. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    this.#cancelTimer?.();
    await this.#finished;
  }

  #isPending(): boolean {
    return this.#isAuditWaiting || this.#parts.isOverdue();
  }

  async #run(): Promise<void> {
    const { tick, clock, log } = this.#parts;
    if (!this.#isPending()) {
      this.#state = "idle";
      return;
    }
    this.#state = "running";
    // Before the tick reads what waits: a row that is written meanwhile says so again.
    this.#isAuditWaiting = false;
    try {
      const { moved, clamped, isAuditLeft } = await tick();
      this.#isAuditWaiting ||= isAuditLeft;
      const nowMs = clock.nowMs();
      if (clamped && nowMs - this.#movedMs <= REGULAR_MS)
        log.warn({}, "the database's clock jumped; the cluster clock counts 5 s of it at most");
      if (moved) this.#movedMs = nowMs;
    } catch (error) {
      // Not known what waits: the next tick looks.
      this.#isAuditWaiting = true;
      log.error({ error: errorText(error) }, "a tick of the cluster clock failed; trying again");
    }
    // `stop` may have run meanwhile.
    if ((this.#state as "running" | "stopped") === "stopped") return;
    this.#state = "idle";
    this.kick();
  }
}
