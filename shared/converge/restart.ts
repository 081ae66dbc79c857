/**
 * Whether a container that ended is started again, and when. The agent is the only restarter: the engine's own restart
 * policy is `no` for every container.
 */
import type { RestartPolicy } from "../model/app.ts";
import type { RestartMemory } from "./record.ts";

/** Doubling stops here: a service that is broken for a day costs 288 starts. */
export const BACKOFF_MAX_MS = 300_000;
/** Ready without a break for this long: the next end waits `delayMs` again. */
export const BACKOFF_RESET_MS = 600_000;
/** A declared delay of 0 must not spin: the engine's own policy waits this long too. */
const DELAY_MIN_MS = 100;

export interface Exit {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** How long it had been ready when it ended; 0: it never was. */
  readonly readyForMs: number;
  /**
   * Ended by something other than itself, so nothing of its policy is used up. `host`: the machine went down; started again at once.
   * `outside`: the engine or a person at it stopped it; the engine may be about to go, so after the first wait,
   * and shown as a restart.
   */
  readonly interrupted: "no" | "host" | "outside";
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly atMs: number; readonly memory: RestartMemory }
  | { readonly kind: "end"; readonly state: "completed" | "failed"; readonly reason: string; readonly message: string };

export const backoffMs = (delayMs: number, streak: number): number =>
  Math.min(BACKOFF_MAX_MS, Math.max(DELAY_MIN_MS, delayMs) * 2 ** Math.min(streak, 30));

export function decideRestart(input: {
  readonly policy: RestartPolicy;
  readonly exit: Exit;
  readonly memory: RestartMemory;
  readonly nowMs: number;
}): RestartDecision {
  const { policy, exit, memory, nowMs } = input;
  const ended = (): RestartDecision =>
    exit.exitCode === 0
      ? { kind: "end", state: "completed", reason: "completed", message: "ended with exit code 0" }
      : { kind: "end", state: "failed", reason: exit.oomKilled ? "outOfMemory" : "exited", message: describeExit(exit) };

  if (policy.condition === "no") return ended();
  if (exit.interrupted === "host") return { kind: "restart", atMs: nowMs, memory };
  if (exit.interrupted === "outside")
    return { kind: "restart", atMs: nowMs + backoffMs(policy.delayMs, 0), memory: { ...memory, restarts: memory.restarts + 1 } };
  if (policy.condition === "on-failure" && exit.exitCode === 0) return ended();

  const streak = exit.readyForMs >= BACKOFF_RESET_MS ? 0 : memory.streak;
  const isWindowOver = policy.windowMs !== undefined && nowMs - memory.windowSinceMs > policy.windowMs;
  const windowRestarts = isWindowOver ? 0 : memory.windowRestarts;
  if (policy.attemptsMax !== undefined && windowRestarts >= policy.attemptsMax) {
    return {
      kind: "end",
      state: "failed",
      reason: "restartsExhausted",
      message: `${describeExit(exit)}; ${policy.attemptsMax === 1 ? "the one restart of its policy is" : `all ${policy.attemptsMax} restarts of its policy are`} used up`,
    };
  }
  return {
    kind: "restart",
    atMs: nowMs + backoffMs(policy.delayMs, streak),
    memory: {
      restarts: memory.restarts + 1,
      streak: streak + 1,
      windowRestarts: windowRestarts + 1,
      windowSinceMs: windowRestarts === 0 ? nowMs : memory.windowSinceMs,
    },
  };
}

const SIGNALS: Readonly<Record<number, string>> = { 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM" };

export function describeExit(exit: { readonly exitCode: number; readonly oomKilled: boolean }): string {
  if (exit.oomKilled) return `killed for using more memory than its limit (exit code ${exit.exitCode})`;
  const signal = exit.exitCode > 128 ? SIGNALS[exit.exitCode - 128] : undefined;
  return `ended with exit code ${exit.exitCode}${signal === undefined ? "" : ` (${signal})`}`;
}
