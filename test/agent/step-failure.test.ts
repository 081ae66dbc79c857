/** When a failed step is not tried again. */
import { expect, test } from "vitest";
import { EngineError } from "../../agent/engine/engine.ts";
import { isFinal, Unmet } from "../../agent/step-failure.ts";

const missing = new EngineError("invalid", 'invalid mount config for type "bind": bind source path does not exist: /gone');

test.each<[string, unknown, number, boolean]>([
  ["a device that another has", new Unmet("deviceTaken", "taken"), 299, false],
  ["a device that another has had for five minutes", new Unmet("deviceTaken", "taken"), 300, true],
  ["a path that is not there", missing, 299, false],
  ["a path that was not there for five minutes", missing, 300, true],
  ["a body that the engine refuses", new EngineError("invalid", "no"), 0, true],
  ["an engine that fails", new EngineError("failed", "no"), 300, false],
])("%s", (_, error, awaited, expected) => {
  expect(isFinal("create", error, awaited)).toBe(expected);
  expect(isFinal("start", error, awaited)).toBe(false);
});
