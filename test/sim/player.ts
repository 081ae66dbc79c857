/** A process that plays histories, one at a time, as it is told: see run.ts. */
import process from "node:process";
import { type HistoryOptions, playHistory } from "./history.ts";

process.on("message", (options: HistoryOptions) => {
  playHistory(options).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) => {
      throw error;
    },
  );
});
process.send?.("ready");
