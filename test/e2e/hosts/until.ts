import { setTimeout as pause } from "node:timers/promises";

export type UntilOptions = {
  timeoutMs?: number;
  /** Appended to the error when the deadline passes: a log's tail, a listing. */
  detail?: () => string | Promise<string>;
};

/** Short beside what the lab waits for (an engine start is some 500 ms), long beside a probe's cost. */
const PROBE_INTERVAL_MS = 15;

/**
 * Probes until the answer is neither `undefined` nor `false`, and returns it.
 * A probe that throws counts as "not yet"; its last error is the cause of the one thrown at the deadline.
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 10_000, detail }: UntilOptions = {},
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() >= deadlineMs) break;
    await pause(PROBE_INTERVAL_MS);
  }
  const reason = lastError instanceof Error ? `: ${lastError.message}` : "";
  const more = detail === undefined ? "" : `\n${await detail()}`;
  throw new Error(`Waited ${timeoutMs} ms for ${what}${reason}${more}`, { cause: lastError });
}
