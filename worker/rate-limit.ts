/** A bucket of requests for each token: one that floods is slowed, and the others do not notice. */
import { BerthError } from "./errors.ts";
import type { Clock } from "./ports.ts";

/** A console and a CI job of one team stay under 20 a second; one process answers some 5,000. */
const REFILL_A_SECOND = 100;
const BURST = 400;
/** Buckets that are full again are forgotten when there are more than this. */
const BUCKETS_MAX = 10_000;

export class RateLimit {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { left: number; atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws `rate_limited`. */
  take(key: string): void {
    const nowMs = this.#clock.nowMs();
    const bucket = this.#buckets.get(key) ?? { left: BURST, atMs: nowMs };
    bucket.left = Math.min(BURST, bucket.left + ((nowMs - bucket.atMs) / 1000) * REFILL_A_SECOND);
    bucket.atMs = nowMs;
    if (this.#buckets.size >= BUCKETS_MAX && !this.#buckets.has(key)) this.#forgetFull(nowMs);
    this.#buckets.set(key, bucket);
    if (bucket.left < 1)
      throw new BerthError(
        "rate_limited",
        `this token sends more than ${REFILL_A_SECOND} requests a second; wait a second, and watch instead of asking again and again`,
        { retryAfterS: 1 },
      );
    bucket.left -= 1;
  }

  #forgetFull(nowMs: number): void {
    for (const [key, { left, atMs }] of this.#buckets)
      if (left + ((nowMs - atMs) / 1000) * REFILL_A_SECOND >= BURST) this.#buckets.delete(key);
  }
}
