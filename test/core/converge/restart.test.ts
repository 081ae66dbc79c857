import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NO_RESTARTS, type RestartMemory } from "../../../shared/converge/record.ts";
import { BACKOFF_MAX_MS, BACKOFF_RESET_MS, backoffMs, decideRestart, type Exit } from "../../../shared/converge/restart.ts";
import { RestartPolicy } from "../../../shared/model/app.ts";

const NOW = 50_000;
type PolicyInput = Partial<Parameters<typeof RestartPolicy.parse>[0] & object>;
const decide = (policy: PolicyInput, exit: Partial<Exit> = {}, memory: Partial<RestartMemory> = {}) =>
  decideRestart({
    policy: RestartPolicy.parse(policy),
    exit: { exitCode: 1, oomKilled: false, readyForMs: 0, interrupted: "no", ...exit },
    memory: { ...NO_RESTARTS, ...memory },
    nowMs: NOW,
  });
const short = (decision: ReturnType<typeof decide>): string =>
  decision.kind === "restart" ? `+${decision.atMs - NOW}` : `${decision.state}: ${decision.reason}`;

describe("whether a container is started again", () => {
  test.each([
    ["always, after a failure", { condition: "always" }, { exitCode: 1 }, "+1000"],
    ["always, after a success", { condition: "always" }, { exitCode: 0 }, "+1000"],
    ["on-failure, after a failure", { condition: "on-failure" }, { exitCode: 2 }, "+1000"],
    ["on-failure, after a success", { condition: "on-failure" }, { exitCode: 0 }, "completed: completed"],
    ["no, after a success", { condition: "no" }, { exitCode: 0 }, "completed: completed"],
    ["no, after a failure", { condition: "no" }, { exitCode: 3 }, "failed: exited"],
    ["no, killed for its memory", { condition: "no" }, { exitCode: 137, oomKilled: true }, "failed: outOfMemory"],
    ["always, ended by the host", { condition: "always" }, { interrupted: "host" }, "+0"],
    ["always, stopped by a person at the engine", { condition: "always", delayMs: 2_000 }, { interrupted: "outside" }, "+2000"],
    ["on-failure, ended cleanly by the engine", { condition: "on-failure" }, { exitCode: 0, interrupted: "outside" }, "+1000"],
    ["no, ended by the host", { condition: "no" }, { exitCode: 137, interrupted: "host" }, "failed: exited"],
    ["a declared delay", { condition: "always", delayMs: 5_000 }, {}, "+5000"],
    ["a delay of nothing does not spin", { condition: "always", delayMs: 0 }, {}, "+100"],
  ] as const)("%s", (_, policy, exit, expected) => {
    expect(short(decide(policy, exit))).toBe(expected);
  });

  test.each([
    ["first", 0, 0, "+1000"],
    ["fourth", 3, 0, "+8000"],
    ["tenth: five minutes, and no more", 9, 0, "+300000"],
    ["hundredth", 99, 0, "+300000"],
    ["after ten minutes of health it begins anew", 9, BACKOFF_RESET_MS, "+1000"],
    ["after a little less it does not", 2, BACKOFF_RESET_MS - 1, "+4000"],
  ] as const)("the wait doubles: %s", (_, streak, readyForMs, expected) => {
    expect(short(decide({}, { readyForMs }, { streak, restarts: streak }))).toBe(expected);
  });

  test.each([
    ["below the limit", { attemptsMax: 3 }, { windowRestarts: 2 }, "+1000"],
    ["at the limit", { attemptsMax: 3 }, { windowRestarts: 3 }, "failed: restartsExhausted"],
    [
      "at the limit of a window that is over",
      { attemptsMax: 3, windowMs: 10_000 },
      { windowRestarts: 3, windowSinceMs: NOW - 10_001 },
      "+1000",
    ],
    [
      "at the limit of a window that is not",
      { attemptsMax: 3, windowMs: 10_000 },
      { windowRestarts: 3, windowSinceMs: NOW - 10_000 },
      "failed: restartsExhausted",
    ],
  ] as const)("attempts: %s", (_, policy, memory, expected) => {
    expect(short(decide(policy, {}, memory))).toBe(expected);
  });

  test("a restart counts once everywhere, and an interruption nowhere", () => {
    const counted = decide({}, {}, { restarts: 4, streak: 2, windowRestarts: 1, windowSinceMs: 7 });
    expect(counted).toMatchObject({ memory: { restarts: 5, streak: 3, windowRestarts: 2, windowSinceMs: 7 } });
    const interrupted = decide({}, { interrupted: "outside" }, { restarts: 4, streak: 2, windowRestarts: 1, windowSinceMs: 7 });
    expect(interrupted).toMatchObject({ memory: { restarts: 5, streak: 2, windowRestarts: 1, windowSinceMs: 7 } });
  });

  test("the message says the exit code, the signal, and what was used up", () => {
    const exhausted = decide({ attemptsMax: 2 }, { exitCode: 143 }, { windowRestarts: 2 });
    expect(exhausted).toMatchObject({ message: "ended with exit code 143 (SIGTERM); all 2 restarts of its policy are used up" });
    const once = decide({ attemptsMax: 1 }, { exitCode: 143 }, { windowRestarts: 1 });
    expect(once).toMatchObject({ message: "ended with exit code 143 (SIGTERM); the one restart of its policy is used up" });
  });

  test("property: waits never shrink while it fails, and stay within bounds", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100_000_000 }), fc.integer({ min: 0, max: 1_000 }), (delayMs, streak) => {
        const wait = backoffMs(delayMs, streak);
        expect(wait).toBeLessThanOrEqual(BACKOFF_MAX_MS);
        expect(wait).toBeGreaterThanOrEqual(100);
        expect(backoffMs(delayMs, streak + 1)).toBeGreaterThanOrEqual(wait);
      }),
    );
  });
});
