/**
 * When a deployment is over. Dark slots are pending, not failed: they take the revision when their node returns.
 *   failed     a replica that the deployment answers for was rejected, ended in failure, cannot get its image, restarted
 *              RESTARTS_MAX times before it was healthy, or was not healthy by its deadline; or nothing moved for the longest deadline
 *   succeeded  every wanted slot is healthy on the revision, and what was removed is gone
 */
import type { ClusterIndex } from "../plan/cluster-index.ts";
import type { Draft } from "../plan/draft.ts";
import type { DeploymentState, ServiceState } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";
import { isBroken } from "./broken.ts";
import { concerns } from "./decide.ts";
import { isCurrentSpec, type SlotView, wantedNumbers } from "./slots.ts";

export interface Failure {
  readonly service: ServiceState;
  readonly message: string;
}

/** The first failure in order of service name and slot, or null. Sets the wake-up for deadlines still to come. */
export function findFailure(
  index: ClusterIndex,
  draft: Draft,
  views: readonly SlotView[],
  context: { readonly deployment: DeploymentState; readonly halted: boolean },
): Failure | null {
  const { deployment } = context;
  for (const view of views) {
    for (const number of wantedNumbers(view.wanted)) {
      const slot = view.bySlot.get(number);
      if (!slot) continue;
      for (const row of [...slot.rows.current, ...slot.rows.finished, ...slot.rows.rejected]) {
        if (!concerns(index, row, view.service, context) || !isCurrentSpec(index, row, view.service)) continue;
        const fault = faultOf(index, draft, row, { service: view.service, deployment });
        if (fault) return { service: view.service, message: `${view.service.name} slot ${slot.name} on ${index.node(row)!.name} ${fault}` };
      }
    }
  }
  return null;
}

function faultOf(
  index: ClusterIndex,
  draft: Draft,
  row: number,
  { service, deployment }: { service: ServiceState; deployment: DeploymentState },
): string | null {
  const { state, fault, restarts, assignedMs, node } = index.snapshot.replicas;
  const named = REPLICA_STATES[state[row]!]!;
  const said = fault[row]!;
  if (named === "rejected") return said === "" ? "was rejected by the node" : `was rejected by the node: ${said}`;
  // What failed before this deployment began is not its doing, unless it is what the deployment deploys.
  if (named === "failed") return "ended in failure, and its restart policy does not start it again";
  if (index.isTerminal(row) || index.isHealthy(row, service)) return null;
  if (said !== "") return `cannot start: ${said}`;
  if (isBroken(index, row)) return `restarted ${restarts[row]} times without becoming healthy`;
  const deadlineMs = Math.max(assignedMs[row]!, deployment.startedMs, deployment.resumedMs) + service.planning.healthyDeadlineMs;
  // A node that is away may run it well: wait until it says so or is lost.
  if (!index.isKnown(row)) return null;
  const engine = index.settled[node[row]!] === 1 ? "" : ": its node's container engine does not answer";
  if (deadlineMs <= index.nowMs) return `was not healthy within ${service.planning.healthyDeadlineMs / 1000} s${engine}`;
  draft.wakeAt(deadlineMs);
  return null;
}

/** When something last moved in the app: from then on the longest deadline of its services runs. */
export function lastProgressMs(index: ClusterIndex, services: readonly number[], deployment: DeploymentState): number {
  const { assignedMs, readySinceMs } = index.snapshot.replicas;
  let lastMs = Math.max(deployment.startedMs, deployment.resumedMs);
  for (const s of services) {
    const service = index.snapshot.services[s]!;
    for (const row of index.rowsOf(s)) {
      lastMs = Math.max(lastMs, assignedMs[row]!);
      const healthyMs = readySinceMs[row]! + service.planning.minHealthyMs;
      if (healthyMs <= index.nowMs && isCurrentSpec(index, row, service)) lastMs = Math.max(lastMs, healthyMs);
    }
  }
  return lastMs;
}
