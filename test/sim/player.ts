/** A process that plays histories, one at a time, as it is told: see players.ts. */
import process from "node:process";
import { type HistoryOptions, playHistory } from "./history.ts";

// Whoever interrupts from a terminal means all of its processes: the one that plays waits for what is under way.
process.on("SIGINT", () => {});
process.on("message", (options: HistoryOptions) => {
  playHistory(options).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) => {
      throw error;
    },
  );
});
process.send?.("ready");
