/** A process that plays scenarios by name, one at a time: see regressions.test.ts. */
import process from "node:process";
import { playScenario } from "./scenarios.ts";

process.on("message", (name: string) => {
  playScenario(name).then(
    (broken) => process.send?.(broken),
    (error: unknown) => process.send?.([error instanceof Error ? (error.stack ?? error.message) : String(error)]),
  );
});
