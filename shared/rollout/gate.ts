/** During a deployment a service's changes wait until what it depends on is rolled out. */
import type { DeploymentState, ServicePlanning } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";
import { isCurrentSpec, type SlotView, slotName, wantedNumbers } from "./slots.ts";

type Dependency = ServicePlanning["dependsOn"][number];

const WANTED: Readonly<Record<Dependency["condition"], string>> = { started: "running", healthy: "ready", completed: "completed" };

/** A dependency that is still to come, in words. */
export interface Gate {
  readonly service: string;
  readonly sentence: string;
  /** The deployment changes the dependency, so that updates wait for it too; what it does not change holds up first starts alone. */
  readonly holdsUpdates: boolean;
}

/** Empty: go ahead. A rollback does not wait for what completed once: jobs are not run again to go back. */
export function gates(
  dependsOn: readonly Dependency[],
  viewOf: (service: string) => SlotView | undefined,
  { kind, fromRevision }: Pick<DeploymentState, "kind" | "fromRevision">,
): Gate[] {
  return dependsOn.flatMap((dependency) => {
    const view = viewOf(dependency.service);
    if (!view || (kind === "rollback" && dependency.condition === "completed")) return [];
    const holdsUpdates = fromRevision !== null && view.service.revision > fromRevision;
    for (const number of wantedNumbers(view.wanted)) {
      if (!isMet(view, number, dependency)) {
        const sentence = `waits for ${dependency.service} to be ${WANTED[dependency.condition]} (slot ${slotName(view, number)} is not)`;
        return [{ service: dependency.service, sentence, holdsUpdates }];
      }
    }
    return [];
  });
}

function isMet(view: SlotView, number: number, { condition, required }: Dependency): boolean {
  const { index } = view;
  const slot = view.bySlot.get(number);
  if (!slot) return isDataAway(view, number);
  const { state } = index.snapshot.replicas;
  const { current, old, dark, finished, rejected } = slot.rows;
  const serves = (row: number) => (condition === "healthy" ? index.isReady(row) : REPLICA_STATES[state[row]!] === "running");
  if (condition !== "completed" && current.some(serves)) return true;
  // What completed on the revision before runs again on this one first.
  const ended = finished.filter((row) => REPLICA_STATES[state[row]!] === "completed" && isCurrentSpec(index, row, view.service));
  if (ended.length > 0 && (condition !== "healthy" || view.service.mode === "replicated")) return true;
  // A dark slot takes the revision on return, and an optional dependency that ended holds nobody up.
  if (current.length === 0 && old.length === 0 && (dark.length > 0 || isDataAway(view, number))) return true;
  return !required && finished.length + rejected.length > 0;
}

/** It can begin nowhere before a lost node is back. */
function isDataAway(view: SlotView, number: number): boolean {
  const { index, service } = view;
  const home = index.volumeNode(service, slotName(view, number));
  return home !== null && index.lost[index.nodeIndex(home)] === 1;
}
