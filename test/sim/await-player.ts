/** A process that plays histories in which the control plane is killed at awaits, as it is told: see kill-at-awaits.ts. */
import process from "node:process";
import type { Point } from "./awaits.ts";
import { playAwaits } from "./each-await.ts";

process.on("message", (targets: Point[]) => {
  playAwaits(targets).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) => {
      throw error;
    },
  );
});
process.send?.("ready");
