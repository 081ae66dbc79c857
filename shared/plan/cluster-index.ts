/** A snapshot with the lookups that planning needs, made in one pass over the rows. Nothing here decides. */
import type { AppId, NodeId } from "../model/name.ts";
import { Feasibility } from "../schedule/feasibility.ts";
import { Fleet, TERMINAL_FROM } from "../schedule/fleet.ts";
import { SeekSpace } from "../schedule/seeker.ts";
import type { ControlPlaneReturn, PlanInput } from "./change.ts";
import type { AppState, ClusterSnapshot, DeploymentState, NodeState, ServiceState } from "./snapshot.ts";

const NEVER_AWAY: ControlPlaneReturn = { atMs: Number.NEGATIVE_INFINITY, untilMs: Number.NEGATIVE_INFINITY, heard: new Set() };
/** Each node that is heard again may settle something. */
const LOOK_EVERY_MS = 2_000;

export class ClusterIndex {
  readonly snapshot: ClusterSnapshot;
  readonly nowMs: number;
  readonly apps: ReadonlyMap<AppId, AppState>;
  readonly deployments: ReadonlyMap<AppId, DeploymentState>;
  /** Revision of an app whose latest deployment failed, or scales one that did. */
  readonly failedRevisions: ReadonlyMap<AppId, number>;
  /** Indices of each app's services, in name order. */
  readonly servicesOf: ReadonlyMap<AppId, readonly number[]>;
  /** Rows whose service is gone. */
  readonly orphans: readonly number[];
  /** By snapshot index of the node: 1 where it is lost. */
  readonly lost: Uint8Array;
  /** 1 where it is ready and has said in its session what it runs. */
  readonly told: Uint8Array;
  /** 1 where its engine answers too: what it runs is known. */
  readonly settled: Uint8Array;
  readonly #rowStart: Int32Array;
  readonly #rows: Int32Array;
  readonly #volumes = new Map<string, Map<string, NodeId>>();
  /** What services of the app have bound, by slot and volume, whichever service it was. */
  #data: Map<string, NodeId> | null = null;
  readonly #appIds: ReadonlyMap<string, AppId>;
  #space: SeekSpace | null = null;
  #nodes: Map<NodeId, number> | null = null;

  readonly #returned: ControlPlaneReturn;

  constructor(snapshot: ClusterSnapshot, { nowMs, returned = NEVER_AWAY }: Pick<PlanInput, "nowMs" | "returned">) {
    const { nodes, services, replicas } = snapshot;
    this.snapshot = snapshot;
    this.nowMs = nowMs;
    this.#returned = returned;
    this.apps = new Map(snapshot.apps.map((app) => [app.id, app]));
    this.deployments = new Map(snapshot.deployments.map((deployment) => [deployment.appId, deployment]));
    this.failedRevisions = new Map(snapshot.failed.map((failed) => [failed.appId, failed.revision]));
    const servicesOf = new Map<AppId, number[]>();
    services.forEach((service, s) => {
      const list = servicesOf.get(service.appId);
      if (list) list.push(s);
      else servicesOf.set(service.appId, [s]);
    });
    for (const list of servicesOf.values()) if (list.length > 1) list.sort((a, b) => (services[a]!.name < services[b]!.name ? -1 : 1));
    this.servicesOf = servicesOf;
    this.lost = new Uint8Array(nodes.length);
    this.told = new Uint8Array(nodes.length);
    this.settled = new Uint8Array(nodes.length);
    for (let n = 0; n < nodes.length; n += 1) {
      const { status, reported, engineReachable } = nodes[n]!;
      if (status === "lost") this.lost[n] = 1;
      if (status === "ready" && reported) this.told[n] = 1;
      if (status === "ready" && reported && engineReachable) this.settled[n] = 1;
    }
    const orphans: number[] = [];
    const start = new Int32Array(services.length + 2);
    for (let r = 0; r < replicas.length; r += 1) {
      if (replicas.service[r]! < 0) orphans.push(r);
      else start[replicas.service[r]! + 2]! += 1;
    }
    for (let s = 2; s < start.length; s += 1) start[s]! += start[s - 1]!;
    this.#rows = new Int32Array(replicas.length - orphans.length);
    for (let r = 0; r < replicas.length; r += 1) if (replicas.service[r]! >= 0) this.#rows[start[replicas.service[r]! + 1]!++] = r;
    this.#rowStart = start;
    this.orphans = orphans;
    this.#appIds = new Map(snapshot.apps.map((app) => [`${app.namespace}/${app.name}`, app.id]));
    for (const { namespace, app, service, slot, volume, nodeId } of snapshot.volumes) {
      const appId = this.#appIds.get(`${namespace}/${app}`);
      if (appId === undefined) continue;
      const key = `${appId}/${service}/${slot}`;
      const bound = this.#volumes.get(key);
      if (bound) bound.set(volume, nodeId);
      else this.#volumes.set(key, new Map([[volume, nodeId]]));
    }
  }

