/**
 * All rehearsals of this process, a round at a time: one of 100,000 replicas is seconds of planning, and whatever else is
 * asked meanwhile is answered between its rounds. One namespace rehearses one deploy at a time; those of several take turns
 * by rounds, so that a small app does not wait for the end of a large one.
 */
import { Flights, REHEARSALS } from "./flights.ts";
import type { Clock } from "./ports.ts";

export interface Rounds {
  /** False: there is none to follow. */
  step(): boolean;
}

/** Longest run of rounds before the event loop gets a turn, as of the database. */
const TURN_MS = 10;
/**
 * For four parts of work one of rest, and no single turn: what is asked meanwhile, a poll's answer that is signed on another
 * thread, needs several.
 */
const REST_SHARE = 0.25;
/** Of one rehearsal: 100,000 replicas are about 6 s. Then it is as far as it got. */
const WORK_MAX_MS = 10_000;

export class Rehearsals {
  readonly #clock: Clock;
  readonly #lines = new Flights(REHEARSALS);
  #last: Promise<unknown> = Promise.resolve();
  #workedMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Begins when it is the namespace's turn, and resolves with what `begin` made when that has come to rest or to its bound. */
  run<R extends Rounds>(namespace: string, begin: () => Promise<R>): Promise<R> {
    return this.#lines.run({ key: namespace, name: `namespace ${namespace}` }, async () => {
      const rehearsal = await begin();
      let leftMs = WORK_MAX_MS;
      for (let isMore = true; isMore && leftMs > 0; ) {
        const round = await this.#inTurn(() => rehearsal.step());
        isMore = round.isMore;
        leftMs -= round.tookMs;
      }
      return rehearsal;
    });
  }

  #inTurn(step: () => boolean): Promise<{ readonly isMore: boolean; readonly tookMs: number }> {
    const turn = this.#last.then(async () => {
      if (this.#workedMs >= TURN_MS) await this.#rest();
      const startedMs = this.#clock.nowMs();
      const isMore = step();
      const tookMs = this.#clock.nowMs() - startedMs;
      this.#workedMs += tookMs;
      return { isMore, tookMs };
    });
    // Whoever asked is told of a failure; the next one in turn only waits for the end.
    this.#last = turn.catch(() => {});
    return turn;
  }

  #rest(): Promise<void> {
    const restMs = this.#workedMs * REST_SHARE;
    this.#workedMs = 0;
    return new Promise((resolve) => void this.#clock.after(restMs, resolve));
  }
}
