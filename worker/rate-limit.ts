/** A bucket of requests for each share or node: one that floods is slowed, and the others do not notice. */
import { BerthError } from "./errors.ts";
import type { Clock } from "./ports.ts";
import type { Share } from "./share.ts";

export interface RateLimits {
  readonly burst: number;
  readonly refillASecond: number;
  /** To whoever is over it. */
  readonly message: (name: string) => string;
}
/** Of a share. A console and a CI job of one team stay under 20 a second; one process answers some 5,000. */
export const SHARE_REQUESTS: RateLimits = {
  burst: 400,
  refillASecond: 100,
  message: (name) => `${name} sends more than 100 requests a second; wait a second, and watch instead of asking again and again`,
};
/**
 * Of a node; each is a commit. An agent opens one when it starts, which systemd lets it do every 2 s, and when the one that it
 * has is over; two that take a node's session from each other are quarantined at the fifth.
 */
export const NODE_SESSIONS: RateLimits = {
  burst: 10,
  refillASecond: 1,
  message: (name) => `${name} opens more than one session a second; wait a second, and keep the one that was granted`,
};
/** Buckets that are full again are forgotten when there are more than this. */
const BUCKETS_MAX = 10_000;

export class RateLimit {
  readonly #clock: Clock;
  readonly #limits: RateLimits;
  readonly #buckets = new Map<string, { left: number; atMs: number }>();

  constructor(clock: Clock, limits: RateLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Throws `rate_limited`. */
  take({ key, name }: Share): void {
    const { burst, refillASecond, message } = this.#limits;
    const nowMs = this.#clock.nowMs();
    const bucket = this.#buckets.get(key) ?? { left: burst, atMs: nowMs };
    bucket.left = Math.min(burst, bucket.left + ((nowMs - bucket.atMs) / 1000) * refillASecond);
    bucket.atMs = nowMs;
    if (this.#buckets.size >= BUCKETS_MAX && !this.#buckets.has(key)) this.#forgetFull(nowMs);
    this.#buckets.set(key, bucket);
    if (bucket.left < 1) throw new BerthError("rate_limited", message(name), { retryAfterS: 1 });
    bucket.left -= 1;
  }

  #forgetFull(nowMs: number): void {
    const { burst, refillASecond } = this.#limits;
    for (const [key, { left, atMs }] of this.#buckets)
      if (left + ((nowMs - atMs) / 1000) * refillASecond >= burst) this.#buckets.delete(key);
  }
}
