/**
 * Moves the cluster clock, which counts the time that fences wait for. A clock that stands still only makes a wait
 * longer, so it moves only while something is pending: a cluster in which nothing happens writes nothing.
 *
 * Level-triggered: `kick` looks whether anything is pending, and the loop ends by itself when nothing is any more.
 */
import type { Clock, Log } from "../ports.ts";
import type { Tick } from "../store/store.ts";

/** Over the 2 s below which a tick writes nothing, under the 5 s that one may count. */
const EVERY_MS = 3_000;
/** Ticks of this process this far apart at most cannot differ by the 5 s at which one is clamped, unless the database's clock jumped. */
const REGULAR_MS = 4_500;

export interface TickParts {
  readonly clock: Clock;
  readonly log: Log;
  /** One tick; what fails is tried again. */
  readonly tick: () => Promise<Tick>;
  /** Whether somebody waits for the clock. */
  readonly isPending: () => boolean;
}

export class TickLoop {
  readonly #parts: TickParts;
  #state: "idle" | "waiting" | "running" | "stopped" = "idle";
  #cancelTimer: (() => void) | null = null;
  #movedMs = Number.NEGATIVE_INFINITY;
  #finished: Promise<void> = Promise.resolve();

  constructor(parts: TickParts) {
    this.#parts = parts;
  }

  /** Something may be pending that was not before. */
  kick(): void {
    if (this.#state !== "idle" || !this.#parts.isPending()) return;
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

  async #run(): Promise<void> {
    const { tick, clock, log, isPending } = this.#parts;
    if (!isPending()) {
      this.#state = "idle";
      return;
    }
    this.#state = "running";
    try {
      const { moved, clamped } = await tick();
      const nowMs = clock.nowMs();
      if (clamped && nowMs - this.#movedMs <= REGULAR_MS)
        log.warn({}, "the database's clock jumped; the cluster clock counts 5 s of it at most");
      if (moved) this.#movedMs = nowMs;
    } catch (error) {
      log.error({ error: String(error) }, "the cluster clock could not be moved; trying again");
    }
    // `stop` may have run meanwhile.
    if ((this.#state as "running" | "stopped") === "stopped") return;
    this.#state = "idle";
    this.kick();
  }
}
