/**
 * What the agent's ledger remembers of one replica. It outlives the process and the boot, so times in it are
 * meaningful only together with `bootId`: the boot clock starts anew with each boot.
 *
 * Invariant: `state` only moves forward (REPLICA_STATES order), and a terminal one never changes.
 */
import { z } from "zod";
import { AssignmentRef } from "../wire/poll.ts";
import { REPLICA_STATES, TERMINAL_STATES } from "../wire/report.ts";

export const RestartMemory = z.object({
  /** Restarts of all time. */
  restarts: z.number().int().min(0),
  /** Restarts since it was last ready for BACKOFF_RESET_MS without a break: the exponent of the next wait. */
  streak: z.number().int().min(0),
  /** Restarts since `windowSinceMs`, for `attemptsMax` within `windowMs`. */
  windowRestarts: z.number().int().min(0),
  windowSinceMs: z.number(),
});
export type RestartMemory = z.infer<typeof RestartMemory>;
export const NO_RESTARTS: RestartMemory = { restarts: 0, streak: 0, windowRestarts: 0, windowSinceMs: 0 };

export const ReplicaRecord = z.object({
  ref: AssignmentRef,
  state: z.enum(REPLICA_STATES),
  reason: z.string(),
  message: z.string(),
  containerId: z.string().nullable(),
  /** Id of the image that the container was made from. */
  imageId: z.string().nullable(),
  memory: RestartMemory,
  /** Boot in which the times of `memory` and `restartAtMs` were measured. */
  bootId: z.string(),
  /** The container has ended and is started again then; null: not waiting. */
  restartAtMs: z.number().nullable(),
  exitCode: z.number().int().nullable(),
  oomKilled: z.boolean(),
  logTail: z.array(z.string()),
  /** Counted devices that it holds: kind → indices. */
  devices: z.record(z.string(), z.array(z.number().int().min(0))).default({}),
  /** The run of its container whose mounts were looked at and found right: boot, container and process id; null: none was. */
  mountsCheckedOf: z.string().nullable().default(null),
  /** It has run at least once: a container found stopped has ended, not just been made. */
  hasStarted: z.boolean(),
});
export type ReplicaRecord = z.infer<typeof ReplicaRecord>;

export const newRecord = (ref: AssignmentRef, bootId: string): ReplicaRecord => ({
  ref,
  state: "assigned",
  reason: "",
  message: "",
  containerId: null,
  imageId: null,
  memory: NO_RESTARTS,
  bootId,
  restartAtMs: null,
  exitCode: null,
  oomKilled: false,
  logTail: [],
  devices: {},
  mountsCheckedOf: null,
  hasStarted: false,
});

export const hasEnded = (record: ReplicaRecord): boolean => TERMINAL_STATES.has(record.state);

/** The window of an earlier boot cannot be measured on this boot's clock: it begins anew. */
export const memoryInBoot = ({ memory, bootId }: ReplicaRecord, now: string): RestartMemory =>
  bootId === now ? memory : { ...NO_RESTARTS, restarts: memory.restarts };

/** Its container runs in this boot, whoever has started it: no wait is left. */
export const asRunning = (record: ReplicaRecord, bootId: string): ReplicaRecord => ({
  ...record,
  hasStarted: true,
  bootId,
  restartAtMs: null,
  memory: memoryInBoot(record, bootId),
});
