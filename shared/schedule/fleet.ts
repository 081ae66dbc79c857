/**
 * The nodes as columns, with what is free on each. Nodes are numbered by *rank*, their order by hash of id: the input's
 * order is forgotten here, and "the first free node at or after a slot's hash" is a tie-break that depends on slot and
 * node only.
 *
 * Invariant: free capacity only shrinks while one plan is made. Whatever did not fit once does not fit later.
 */
import type { Reservation } from "../model/app.ts";
import { addressesOverlap } from "../model/host-port.ts";
import type { NodeId } from "../model/name.ts";
import type { ClusterSnapshot, HostPort, NodeState } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";
import { type Bits, bitsFor, clearBit, hasBit, setBit } from "./bits.ts";
import { hash32 } from "./hash.ts";
import { obtain } from "./obtain.ts";

/** Load is cut into this many buckets: with 1,024, two nodes of one bucket differ by less than 0.1 % of a node. */
export const LOAD_BUCKETS = 1024;
const EMPTY: Bits = bitsFor(0);

/** States from here on are terminal: nothing of the replica runs, so it occupies nothing. */
export const TERMINAL_FROM = REPLICA_STATES.indexOf("completed");

/**
 * A node is never given more replicas than this, however little they reserve: its set has to fit into a manifest
 * (ASSIGNMENTS_MAX in shared/wire/poll.ts, with room for what is ending) and into what one engine can run.
 */
export const NODE_REPLICAS_MAX = 1_000;

/** What one replica occupies on its node, or a group of them together. */
export interface Demand {
  readonly replicas: number;
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  readonly devices: readonly (readonly [kind: string, count: number])[];
  readonly hostPorts: readonly HostPort[];
}

export function demandOf(reservation: Reservation, hostPorts: readonly HostPort[]): Demand {
  return {
    replicas: 1,
    cpuMillis: reservation.cpuMillis,
    memoryMiB: reservation.memoryMiB,
    devices: Object.entries(reservation.devices).sort(([a], [b]) => (a < b ? -1 : 1)),
    hostPorts,
  };
}

export class Fleet {
  /** By rank. */
  readonly nodes: readonly NodeState[];
  /** Snapshot index → rank. */
  readonly rankOf: Int32Array;
  readonly count: number;
  readonly cpuFree: Float64Array;
  readonly memoryFree: Float64Array;
  readonly replicasFree: Int32Array;
  readonly deviceFree = new Map<string, Float64Array>();
  readonly ready: Bits;
  readonly active: Bits;
  readonly admitted: Bits;
  /** Nodes whose engine answers, or that have not yet said. */
  readonly engine: Bits;
  /** Nodes by load, emptiest first, and how many each bucket holds. One that never held any has no words: ask the count first. */
  readonly buckets: Bits[] = [];
  readonly bucketCount = new Int32Array(LOAD_BUCKETS);
  readonly #bucketOf: Uint16Array;
  readonly #cpuShare: Float64Array;
  readonly #memoryShare: Float64Array;
  /** `protocol/port` → address → nodes on which it is taken. */
  readonly #ports = new Map<string, Map<string, Bits>>();
  /** Engine volume → nodes that have yet to delete one of that name. */
  readonly #drops = new Map<string, Bits>();
  #ranks: Map<NodeId, number> | null = null;

