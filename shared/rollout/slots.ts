/**
 * A service's rows, seen slot by slot. Every row falls into the first class of this table that matches:
 *   removed    its node was removed by the operator: nothing of it can come back
 *   leaving    told to stop, not yet verified gone
 *   rejected   terminal: its node would not or could not run it (also: stopped without being told)
 *   finished   terminal: completed, or its restart policy is exhausted
 *   dark       its node is lost: it keeps its row and does not serve
 *   current    runs what the service wants now, where the service wants it
 *   old        runs something else
 */
import { hasBit, type Bits } from "../schedule/bits.ts";
import { obtain } from "../schedule/obtain.ts";
import type { ClusterIndex } from "../plan/cluster-index.ts";
import { isBroken } from "./broken.ts";
import type { ServiceState } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";

export const ROW_CLASSES = ["removed", "leaving", "rejected", "finished", "dark", "current", "old"] as const;
export type RowClass = (typeof ROW_CLASSES)[number];

const FINISHED: ReadonlySet<string> = new Set(["completed", "failed"]);

export interface Slot {
  /** Slot number; for a global service the rank of its node. */
  readonly number: number;
  readonly name: string;
  readonly rows: Readonly<Record<RowClass, readonly number[]>>;
}

export interface SlotView {
  readonly index: ClusterIndex;
  /** Index in the snapshot's services. */
  readonly s: number;
  readonly service: ServiceState;
  /** Numbers of the wanted slots, ascending. */
  readonly wanted: readonly number[] | { readonly count: number };
  /** Slots that have rows, by number; unwanted ones are not among them. */
  readonly bySlot: ReadonlyMap<number, Slot>;
  /** Rows of slots that are not wanted any more. */
  readonly unwanted: readonly number[];
}

/** What else decides whether a row is where and what it should be, while a deployment runs. */
export interface Standard {
  /** Nodes that satisfy the service's constraints; null: not asked now, labels that move later do not evict. */
  readonly allowed: Bits | null;
  /** Rank of the node that the app's group shares; -1: none or not asked. */
  readonly home: number;
}

export function isCurrentSpec(index: ClusterIndex, row: number, service: ServiceState): boolean {
  const { spec, image, revision } = index.snapshot.replicas;
  if (spec[row] !== service.spec || (image[row] !== service.image && image[row] !== "" && service.image !== "")) return false;
  // The same spec deployed again after a failure: what serves stays, what is broken is tried anew. In that deployment
  // alone, since a replica's restarts are counted over its life.
  return revision[row]! >= service.revision || !isBroken(index, row) || !index.isDeploying(service);
}

export function classify(index: ClusterIndex, row: number, service: ServiceState, standard: Standard): RowClass {
  const { node, run, state } = index.snapshot.replicas;
  if (node[row]! < 0) return "removed";
  if (run[row] === 0) return "leaving";
  if (index.isTerminal(row)) return FINISHED.has(REPLICA_STATES[state[row]!]!) ? "finished" : "rejected";
  if (index.lost[node[row]!] === 1) return "dark";
  if (!isCurrentSpec(index, row, service)) return "old";
  return isMisplaced(index, row, standard) ? "old" : "current";
}

export function isMisplaced(index: ClusterIndex, row: number, { allowed, home }: Standard): boolean {
  if (allowed === null && home < 0) return false;
  const rank = index.rankOfRow(row);
  return (allowed !== null && !hasBit(allowed, rank)) || (home >= 0 && rank !== home);
}

/** Slot number of a replicated service's slot name; -1: not one. */
export function slotNumber(name: string): number {
  if (name.length === 0 || name.length > 6) return -1;
  let number = 0;
  for (let i = 0; i < name.length; i += 1) {
    const digit = name.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number === 0 ? (name.length === 1 ? 0 : -1) : name.charCodeAt(0) === 48 ? -1 : number;
}

export function slotName(view: Pick<SlotView, "index" | "service">, number: number): string {
  return view.service.mode === "global" ? view.index.fleet.nodes[number]!.id : String(number);
}

/** True when there is nothing to decide: every wanted slot has exactly one live current replica, and there is no other row. */
export function isQuiet(index: ClusterIndex, s: number, seen: Int32Array, stamp: number): boolean {
  const service = index.snapshot.services[s]!;
  const rows = index.rowsOf(s);
  const { slot, node, run } = index.snapshot.replicas;
  if (service.mode === "global" || service.removed || rows.length !== service.replicas) return false;
  for (const row of rows) {
    const number = slotNumber(slot[row]!);
    if (number < 0 || number >= service.replicas || seen[number] === stamp) return false;
    seen[number] = stamp;
    if (run[row] === 0 || node[row]! < 0 || index.isTerminal(row) || index.lost[node[row]!] === 1) return false;
    if (!isCurrentSpec(index, row, service)) return false;
  }
  return true;
}

export function viewSlots(index: ClusterIndex, s: number, standard: Standard, wanted: SlotView["wanted"]): SlotView {
  const service = index.snapshot.services[s]!;
  const isWanted = wantedTest(wanted);
  const { slot } = index.snapshot.replicas;
  const bySlot = new Map<number, { number: number; name: string; rows: Record<RowClass, number[]> }>();
  const unwanted: number[] = [];
  for (const row of index.rowsOf(s)) {
    const number = service.mode === "global" ? rankOfId(index, slot[row]!) : slotNumber(slot[row]!);
    if (number < 0 || !isWanted(number)) {
      unwanted.push(row);
      continue;
    }
    const view = obtain(bySlot, number, () => ({ number, name: slot[row]!, rows: noRows() }));
    const name = classify(index, row, service, standard);
    if (view.rows[name] === NONE) view.rows[name] = [row];
    else view.rows[name].push(row);
  }
  // Which of several rows is met first must not depend on the order in which they were read.
  const { id } = index.snapshot.replicas;
  for (const { rows } of bySlot.values())
    for (const name of ROW_CLASSES) if (rows[name].length > 1) rows[name].sort((a, b) => (id[a]! < id[b]! ? -1 : 1));
  return { index, s, service, wanted, bySlot, unwanted };
}

/** Shared by all empty classes, and never written: most slots have one row. */
const NONE: number[] = [];
const noRows = (): Record<RowClass, number[]> => ({
  removed: NONE,
  leaving: NONE,
  rejected: NONE,
  finished: NONE,
  dark: NONE,
  current: NONE,
  old: NONE,
});

export function* wantedNumbers(wanted: SlotView["wanted"]): Iterable<number> {
  if ("count" in wanted) for (let number = 0; number < wanted.count; number += 1) yield number;
  else yield* wanted;
}

export function wantedCount(wanted: SlotView["wanted"]): number {
  return "count" in wanted ? wanted.count : wanted.length;
}

function wantedTest(wanted: SlotView["wanted"]): (number: number) => boolean {
  if ("count" in wanted) return (number) => number < wanted.count;
  const set = new Set(wanted);
  return (number) => set.has(number);
}

function rankOfId(index: ClusterIndex, id: string): number {
  const n = index.nodeIndex(id as Parameters<ClusterIndex["nodeIndex"]>[0]);
  return n < 0 ? -1 : index.fleet.rankOf[n]!;
}
