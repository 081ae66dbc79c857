/**
 * Failure domains as a tree: one level for each attribute of `spreadBy`, nodes without the attribute being a domain of
 * their own. A service with no such wish has one leaf, the whole fleet. The tree is shared by all services with the same
 * list; counts, cursors and marks belong to whoever seeks at the moment and are cleared by `reset`.
 */
import { allOf, type Bits, bitsFor, setBit } from "./bits.ts";
import type { Feasibility } from "./feasibility.ts";
import type { Fleet } from "./fleet.ts";
import { hash32 } from "./hash.ts";

export interface Domain {
  readonly parent: Domain | null;
  readonly children: readonly Domain[];
  /** Nodes of a leaf. */
  readonly nodes: Bits;
  readonly hash: number;
  /** Replicas of the service now seeking. */
  count: number;
  /** Nothing in it has room any more. */
  exhausted: boolean;
  /** Number of the search that already looked here in vain. */
  triedBy: number;
  /** Where a leaf's search goes on: fewest replicas first, then lowest load. Both only rise. */
  tier: number;
  bucket: number;
}

export interface DomainTree {
  readonly root: Domain;
  /** By rank. */
  readonly leafOf: readonly Domain[];
  reset(): void;
}

export function domainTree(fleet: Fleet, feasibility: Feasibility, spreadBy: readonly string[]): DomainTree {
  const all: Domain[] = [];
  const leafOf: Domain[] = [];
  const columns = spreadBy.map((key) => feasibility.column(key));
  const grow = (parent: Domain | null, hash: number, ranks: readonly number[] | null, level: number): Domain => {
    const column = columns[level];
    const children: Domain[] = [];
    const domain: Domain = {
      parent,
      children,
      nodes: column ? bitsFor(0) : ranks ? bitsFor(fleet.count) : allOf(fleet.count),
      hash,
      count: 0,
      exhausted: false,
      triedBy: 0,
      tier: 0,
      bucket: 0,
    };
    all.push(domain);
    if (!column) {
      if (ranks) for (const rank of ranks) setBit(domain.nodes, rank);
      for (let i = 0; i < (ranks?.length ?? fleet.count); i += 1) leafOf[ranks ? ranks[i]! : i] = domain;
      return domain;
    }
    const groups = new Map<number, number[]>();
    for (let i = 0; i < (ranks?.length ?? fleet.count); i += 1) {
      const rank = ranks ? ranks[i]! : i;
      const group = groups.get(column.of[rank]!);
      if (group) group.push(rank);
      else groups.set(column.of[rank]!, [rank]);
    }
    for (const [value, members] of groups)
      children.push(grow(domain, hash32(`${spreadBy[level]}=${column.values[value] ?? ""}`, hash), members, level + 1));
    return domain;
  };
  const root = grow(null, 0, null, 0);
  return {
    root,
    leafOf,
    reset() {
      for (const domain of all) {
        domain.count = 0;
        domain.exhausted = false;
        domain.triedBy = 0;
        domain.tier = 0;
        domain.bucket = 0;
      }
    },
  };
}
