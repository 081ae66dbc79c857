/** `healthcheck` → the engine's check. */
import type { Workload } from "../model/app.ts";
import type { Section } from "./section.ts";

export function healthcheckOf(service: Section): Workload["healthcheck"] {
  if (!service.has("healthcheck")) return undefined;
  const check = service.section("healthcheck");
  const retries = check.integer("retries")?.value;
  const times = {
    intervalMs: check.durationMs("interval")?.value,
    timeoutMs: check.durationMs("timeout")?.value,
    startPeriodMs: check.durationMs("start_period")?.value,
    startIntervalMs: check.durationMs("start_interval")?.value,
    retries,
  };
  const disabled = check.boolean("disable") === true;
  const test = testOf(check);
  if (disabled) {
    if (test !== undefined && test[0] !== "NONE" && check.at !== undefined)
      check.wrong({ at: check.at, path: check.path }, "disable: true and a test contradict each other", "keep one of the two");
    return { test: ["NONE"] };
  }
  // The engine reads 0 as "not given".
  const given = Object.entries(times).filter(([, value]) => value !== undefined && value !== 0);
  if (test !== undefined) return { test, ...Object.fromEntries(given) };
  return given.length === 0 ? undefined : { test: [], ...Object.fromEntries(given) };
}

/** Undefined: the image's own, or it was wrong and that has been said. */
function testOf(check: Section): string[] | undefined {
  const found = check.tree("test");
  if (found === undefined) return undefined;
  if (found.value.kind === "scalar") return ["CMD-SHELL", String(found.value.value)];
  const words = check.strings("test").map((word) => word.value);
  const first = words[0];
  if (first === "NONE" && words.length === 1) return words;
  if ((first === "CMD" && words.length > 1) || (first === "CMD-SHELL" && words.length === 2)) return words;
  check.wrong(
    found,
    `a list must begin with "NONE", "CMD" (and the words of a command) or "CMD-SHELL" (and one line), not "${first ?? ""}"`,
    'write ["CMD", "curl", "-f", "http://localhost"] or a plain string',
  );
  return undefined;
}
