/** Why slots are where they are, or nowhere: stored by the planner, replayed by `berth why`. */
import { z } from "zod";

/** Filters in the order in which they are applied; the first that rejects a node is the one counted. */
export const PLACEMENT_FILTERS = [
  "ready",
  "active",
  "admitted",
  "engine",
  "volume",
  "taint",
  "constraint",
  "colocate",
  "maxPerNode",
  "hostPort",
  "device",
  "replicas",
  "cpu",
  "memory",
] as const;
export type PlacementFilter = (typeof PLACEMENT_FILTERS)[number];

export const PlacedSlot = z.object({
  slot: z.string(),
  replica: z.string(),
  node: z.string(),
  reason: z.string(),
  /** Parts of the score by name, higher is better. */
  score: z.record(z.string(), z.number()),
});
export const UnplacedSlots = z.object({
  slots: z.array(z.string()),
  reason: z.string(),
  /** A sentence with numbers: "3 of 5 nodes lack 512 MiB of memory". */
  message: z.string(),
  rejected: z.array(z.object({ filter: z.enum(PLACEMENT_FILTERS), nodes: z.number().int(), message: z.string() })),
});
export const Explanation = z.object({
  appId: z.string(),
  service: z.string(),
  atRev: z.number().int(),
  nodes: z.number().int(),
  feasible: z.number().int(),
  rejected: z.array(z.object({ filter: z.enum(PLACEMENT_FILTERS), nodes: z.number().int(), message: z.string() })),
  /** At most 200 of the slots placed by this plan; `placedTotal` counts all. */
  placed: z.array(PlacedSlot),
  placedTotal: z.number().int(),
  unplaced: z.array(UnplacedSlots),
  /** What the rollout waits for now, a sentence each. */
  waiting: z.array(z.string()),
});
export type Explanation = z.infer<typeof Explanation>;