  /** Rows of a service, in no particular order. */
  rowsOf(service: number): Int32Array {
    return this.#rows.subarray(this.#rowStart[service]!, this.#rowStart[service + 1]!);
  }

  /** Made at first use: a converged cluster needs no columns of free capacity. */
  get space(): SeekSpace {
    if (!this.#space) {
      const fleet = new Fleet(this.snapshot);
      this.#space = new SeekSpace(fleet, new Feasibility(fleet, this.snapshot));
    }
    return this.#space;
  }

  get fleet(): Fleet {
    return this.space.fleet;
  }

  /** Snapshot index, or -1: removed by the operator. */
  nodeIndex(id: NodeId): number {
    this.#nodes ??= new Map(this.snapshot.nodes.map((node, n) => [node.id, n]));
    return this.#nodes.get(id) ?? -1;
  }

  node(row: number): NodeState | null {
    const n = this.snapshot.replicas.node[row]!;
    return n < 0 ? null : this.snapshot.nodes[n]!;
  }

  rankOfRow(row: number): number {
    const n = this.snapshot.replicas.node[row]!;
    return n < 0 ? -1 : this.fleet.rankOf[n]!;
  }

  /**
   * Node that holds a slot's volumes: the first of them, in the order of the spec, that is bound; null: none yet. A slot
   * that has bound none, or on a node that was removed, finds what another service of the app, there or gone, had in the same volume at the same slot.
   */
  volumeNode(service: ServiceState, slot: string): NodeId | null {
    const { appId, planning } = service;
    const bound = this.#volumes.get(`${appId}/${service.name}/${slot}`);
    const own = planning.volumes.map(({ name }) => bound?.get(name)).find((node) => node !== undefined);
    if (own !== undefined && this.nodeIndex(own) >= 0) return own;
    this.#data ??= this.#boundByAny();
    for (const { name } of planning.volumes) {
      const node = this.#data.get(`${appId}/${slot}/${name}`);
      if (node !== undefined) return node;
    }
    return own ?? null;
  }

  /** Where services have it in several places, the first by name is followed. */
  #boundByAny(): Map<string, NodeId> {
    const data = new Map<string, NodeId>();
    for (const { namespace, app, slot, volume, nodeId } of this.snapshot.volumes.toSorted((a, b) => (a.service < b.service ? -1 : 1))) {
      const key = `${this.#appIds.get(`${namespace}/${app}`)}/${slot}/${volume}`;
      if (!data.has(key) && this.nodeIndex(nodeId) >= 0) data.set(key, nodeId);
    }
    return data;
  }

  /** A deployment runs that changed the service, and may replace what is there of it. */
  isDeploying({ appId, revision }: ServiceState): boolean {
    return this.deployments.get(appId)?.revision === revision && this.failedRevisions.get(appId) !== revision;
  }

  boundTo(service: ServiceState, slot: string, volume: string): NodeId | null {
    return this.#volumes.get(`${service.appId}/${service.name}/${slot}`)?.get(volume) ?? null;
  }

  isTerminal(row: number): boolean {
    return this.snapshot.replicas.state[row]! >= TERMINAL_FROM;
  }

  isReady(row: number): boolean {
    return !Number.isNaN(this.snapshot.replicas.readySinceMs[row]!);
  }

  /**
   * What its node last said of it is no older than it should be. Of what was assigned before the control plane was away
   * nothing is believed, but that it is over, until its node is heard again or everybody has had time to be.
   */
  isKnown(row: number): boolean {
    const { node, assignedMs } = this.snapshot.replicas;
    if (this.told[node[row]!] === 0) return false;
    if (this.isTerminal(row) || !this.isFromBefore(assignedMs[row]!)) return true;
    return this.#returned.heard.has(this.snapshot.nodes[node[row]!]!.id);
  }

  /** The control plane was away since, and its return is not over yet. */
  isFromBefore(ms: number): boolean {
    return ms < this.#returned.atMs && this.nowMs < this.#returned.untilMs;
  }

  /** When to look whether more is known than now; null: all is. */
  get moreKnownMs(): number | null {
    const { untilMs, heard } = this.#returned;
    if (this.nowMs >= untilMs || this.snapshot.nodes.every(({ id }, n) => this.lost[n] === 1 || heard.has(id))) return null;
    return Math.min(untilMs, this.nowMs + LOOK_EVERY_MS);
  }

  /** Ready by the word of an engine that answers, and that word is current. */
  isProven(row: number): boolean {
    return this.isReady(row) && this.settled[this.snapshot.replicas.node[row]!] === 1 && this.isKnown(row);
  }

  /** When it counts as healthy if nothing breaks; NaN: it is not ready. */
  healthyAtMs(row: number, service: ServiceState): number {
    return this.snapshot.replicas.readySinceMs[row]! + service.planning.minHealthyMs;
  }

  isHealthy(row: number, service: ServiceState): boolean {
    return this.isProven(row) && this.healthyAtMs(row, service) <= this.nowMs;
  }
}
