/** The simulated database under the contract of the real one. */
import { onTestFinished } from "vitest";
import { databaseContract } from "../contract/database.ts";
import { BUSY_AT, SimDatabase } from "./database.ts";
import { Kernel, Process } from "./kernel.ts";
import { keepTurning } from "./turning.ts";

const LATE_AT_MOST_MS = 25_000;

databaseContract("simulated", {
  busyAt: [...BUSY_AT, "read"],
  waits: false,
  loses: ["answer", "late"],
  make: async () => {
    const kernel = new Kernel("contract");
    const database = new SimDatabase(kernel, Date.UTC(2030, 0, 1));
    const caller = new Process("test");
    onTestFinished(keepTurning(kernel));
    const { faults } = database;
    return {
      database: database.portOf(caller),
      lock: async (at) => {
        faults.busy = 1;
        if (at !== "read") faults.busyAt = [at];
        return async () => {
          faults.busy = 0;
        };
      },
      lose: (what) => {
        faults[what === "answer" ? "ackLost" : "late"] = 1;
        return () => Object.assign(faults, { ackLost: 0, late: 0 });
      },
      later: () => kernel.pause(LATE_AT_MOST_MS, caller),
      close: null,
    };
  },
});
