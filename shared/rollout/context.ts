/** What holds for a whole app while its services are planned. */
import type { ClusterIndex } from "../plan/cluster-index.ts";
import type { AppState, DeploymentState, ServiceState } from "../plan/snapshot.ts";
import { eachBit, setBit, andInto, type Bits } from "../schedule/bits.ts";
import type { SlotView, Standard } from "./slots.ts";

export interface AppContext {
  readonly app: AppState;
  readonly deployment: DeploymentState | null;
  /** The latest deployment failed, or scales an app of which that is true: updates stay where they are, lost replicas are still replaced. */
  readonly halted: boolean;
  /** Rank of the node its colocated services share; -1: none chosen yet, or nothing to share. */
  readonly home: number;
  /** The home is where volumes are: the group cannot move. */
  readonly homeIsBound: boolean;
  /** A member that another node rejected runs at the home: the others follow it there. */
  readonly follows: boolean;
  /** Its group may be placed anew: the others could follow without taking a revision that failed. */
  readonly mayMove: boolean;
}

/** A deployment runs that may replace what is there; one that only scales what failed may not. */
const isUpdating = ({ deployment, halted }: AppContext) => deployment !== null && !halted;

export function standardOf(index: ClusterIndex, service: ServiceState, context: AppContext): Standard {
  const { constraints, colocate } = service.planning;
  if (!isUpdating(context)) return { allowed: null, home: colocate && context.follows ? context.home : -1 };
  return { allowed: constraints.length === 0 ? null : index.space.feasibility.satisfying(constraints), home: colocate ? context.home : -1 };
}

/**
 * Slots that a service wants. Replicated: a count. Global: a slot for each node that its words allow; one that is
 * cordoned or quarantined gets no first replica but keeps what it has, and outside a deployment so does a node whose
 * labels moved.
 */
export function wantedSlots(index: ClusterIndex, s: number, context: AppContext): SlotView["wanted"] {
  const service = index.snapshot.services[s]!;
  if (service.mode === "replicated") return { count: service.replicas };
  const { fleet, feasibility } = index.space;
  const allowed = feasibility.satisfying(service.planning.constraints).slice();
  andInto(allowed, feasibility.tolerating(service.planning.tolerations));
  const wanted = allowed.slice();
  andInto(wanted, fleet.active);
  andInto(wanted, fleet.admitted);
  for (const row of index.rowsOf(s)) {
    const rank = index.rankOfRow(row);
    if (rank < 0 || index.snapshot.replicas.run[row] === 0) continue;
    if (!isUpdating(context) || isIn(allowed, rank)) setBit(wanted, rank);
  }
  return ranks(wanted);
}

const isIn = (bits: Bits, rank: number) => ((bits[rank >>> 5]! >>> (rank & 31)) & 1) === 1;

function ranks(bits: Bits): number[] {
  const list: number[] = [];
  eachBit(bits, (rank) => {
    list.push(rank);
  });
  return list;
}
