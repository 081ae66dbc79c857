/** During a deployment a service's changes wait until what it depends on is rolled out. */
import type { ClusterIndex } from "../plan/cluster-index.ts";
import type { ServicePlanning } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";
import { isCurrentSpec, type Slot, type SlotView, slotName, wantedNumbers } from "./slots.ts";

type Dependency = ServicePlanning["dependsOn"][number];

/** A sentence for each dependency that is still to come; empty: go ahead. */
export function gates(dependsOn: readonly Dependency[], viewOf: (service: string) => SlotView | undefined): string[] {
  return dependsOn.flatMap((dependency) => {
    const view = viewOf(dependency.service);
    if (!view) return [];
    for (const number of wantedNumbers(view.wanted)) {
      const slot = view.bySlot.get(number);
      if (!isMet(view.index, view, slot, dependency)) {
        const wanted = dependency.condition === "healthy" ? "ready" : "running";
        return [`waits for ${dependency.service} to be ${wanted} (slot ${slotName(view, number)} is not)`];
      }
    }
    return [];
  });
}

function isMet(index: ClusterIndex, view: SlotView, slot: Slot | undefined, { condition, required }: Dependency): boolean {
  if (!slot) return false;
  const { state } = index.snapshot.replicas;
  const { current, old, dark, finished, rejected } = slot.rows;
  const serves = (row: number) => (condition === "healthy" ? index.isReady(row) : REPLICA_STATES[state[row]!] === "running");
  if (current.some(serves)) return true;
  // What completed on the revision before runs again on this one first.
  const ended = finished.filter((row) => REPLICA_STATES[state[row]!] === "completed" && isCurrentSpec(index, row, view.service));
  if (ended.length > 0 && (condition === "started" || view.service.mode === "replicated")) return true;
  // A dark slot takes the revision on return, and an optional dependency that ended holds nobody up.
  if (dark.length > 0 && current.length === 0 && old.length === 0) return true;
  return !required && finished.length + rejected.length > 0;
}
