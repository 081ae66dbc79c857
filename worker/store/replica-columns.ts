/**
 * Replicas as columns: 100,000 of them as objects are over an isolate's memory. Rows keep no order; a removed row's
 * place is taken by the last one. Typed arrays double when they are full, and `table` shows them cut to length.
 */
import type { ReplicaId } from "../../shared/model/name.ts";
import type { HostPort, ReplicaTable } from "../../shared/plan/snapshot.ts";

/** What one replica spec says of what a replica of it occupies. Shared by all replicas of the spec. */
export interface SpecInfo {
  readonly hash: string;
  readonly imageReference: string;
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  readonly hostPorts: readonly HostPort[];
  readonly devices: Readonly<Record<string, number>>;
}

export interface ReplicaValues {
  readonly id: string;
  readonly appId: string;
  readonly service: string;
  readonly slot: string;
  readonly nodeId: string;
  readonly spec: SpecInfo;
  readonly revision: number;
  readonly run: boolean;
  readonly assignedMs: number;
  readonly attempt: number;
  readonly rev: number;
}

const NUMERIC = ["revision", "readySinceMs", "assignedMs", "rev"] as const;
const COUNTS = ["serviceIndex", "nodeIndex", "restarts", "attempt", "cpuMillis", "memoryMiB"] as const;
const BYTES = ["run", "state"] as const;
const LISTS = ["id", "appId", "service", "slot", "nodeId", "spec", "image", "fault", "hostPorts", "devices"] as const;

const CAPACITY_FIRST = 1_024;

export class ReplicaColumns {
  length = 0;
  readonly id: ReplicaId[] = [];
  readonly appId: string[] = [];
  readonly service: string[] = [];
  readonly slot: string[] = [];
  readonly nodeId: string[] = [];
  readonly spec: string[] = [];
  readonly image: string[] = [];
  readonly fault: string[] = [];
  readonly hostPorts: (readonly HostPort[])[] = [];
  readonly devices: Readonly<Record<string, number>>[] = [];
  revision = new Float64Array(CAPACITY_FIRST);
  readySinceMs = new Float64Array(CAPACITY_FIRST);
  assignedMs = new Float64Array(CAPACITY_FIRST);
  rev = new Float64Array(CAPACITY_FIRST);
  serviceIndex = new Int32Array(CAPACITY_FIRST);
  nodeIndex = new Int32Array(CAPACITY_FIRST);
  restarts = new Int32Array(CAPACITY_FIRST);
  attempt = new Int32Array(CAPACITY_FIRST);
  cpuMillis = new Int32Array(CAPACITY_FIRST);
  memoryMiB = new Int32Array(CAPACITY_FIRST);
  run = new Uint8Array(CAPACITY_FIRST);
  state = new Uint8Array(CAPACITY_FIRST);
  readonly #rowOf = new Map<string, number>();

  /** Row of a replica, or -1. */
  find(id: string): number {
    return this.#rowOf.get(id) ?? -1;
  }

  /** Sets a row's own values and answers its number; indexes, image and observation are the caller's to set. */
  put(values: ReplicaValues): number {
    let row = this.find(values.id);
    if (row === -1) {
      row = this.length++;
      if (row >= this.revision.length) this.#grow();
      this.#rowOf.set(values.id, row);
    }
    this.id[row] = values.id as ReplicaId;
    this.appId[row] = values.appId;
    this.service[row] = values.service;
    this.slot[row] = values.slot;
    this.nodeId[row] = values.nodeId;
    this.spec[row] = values.spec.hash;
    this.hostPorts[row] = values.spec.hostPorts;
    this.devices[row] = values.spec.devices;
    this.cpuMillis[row] = values.spec.cpuMillis;
    this.memoryMiB[row] = values.spec.memoryMiB;
    this.revision[row] = values.revision;
    this.run[row] = values.run ? 1 : 0;
    this.assignedMs[row] = values.assignedMs;
    this.attempt[row] = values.attempt;
    this.rev[row] = values.rev;
    return row;
  }

  remove(id: string): void {
    const row = this.#rowOf.get(id);
    if (row === undefined) return;
    this.#rowOf.delete(id);
    const last = --this.length;
    if (row !== last) this.#rowOf.set(this.id[last]!, row);
    for (const name of LISTS) {
      const list = this[name] as unknown[];
      const value = list.pop();
      if (row !== last) list[row] = value;
    }
    for (const name of [...NUMERIC, ...COUNTS, ...BYTES]) this[name][row] = this[name][last]!;
  }

  clear(): void {
    this.length = 0;
    this.#rowOf.clear();
    for (const name of LISTS) this[name].length = 0;
  }

  /** Views of the columns as they are now: good until the next `put` or `remove`. */
  table(): ReplicaTable {
    const { length } = this;
    return {
      length,
      id: this.id,
      service: this.serviceIndex.subarray(0, length),
      slot: this.slot,
      node: this.nodeIndex.subarray(0, length),
      spec: this.spec,
      revision: this.revision.subarray(0, length),
      image: this.image,
      run: this.run.subarray(0, length),
      state: this.state.subarray(0, length),
      readySinceMs: this.readySinceMs.subarray(0, length),
      fault: this.fault,
      restarts: this.restarts.subarray(0, length),
      assignedMs: this.assignedMs.subarray(0, length),
      attempt: this.attempt.subarray(0, length),
      cpuMillis: this.cpuMillis.subarray(0, length),
      memoryMiB: this.memoryMiB.subarray(0, length),
      hostPorts: this.hostPorts,
      devices: this.devices,
      rev: this.rev.subarray(0, length),
    };
  }

  #grow(): void {
    const capacity = this.revision.length * 2;
    for (const name of NUMERIC) this[name] = copied(this[name], new Float64Array(capacity));
    for (const name of COUNTS) this[name] = copied(this[name], new Int32Array(capacity));
    for (const name of BYTES) this[name] = copied(this[name], new Uint8Array(capacity));
  }
}

function copied<Column extends Float64Array | Int32Array | Uint8Array>(from: Column, to: Column): Column {
  to.set(from);
  return to;
}
