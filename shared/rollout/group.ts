/**
 * The node that an app's colocated services share. First match wins:
 *   1. where volumes of theirs are bound (the node with most of them): the group waits for that node if it is lost;
 *   2. where a member was placed last that another node had rejected: the others follow it when it runs there;
 *   3. where most of their slots are ready, then where most are live, then where one has been ready longest;
 *   4. none: the group is placed anew, as one.
 * The third line also settles which half stays when a lost node returns beside its replacement.
 */
import { REPLICA_STATES } from "../wire/report.ts";
import { obtain } from "../schedule/obtain.ts";
import type { ClusterIndex } from "../plan/cluster-index.ts";

export interface Home {
  /** -1: none. */
  readonly rank: number;
  readonly bound: boolean;
  /** A member that another node rejected runs there: the others follow it, whether a deployment runs or not. */
  readonly follows: boolean;
}

const NO_HOME: Home = { rank: -1, bound: false, follows: false };
const RUNNING = REPLICA_STATES.indexOf("running");

export function groupHome(index: ClusterIndex, members: readonly number[]): Home {
  if (members.length === 0) return NO_HOME;
  const bound = boundHome(index, members);
  return bound >= 0 ? { rank: bound, bound: true, follows: false } : liveHome(index, members);
}

function boundHome(index: ClusterIndex, members: readonly number[]): number {
  const votes = new Map<number, number>();
  for (const s of members) {
    const service = index.snapshot.services[s]!;
    if (service.planning.volumes.length === 0) continue;
    for (let slot = 0; slot < service.replicas; slot += 1) {
      const id = index.volumeNode(service, String(slot));
      const n = id === null ? -1 : index.nodeIndex(id);
      if (n >= 0) votes.set(index.fleet.rankOf[n]!, (votes.get(index.fleet.rankOf[n]!) ?? 0) + 1);
    }
  }
  return best([...votes], ([rankA, a], [rankB, b]) => b - a || rankA - rankB)?.[0] ?? -1;
}

interface Standing {
  readonly rank: number;
  ready: number;
  live: number;
  oldestMs: number;
  /** When the last of them was assigned there. */
  assignedMs: number;
  /** Some of them was rejected by another node before; and some such runs. */
  isRefuge: boolean;
  isAccepted: boolean;
}

/** True while colocated services are on more than one node, as when a group is on its way to another. */
export function isSplit(index: ClusterIndex, members: readonly number[]): boolean {
  const { node } = index.snapshot.replicas;
  let first = -1;
  for (const s of members)
    for (const row of index.rowsOf(s)) {
      if (first >= 0 && node[row] !== first) return true;
      first = node[row]!;
    }
  return false;
}

function liveHome(index: ClusterIndex, members: readonly number[]): Home {
  const { node, run, readySinceMs, assignedMs, attempt, state } = index.snapshot.replicas;
  const standings = new Map<number, Standing>();
  for (const s of members) {
    for (const row of index.rowsOf(s)) {
      if (node[row]! < 0 || run[row] === 0 || index.isTerminal(row) || index.lost[node[row]!] === 1) continue;
      const rank = index.rankOfRow(row);
      const standing = obtain(standings, rank, () => ({ rank, ready: 0, live: 0, oldestMs: Number.POSITIVE_INFINITY, ...NEW }));
      standing.live += 1;
      standing.assignedMs = Math.max(standing.assignedMs, assignedMs[row]!);
      standing.isRefuge ||= attempt[row]! > 0;
      standing.isAccepted ||= attempt[row]! > 0 && state[row]! >= RUNNING;
      if (!index.isProven(row)) continue;
      standing.ready += 1;
      standing.oldestMs = Math.min(standing.oldestMs, readySinceMs[row]!);
    }
  }
  const order = (a: Standing, b: Standing) =>
    b.ready - a.ready || b.live - a.live || (a.oldestMs === b.oldestMs ? 0 : a.oldestMs - b.oldestMs) || a.rank - b.rank;
  const all = [...standings.values()];
  const refuge = all.find((one) => one.isRefuge && all.every((other) => other === one || other.assignedMs < one.assignedMs));
  if (refuge) return { rank: refuge.rank, bound: false, follows: refuge.isAccepted && all.length > 1 };
  return { rank: best(all, order)?.rank ?? -1, bound: false, follows: false };
}

const NEW = { assignedMs: 0, isRefuge: false, isAccepted: false };

function best<T>(list: readonly T[], order: (a: T, b: T) => number): T | undefined {
  return list.reduce<T | undefined>((chosen, item) => (chosen === undefined || order(item, chosen) < 0 ? item : chosen), undefined);
}