  constructor(snapshot: ClusterSnapshot) {
    const { nodes, replicas } = snapshot;
    const count = nodes.length;
    const hashes = nodes.map((node) => hash32(node.id));
    const order = nodes.map((_, index) => index).sort((a, b) => hashes[a]! - hashes[b]! || (nodes[a]!.id < nodes[b]!.id ? -1 : 1));
    this.count = count;
    this.nodes = order.map((index) => nodes[index]!);
    this.rankOf = new Int32Array(count);
    for (let rank = 0; rank < count; rank += 1) this.rankOf[order[rank]!] = rank;
    this.cpuFree = new Float64Array(count);
    this.memoryFree = new Float64Array(count);
    this.replicasFree = new Int32Array(count);
    this.#cpuShare = new Float64Array(count);
    this.#memoryShare = new Float64Array(count);
    this.#bucketOf = new Uint16Array(count);
    this.ready = bitsFor(count);
    this.active = bitsFor(count);
    this.admitted = bitsFor(count);
    this.engine = bitsFor(count);
    for (let rank = 0; rank < count; rank += 1) this.#enter(this.nodes[rank]!, rank);
    for (let r = 0; r < replicas.length; r += 1) {
      const node = replicas.node[r]!;
      if (node < 0 || replicas.state[r]! >= TERMINAL_FROM) continue;
      this.#occupy(this.rankOf[node]!, replicas.cpuMillis[r]!, replicas.memoryMiB[r]!, replicas.hostPorts[r]!);
      this.replicasFree[this.rankOf[node]!]! -= 1;
      for (const kind in replicas.devices[r]!) this.#takeDevice(this.rankOf[node]!, kind, replicas.devices[r]![kind]!);
    }
    for (const { nodeId, engineName } of snapshot.volumeDrops) {
      const rank = this.#rankById(nodeId);
      const dropping = obtain(this.#drops, engineName, () => bitsFor(count));
      if (rank >= 0) setBit(dropping, rank);
    }
    for (let b = 0; b < LOAD_BUCKETS; b += 1) this.buckets.push(EMPTY);
    for (let rank = 0; rank < count; rank += 1) {
      this.#putInBucket(rank, this.#bucketFor(rank));
    }
  }

  /** Share of the node that is set aside, by its fuller resource: 0 empty, 1 full. */
  load(rank: number): number {
    return Math.max(1 - this.cpuFree[rank]! * this.#cpuShare[rank]!, 1 - this.memoryFree[rank]! * this.#memoryShare[rank]!);
  }

  /** Sets a replica's demand aside. */
  take(rank: number, demand: Demand): void {
    this.#occupy(rank, demand.cpuMillis, demand.memoryMiB, demand.hostPorts);
    this.replicasFree[rank]! -= demand.replicas;
    for (const [kind, wanted] of demand.devices) this.#takeDevice(rank, kind, wanted);
    const bucket = this.#bucketFor(rank);
    const before = this.#bucketOf[rank]!;
    if (bucket === before) return;
    clearBit(this.buckets[before]!, rank);
    this.bucketCount[before]! -= 1;
    this.#putInBucket(rank, bucket);
  }

  /** Counted resources only; ports are a set of nodes, see `portsTaken`. */
  fits(rank: number, demand: Demand): boolean {
    if (this.cpuFree[rank]! < demand.cpuMillis || this.memoryFree[rank]! < demand.memoryMiB) return false;
    if (this.replicasFree[rank]! < demand.replicas) return false;
    for (const [kind, wanted] of demand.devices) if (this.devicesFree(rank, kind) < wanted) return false;
    return true;
  }

  devicesFree(rank: number, kind: string): number {
    return this.deviceFree.get(kind)?.[rank] ?? 0;
  }

  /** Nodes on which at least one of the ports is taken; null: none is. */
  portsTaken(ports: readonly HostPort[]): Bits | null {
    let taken: Bits | null = null;
    for (const { port, protocol, hostIp } of ports) {
      for (const [takenIp, nodes] of this.#ports.get(`${protocol}/${port}`) ?? []) {
        if (!addressesOverlap(hostIp, takenIp)) continue;
        taken ??= bitsFor(this.count);
        for (let w = 0; w < taken.length; w += 1) taken[w]! |= nodes[w]!;
      }
    }
    return taken;
  }

  /** One of the ports is taken on the node, and not by whoever has `own` there. */
  isPortTakenBeside(rank: number, ports: readonly HostPort[], own: readonly HostPort[]): boolean {
    for (const { port, protocol, hostIp } of ports)
      for (const [takenIp, nodes] of this.#ports.get(`${protocol}/${port}`) ?? []) {
        if (!addressesOverlap(hostIp, takenIp) || !hasBit(nodes, rank)) continue;
        if (!own.some((held) => held.port === port && held.protocol === protocol && held.hostIp === takenIp)) return true;
      }
    return false;
  }

  /** Nodes that have yet to delete an older volume of one of these names; null: none has. */
  dropping(volumes: readonly { readonly engineName: string }[]): Bits | null {
    if (this.#drops.size === 0) return null;
    let dropping: Bits | null = null;
    for (const { engineName } of volumes) {
      const nodes = this.#drops.get(engineName);
      if (!nodes) continue;
      dropping ??= bitsFor(this.count);
      for (let w = 0; w < dropping.length; w += 1) dropping[w]! |= nodes[w]!;
    }
    return dropping;
  }

  #enter(node: NodeState, rank: number): void {
    this.cpuFree[rank] = node.cpuMillis;
    this.memoryFree[rank] = node.memoryMiB;
    this.replicasFree[rank] = node.replicasMax ?? NODE_REPLICAS_MAX;
    this.#cpuShare[rank] = node.cpuMillis > 0 ? 1 / node.cpuMillis : 0;
    this.#memoryShare[rank] = node.memoryMiB > 0 ? 1 / node.memoryMiB : 0;
    for (const kind in node.devices) this.#devicesOf(kind)[rank] = node.devices[kind]!;
    if (node.status === "ready") setBit(this.ready, rank);
    if (node.availability === "active") setBit(this.active, rank);
    if (!node.quarantined) setBit(this.admitted, rank);
    if (!node.reported || node.engineReachable) setBit(this.engine, rank);
  }

  #rankById(id: NodeId): number {
    this.#ranks ??= new Map(this.nodes.map((node, rank) => [node.id, rank]));
    return this.#ranks.get(id) ?? -1;
  }

  #occupy(rank: number, cpuMillis: number, memoryMiB: number, ports: readonly HostPort[]): void {
    this.cpuFree[rank]! -= cpuMillis;
    this.memoryFree[rank]! -= memoryMiB;
    for (const { port, protocol, hostIp } of ports) {
      const addresses = obtain(this.#ports, `${protocol}/${port}`, () => new Map<string, Bits>());
      setBit(
        obtain(addresses, hostIp, () => bitsFor(this.count)),
        rank,
      );
    }
  }

  #takeDevice(rank: number, kind: string, wanted: number): void {
    this.#devicesOf(kind)[rank]! -= wanted;
  }

  #devicesOf(kind: string): Float64Array {
    return obtain(this.deviceFree, kind, () => new Float64Array(this.count));
  }

  /** Most of the buckets stay empty in any fleet: each gets its words with its first node. */
  #putInBucket(rank: number, bucket: number): void {
    if (this.buckets[bucket] === EMPTY) this.buckets[bucket] = bitsFor(this.count);
    this.#bucketOf[rank] = bucket;
    setBit(this.buckets[bucket]!, rank);
    this.bucketCount[bucket]! += 1;
  }

  #bucketFor(rank: number): number {
    return Math.min(LOAD_BUCKETS - 1, Math.max(0, Math.floor(this.load(rank) * LOAD_BUCKETS)));
  }
}
