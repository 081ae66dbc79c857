/**
 * The node that an app's colocated services share. First match wins:
 *   1. where volumes of theirs are bound (the node with most of them): the group waits for that node if it is lost;
 *   2. where most of their slots are ready, then where most are live, then where one has been ready longest;
 *   3. none: the group is placed anew, as one.
 * The second line also settles which half stays when a lost node returns beside its replacement.
 */
import { obtain } from "../schedule/obtain.ts";
import type { ClusterIndex } from "../plan/cluster-index.ts";

export interface Home {
  /** -1: none. */
  readonly rank: number;
  readonly bound: boolean;
}

const NO_HOME: Home = { rank: -1, bound: false };

export function groupHome(index: ClusterIndex, members: readonly number[]): Home {
  if (members.length === 0) return NO_HOME;
  const bound = boundHome(index, members);
  return bound >= 0 ? { rank: bound, bound: true } : { rank: liveHome(index, members), bound: false };
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
}

function liveHome(index: ClusterIndex, members: readonly number[]): number {
  const { node, run, readySinceMs } = index.snapshot.replicas;
  const standings = new Map<number, Standing>();
  for (const s of members) {
    for (const row of index.rowsOf(s)) {
      if (node[row]! < 0 || run[row] === 0 || index.isTerminal(row) || index.lost[node[row]!] === 1) continue;
      const rank = index.rankOfRow(row);
      const standing = obtain(standings, rank, () => ({ rank, ready: 0, live: 0, oldestMs: Number.POSITIVE_INFINITY }));
      standing.live += 1;
      if (!index.isProven(row)) continue;
      standing.ready += 1;
      standing.oldestMs = Math.min(standing.oldestMs, readySinceMs[row]!);
    }
  }
  const order = (a: Standing, b: Standing) =>
    b.ready - a.ready || b.live - a.live || (a.oldestMs === b.oldestMs ? 0 : a.oldestMs - b.oldestMs) || a.rank - b.rank;
  return best([...standings.values()], order)?.rank ?? -1;
}

function best<T>(list: readonly T[], order: (a: T, b: T) => number): T | undefined {
  return list.reduce<T | undefined>((chosen, item) => (chosen === undefined || order(item, chosen) < 0 ? item : chosen), undefined);
}
