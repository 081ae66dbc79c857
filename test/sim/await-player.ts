/** A process that is killed at one await after another, as it is told: see kill-at-awaits.ts. */
import process from "node:process";
import type { Point } from "./awaits.ts";
import { playAwait } from "./each-await.ts";

process.on("message", (target: Point | "nowhere") => {
  playAwait(target === "nowhere" ? null : target).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) => {
      throw error;
    },
  );
});
process.send?.("ready");
