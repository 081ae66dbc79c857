/**
 * Finds nodes for the slots of one service, one after another. Score, most significant first:
 *   spread   least populated domain of `spreadBy`, fewest replicas of the service on the node, lowest load;
 *   binpack  least populated domain of `spreadBy`, highest load that still fits;
 * equal ones by hash of (slot, node): the first at or after the slot's hash on the ring of ranks.
 *
 * Only one Seeker is in use at a time: counts and tiers live in memory shared by all (`SeekSpace`).
 */
import type { ServiceState } from "../plan/snapshot.ts";
import { allOf, andNotInto, type Bits, bitsFor, clearBit, hasBit, setBit } from "./bits.ts";
import { type Domain, type DomainTree, domainTree } from "./domains.ts";
import type { Feasibility } from "./feasibility.ts";
import { type Demand, demandOf, type Fleet, LOAD_BUCKETS } from "./fleet.ts";
import { hash32, mix32 } from "./hash.ts";
import { obtain } from "./obtain.ts";

export const NOWHERE = -1;

/** Memory that Seekers take turns to use, and what they share. */
export class SeekSpace {
  readonly fleet: Fleet;
  readonly feasibility: Feasibility;
  readonly everywhere: Bits;
  /** Replicas of the service on each node, and the nodes where that is not 0. */
  readonly perNode: Int32Array;
  readonly touched: number[] = [];
  /** tiers[n]: nodes that run n replicas of the service. Those from `tierCount` on are left over from other services. */
  readonly tiers: Bits[] = [];
  tierCount = 0;
  /** Open nodes that also have the ports free, no older volume to delete and room under maxPerNode. */
  readonly mask: Bits;
  readonly #trees = new Map<string, DomainTree>();

  constructor(fleet: Fleet, feasibility: Feasibility) {
    this.fleet = fleet;
    this.feasibility = feasibility;
    this.everywhere = allOf(fleet.count);
    this.perNode = new Int32Array(fleet.count);
    this.mask = bitsFor(fleet.count);
  }

  tree(spreadBy: readonly string[]): DomainTree {
    const key = spreadBy.join("\n");
    return obtain(this.#trees, key, () => domainTree(this.fleet, this.feasibility, spreadBy));
  }

  clear(): void {
    for (const rank of this.touched) this.perNode[rank] = 0;
    this.touched.length = 0;
    this.tierCount = 1;
    if (this.tiers.length === 0) this.tiers.push(bitsFor(this.fleet.count));
    this.tiers[0]!.set(this.everywhere);
  }

  tier(number: number): Bits {
    for (; this.tierCount <= number; this.tierCount += 1) {
      if (this.tiers.length > this.tierCount) this.tiers[this.tierCount]!.fill(0);
      else this.tiers.push(bitsFor(this.fleet.count));
    }
    return this.tiers[number]!;
  }
}

export interface Wish {
  readonly service: ServiceState;
  /** Differs from the service's own for a group that is placed as one. */
  readonly demand: Demand;
  /** Ranks of the nodes of replicas that the service already has. */
  readonly present: readonly number[];
}

export class Seeker {
  readonly demand: Demand;
  readonly service: ServiceState;
  readonly classKey: string;
  readonly #space: SeekSpace;
  readonly #fleet: Fleet;
  readonly #tree: DomainTree;
  readonly #open: Bits;
  readonly #mask: Bits;
  readonly #seed: number;
  readonly #maxPerNode: number;
  #reserved: Bits | null = null;
  #search = 0;

