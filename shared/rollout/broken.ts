/**
 * A replica that will not get healthy unless something outside it changes. A deployment that answers for one has failed;
 * a later deployment of the same spec puts another in its place.
 */
import type { ClusterIndex } from "../plan/cluster-index.ts";
import { REPLICA_STATES } from "../wire/report.ts";

/** Restarts before it was ever healthy: enough to rule out a dependency that was slow to come up once or twice. */
export const RESTARTS_MAX = 3;

export function isBroken(index: ClusterIndex, row: number): boolean {
  const { state, fault, restarts } = index.snapshot.replicas;
  const named = REPLICA_STATES[state[row]!]!;
  if (index.isTerminal(row)) return named !== "completed";
  return fault[row] !== "" || (restarts[row]! >= RESTARTS_MAX && !index.isReady(row));
}
