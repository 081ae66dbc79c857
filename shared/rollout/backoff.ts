/** How long a slot whose replica was rejected waits for its next node: 30 s, doubling up to an hour. */
export const BACKOFF_FIRST_MS = 30_000;
export const BACKOFF_MAX_MS = 3_600_000;

/** `attempt`: rejections in a row before the one that was assigned at `assignedMs`. */
export function backoffEndsMs(assignedMs: number, attempt: number): number {
  // 2^7 × 30 s is over an hour already; the bound keeps the power finite.
  return assignedMs + Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 7));
}