  constructor(space: SeekSpace, wish: Wish) {
    const { service, demand } = wish;
    const { constraints, tolerations, spreadBy, maxPerNode } = service.planning;
    space.clear();
    this.#space = space;
    this.#fleet = space.fleet;
    this.service = service;
    this.demand = demand;
    this.#tree = space.tree(spreadBy);
    this.#tree.reset();
    const devices = demand.devices.length === 0 ? "" : JSON.stringify(demand.devices);
    this.classKey = space.feasibility.classKey(constraints, tolerations, `${demand.cpuMillis},${demand.memoryMiB},${devices}`);
    this.#open = space.feasibility.open(this.classKey, constraints, tolerations);
    this.#mask = space.mask;
    this.#mask.set(this.#open);
    const taken = this.#fleet.portsTaken(demand.hostPorts);
    if (taken) andNotInto(this.#mask, taken);
    const dropping = this.#fleet.dropping(service.planning.volumes);
    if (dropping) andNotInto(this.#mask, dropping);
    this.#maxPerNode = service.mode === "global" ? Number.POSITIVE_INFINITY : (maxPerNode ?? Number.POSITIVE_INFINITY);
    // The spec's hash names namespace, app and service too, and is known before the app has an id: a rehearsal of its
    // first deploy breaks ties as the deploy itself will.
    this.#seed = hash32(`${service.spec}/${service.name}`);
    for (const rank of wish.present) this.#count(rank);
  }

  static demandOf(service: ServiceState): Demand {
    return demandOf(service.reservation, service.planning.hostPorts);
  }

  /** Nodes that are kept for slots which can go nowhere else: `find` passes them over, `admits` does not. */
  get reserved(): Bits | null {
    return this.#reserved;
  }
  reserve(rank: number): void {
    this.#reserved ??= bitsFor(this.#fleet.count);
    setBit(this.#reserved, rank);
  }

  /** Best node for the slot other than `except`, or NOWHERE. Nothing is set aside until `take`. */
  find(slot: string, except: number = NOWHERE): number {
    if (this.#fleet.count === 0) return NOWHERE;
    this.#search += 1;
    return this.#descend(this.#tree.root, hash32(slot, this.#seed), except);
  }

  /** True when exactly this node would take one more. */
  admits(rank: number): boolean {
    return hasBit(this.#mask, rank) && this.#fleet.fits(rank, this.demand);
  }

  take(rank: number): void {
    this.#fleet.take(rank, this.demand);
    this.#count(rank);
    if (this.demand.hostPorts.length > 0) clearBit(this.#mask, rank);
  }

  replicasOn(rank: number): number {
    return this.#space.perNode[rank]!;
  }

  /** Parts of the score of a node as it is now; higher is better. */
  score(rank: number): Record<string, number> {
    const load = Math.round(this.#fleet.load(rank) * 1000) / 1000;
    const parts: Record<string, number> = {};
    for (
      let domain: Domain = this.#tree.leafOf[rank]!, level = this.service.planning.spreadBy.length;
      domain.parent;
      domain = domain.parent, level -= 1
    ) {
      parts[this.service.planning.spreadBy[level - 1]!] = 0 - domain.count;
    }
    if (this.service.planning.strategy === "spread") parts.replicas = 0 - this.replicasOn(rank);
    parts.load = this.service.planning.strategy === "spread" ? Math.round((1 - load) * 1000) / 1000 : load;
    return parts;
  }

  #count(rank: number): void {
    const { perNode, touched } = this.#space;
    const before = perNode[rank]!;
    if (before === 0) touched.push(rank);
    perNode[rank] = before + 1;
    clearBit(this.#space.tier(before), rank);
    setBit(this.#space.tier(before + 1), rank);
    if (before + 1 >= this.#maxPerNode) clearBit(this.#mask, rank);
    for (let domain: Domain | null = this.#tree.leafOf[rank]!; domain; domain = domain.parent) domain.count += 1;
  }

  #descend(domain: Domain, slotHash: number, except: number): number {
    if (domain.exhausted) return NOWHERE;
    const { children } = domain;
    if (children.length === 0)
      return this.service.planning.strategy === "spread" ? this.#spread(domain, slotHash, except) : this.#binpack(domain, slotHash, except);
    for (;;) {
      const child = this.#leastPopulated(children, slotHash);
      if (!child) break;
      const found = this.#descend(child, slotHash, except);
      if (found !== NOWHERE) return found;
      child.triedBy = this.#search;
    }
    if (except === NOWHERE) domain.exhausted = true;
    return NOWHERE;
  }

  #leastPopulated(children: readonly Domain[], slotHash: number): Domain | null {
    let best: Domain | null = null;
    let bestTie = 0;
    for (const child of children) {
      if (child.exhausted || child.triedBy === this.#search || (best && child.count > best.count)) continue;
      const tie = mix32(child.hash ^ slotHash);
      if (best && child.count === best.count && tie >= bestTie) continue;
      best = child;
      bestTie = tie;
    }
    return best;
  }

  #spread(leaf: Domain, slotHash: number, except: number): number {
    const { tiers, tierCount } = this.#space;
    const { bucketCount, buckets } = this.#fleet;
    const start = slotHash % this.#fleet.count;
    let bucket = leaf.bucket;
    for (let tier = leaf.tier; tier < tierCount; tier += 1) {
      for (; bucket < LOAD_BUCKETS; bucket += 1) {
        if (bucketCount[bucket] === 0) continue;
        const found = this.#scan(buckets[bucket]!, tiers[tier]!, leaf.nodes, start, except);
        if (found === NOWHERE) continue;
        // With an exception the cursor stays: what was passed over is open to the next slot.
        if (except === NOWHERE) {
          leaf.tier = tier;
          leaf.bucket = bucket;
        }
        return found;
      }
      bucket = 0;
    }
    if (except === NOWHERE) leaf.exhausted = true;
    return NOWHERE;
  }

  #binpack(leaf: Domain, slotHash: number, except: number): number {
    const start = slotHash % this.#fleet.count;
    for (let bucket = LOAD_BUCKETS - 1; bucket >= 0; bucket -= 1) {
      if (this.#fleet.bucketCount[bucket] === 0) continue;
      const found = this.#scan(this.#fleet.buckets[bucket]!, this.#space.everywhere, leaf.nodes, start, except);
      if (found !== NOWHERE) return found;
    }
    if (except === NOWHERE) leaf.exhausted = true;
    return NOWHERE;
  }

  /** First node at or after `start` on the ring that is in all three sets and has room. */
  #scan(bucket: Bits, tier: Bits, leaf: Bits, start: number, except: number): number {
    const mask = this.#mask;
    const reserved = this.#reserved;
    const words = mask.length;
    const below = (1 << (start & 31)) - 1;
    let word = start >>> 5;
    for (let step = 0; step <= words; step += 1) {
      let bits = mask[word]! & tier[word]! & bucket[word]! & leaf[word]!;
      if (reserved !== null) bits &= ~reserved[word]!;
      if (step === 0) bits &= ~below;
      else if (step === words) bits &= below;
      for (; bits !== 0; bits &= bits - 1) {
        const rank = (word << 5) + 31 - Math.clz32(bits & -bits);
        if (rank === except) continue;
        if (this.#fleet.fits(rank, this.demand)) return rank;
        clearBit(mask, rank);
        clearBit(this.#open, rank);
      }
      word = word + 1 === words ? 0 : word + 1;
    }
    return NOWHERE;
  }
}
