/** From what is remembered and observed of a replica to what is reported of it. */
import { REPLICA_STATES, type ReplicaFact, type ReplicaState } from "../wire/report.ts";
import { hasEnded } from "./record.ts";
import type { Waiting } from "./steps.ts";
import type { ReplicaView } from "./world.ts";

/** How far a replica is. States only move forward: a container that is started again stays `running`. */
function stateOf(view: ReplicaView, { isPreparing, isManifestConfirmed }: FactInput): ReplicaState {
  const { record, container, desired } = view;
  if (hasEnded(record)) return record.state;
  if (desired === null && isManifestConfirmed) return "stopping";
  if (record.hasStarted || container?.status === "running") return "running";
  if (container !== null) return "starting";
  return isPreparing ? "preparing" : "assigned";
}

export const furthest = (a: ReplicaState, b: ReplicaState): ReplicaState =>
  REPLICA_STATES.indexOf(a) >= REPLICA_STATES.indexOf(b) ? a : b;

/** Everything but the two that move by themselves, which are filled in when the report is sent. */
export type FactBase = Omit<ReplicaFact, "readyForMs" | "ageMs">;

export interface FactInput {
  readonly view: ReplicaView;
  readonly waiting: Waiting | undefined;
  readonly isPreparing: boolean;
  /** As in World: only then is what it does not name known to be unwanted. */
  readonly isManifestConfirmed: boolean;
  readonly pull: ReplicaFact["pull"];
}

export function factOf(input: FactInput): FactBase {
  const { view, waiting, pull } = input;
  const { record, container } = view;
  // A database that was restored may want again what it had given up.
  const remembered = record.state === "stopping" && view.desired !== null ? "assigned" : record.state;
  const state = furthest(remembered, stateOf(view, input));
  const over = hasEnded(record);
  const hasRun = record.exitCode !== null;
  return {
    replica: record.ref.replica,
    state,
    reason: over ? record.reason : (waiting?.reason ?? ""),
    message: (over ? record.message : (waiting?.message ?? "")).slice(0, 2048),
    containerId: container?.id ?? record.containerId,
    health: container === null || over ? "none" : container.health,
    restarts: record.memory.restarts,
    exitCode: record.exitCode,
    oomKilled: record.oomKilled,
    ports: container === null || over ? [] : [...container.ports],
    pull: state === "preparing" ? pull : null,
    logTail: hasRun ? [...record.logTail] : [],
  };
}
