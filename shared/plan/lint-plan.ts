/**
 * Checks a plan against the snapshot it was made from, before it is committed. Written from the rules alone, without the
 * planner's own structures, so that a mistake in those does not hide itself. Every violation is a bug in the planner.
 *
 *   rows       changes name replicas, nodes and services that are there, each replica at most once
 *   target     an assignment carries what its service wants now, for a slot that it wants
 *   node       nodes that take replicas are ready, active, not quarantined, with an engine that answers, and allowed by the service's words
 *   capacity   nodes that take replicas are not over-committed
 *   port       no host port twice on a node that takes replicas
 *   slot       a second replica of a slot only by an update, never a third; never a second writer of a volume
 *   crowd      no more replicas of a service on a node than its maxPerNode
 *   volume     a slot with volumes only on the node that holds them, never where an older one of the name is to be deleted
 *   colocate   what is placed of a colocated group is on one node
 *   floor      no more slots of a service lose their last ready replica than it allows, but those that have
 *              done what is wanted of them now
 */
import { admits } from "../model/constraint.ts";
import { portsClash } from "../model/host-port.ts";
import type { NodeId } from "../model/name.ts";
import { REPLICA_STATES, TERMINAL_STATES } from "../wire/report.ts";
import { NODE_REPLICAS_MAX } from "../schedule/fleet.ts";
import { obtain } from "../schedule/obtain.ts";
import type { Change, ClusterPlan } from "./change.ts";
import type { AppState, ClusterSnapshot, HostPort, NodeState, ServiceState, SiteState } from "./snapshot.ts";

type Assign = Extract<Change, { kind: "assign" }>;
type Leave = Extract<Change, { kind: "stop" | "end" }>;

/** Sentences, each beginning with the name of the rule; none: the plan may be committed. */
export function lintPlan(snapshot: ClusterSnapshot, plan: ClusterPlan): string[] {
  if (plan.changes.length === 0) return [];
  return new Linter(snapshot, plan).run();
}

interface Load {
  replicas: number;
  cpuMillis: number;
  memoryMiB: number;
  readonly devices: Map<string, number>;
  readonly ports: HostPort[];
  /** What this plan adds. */
  addedReplicas: number;
  addedCpuMillis: number;
  addedMemoryMiB: number;
  readonly addedDevices: Set<string>;
}

/** A service with what is counted of it. Maps by parts and not by joined names: a plan of 50,000 would make 200,000 strings. */
interface Entry {
  readonly service: ServiceState;
  readonly s: number;
  /** Replicas of it on a node, once this plan changes it. */
  readonly settled: Map<NodeId, number>;
  readonly slots: Map<string, SlotState>;
}

interface SlotState {
  /** Rows of live nodes that still hold resources, and those of them that shall go on. */
  occupying: number;
  running: number;
  readyBefore: number;
  readyAfter: number;
  /** On what is wanted now. */
  hasCompleted: boolean;
  assigned: number;
  /** The first of them. */
  assign: Assign | null;
}

class Linter {
  readonly #snapshot: ClusterSnapshot;
  readonly #violations: string[] = [];
  readonly #nodes: Map<NodeId, NodeState>;
  readonly #entries: readonly Entry[];
  /** By app and name. */
  readonly #services = new Map<string, Map<string, Entry>>();
  readonly #sites: Map<string, SiteState>;
  readonly #apps: Map<string, AppState>;
  readonly #assigns: Assign[] = [];
  /** By replica id. */
  readonly #leaves = new Map<string, Leave>();
  readonly #bindings = new Map<string, NodeId>();
  /** Nodes that hold a volume's data at a slot, whichever service left it there. */
  readonly #holders = new Map<string, Set<NodeId>>();
  readonly #drops = new Set<string>();
  readonly #loads = new Map<NodeId, Load>();
  readonly #removed = new Set<string>();

  constructor(snapshot: ClusterSnapshot, plan: ClusterPlan) {
    this.#snapshot = snapshot;
    this.#nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
    this.#sites = new Map(snapshot.sites.map((site) => [site.name, site]));
    this.#apps = new Map(snapshot.apps.map((app) => [app.id, app]));
    this.#entries = snapshot.services.map((service, s) => ({ service, s, settled: new Map(), slots: new Map() }));
    for (const entry of this.#entries)
      obtain(this.#services, entry.service.appId, () => new Map<string, Entry>()).set(entry.service.name, entry);
    const appIds = new Map(snapshot.apps.map((app) => [`${app.namespace}/${app.name}`, app.id]));
    for (const { namespace, app, service, slot, volume, nodeId } of snapshot.volumes) {
      const appId = appIds.get(`${namespace}/${app}`);
      if (appId === undefined || !this.#nodes.has(nodeId)) continue;
      this.#bindings.set(`${keyOf(appId, service)}/${slot}/${volume}`, nodeId);
      obtain(this.#holders, `${appId}/${slot}/${volume}`, () => new Set<NodeId>()).add(nodeId);
    }
    for (const { nodeId, engineName } of snapshot.volumeDrops) this.#drops.add(`${nodeId}/${engineName}`);
    for (const change of plan.changes) this.#enter(change);
  }

  run(): string[] {
    this.#loadRows();
    for (const assign of this.#assigns) this.#assign(assign);
    this.#checkLoads();
    this.#checkSlots();
    this.#checkGroups();
    return this.#violations;
  }

  #say(rule: string, sentence: string): void {
    this.#violations.push(`${rule}: ${sentence}`);
  }

  #enter(change: Change): void {
    switch (change.kind) {
      case "assign":
        this.#assigns.push(change);
        break;
      case "stop":
      case "end":
        if (this.#leaves.has(change.replica)) this.#say("rows", `${change.replica} leaves twice`);
        this.#leaves.set(change.replica, change);
        break;
      case "bindVolume": {
        const key = `${keyOf(change.appId, change.service)}/${change.slot}/${change.volume}`;
        const bound = this.#bindings.get(key);
        if (bound !== undefined && bound !== change.nodeId)
          this.#say("volume", `${key} is on ${bound} and would be bound to ${change.nodeId}`);
        this.#checkHeir(change);
        this.#bindings.set(key, change.nodeId);
        break;
      }
      case "resolver":
        if (!this.#nodes.has(change.nodeId)) this.#say("rows", `resolver ${change.nodeId} is not a node`);
        break;
      case "removeService":
        this.#removed.add(keyOf(change.appId, change.service));
        break;
      case "removeApp":
        for (const { service } of this.#services.get(change.appId)?.values() ?? [])
          if (!this.#removed.has(keyOf(service.appId, service.name)))
            this.#say("rows", `app ${change.appId} is removed before its service ${service.name}`);
        break;
      case "deployment":
        if (!this.#snapshot.deployments.some((deployment) => deployment.id === change.id))
          this.#say("rows", `deployment ${change.id} is not running`);
    }
  }

  /** One pass over the rows: what stays on each node and in each slot. */
  #loadRows(): void {
    const { replicas, services, nodes } = this.#snapshot;
    const busyNodes = new Set(this.#assigns.map((assign) => assign.nodeId));
    const changed = new Set<number>();
    for (const { appId, service } of this.#assigns) changed.add(this.#entry(appId, service)?.s ?? -1);
    const leaving: number[] = [];
    for (let r = 0; r < replicas.length; r += 1) {
      if (!this.#leaves.has(replicas.id[r]!)) continue;
      leaving.push(r);
      changed.add(replicas.service[r]!);
    }
    this.#checkLeaves(leaving);
    for (let r = 0; r < replicas.length; r += 1) {
      const node = nodes[replicas.node[r]!];
      const s = replicas.service[r]!;
      const leave = this.#leaves.get(replicas.id[r]!);
      if (s >= 0 && this.#removed.has(keyOf(services[s]!.appId, services[s]!.name)) && leave?.kind !== "end")
        this.#say("rows", `${services[s]!.name} is removed while ${replicas.id[r]} is not gone`);
      const state = REPLICA_STATES[replicas.state[r]!]!;
      if (state === "completed" && leave === undefined && changed.has(s) && replicas.spec[r] === services[s]!.spec)
        slotOf(this.#entries[s]!, replicas.slot[r]!).hasCompleted = true;
      if (!node || leave?.kind === "end" || TERMINAL_STATES.has(state)) continue;
      if (busyNodes.has(node.id))
        this.#occupy(
          node.id,
          { cpuMillis: replicas.cpuMillis[r]!, memoryMiB: replicas.memoryMiB[r]!, devices: replicas.devices[r]! },
          replicas.hostPorts[r]!,
        );
      if (s < 0 || !changed.has(s)) continue;
      this.#settle(this.#entries[s]!, node);
      if (node.status === "lost") continue;
      const slot = slotOf(this.#entries[s]!, replicas.slot[r]!);
      const ready = replicas.run[r] === 1 && !Number.isNaN(replicas.readySinceMs[r]!) ? 1 : 0;
      slot.occupying += 1;
      slot.readyBefore += ready;
      if (leave || replicas.run[r] === 0) continue;
      slot.running += 1;
      slot.readyAfter += ready;
    }
  }

  #checkLeaves(rows: readonly number[]): void {
    const { replicas, nodes } = this.#snapshot;
    if (rows.length !== this.#leaves.size) this.#say("rows", `${this.#leaves.size - rows.length} replicas leave that are not there`);
    for (const r of rows) {
      const { kind, nodeId } = this.#leaves.get(replicas.id[r]!)!;
      const node = nodes[replicas.node[r]!];
      const terminal = TERMINAL_STATES.has(REPLICA_STATES[replicas.state[r]!]!);
      if ((node?.id ?? null) !== nodeId) this.#say("rows", `${replicas.id[r]} is on ${node?.id ?? "a removed node"}, not ${nodeId}`);
      if (kind === "end" && node && !terminal) this.#say("rows", `${replicas.id[r]} ends while ${node.name} may still run it`);
      if (kind === "stop" && replicas.run[r] === 0) this.#say("rows", `${replicas.id[r]} is stopped a second time`);
    }
  }

  #assign(assign: Assign): void {
    const { appId, nodeId, replica, slot } = assign;
    const found = this.#entry(appId, assign.service);
    const node = this.#nodes.get(nodeId);
    if (!found || !node) {
      this.#say("rows", `${replica} is assigned to ${node ? `service ${assign.service}` : `node ${nodeId}`}, which is not there`);
      return;
    }
    const { service } = found;
    if (!/^r_[a-z2-7]{16}$/.test(replica)) this.#say("rows", `${replica} is not an id of a replica`);
    if (service.removed || assign.spec !== service.spec || assign.revision !== service.revision)
      this.#say("target", `${replica} is not what ${service.name} wants`);
    const inRange = service.mode === "global" ? slot === nodeId : /^(0|[1-9]\d*)$/.test(slot) && Number(slot) < service.replicas;
    if (!inRange) this.#say("target", `${service.name} has no slot ${slot}`);
    const count = this.#settle(found, node);
    const { maxPerNode } = service.planning;
    if (service.mode === "replicated" && maxPerNode !== null && count > maxPerNode)
      this.#say("crowd", `${node.name} would run ${count} of ${service.name}, at most ${maxPerNode} may`);
    this.#checkNode(service, node);
    this.#checkVolumes(service, assign, node);
    this.#checkPorts(service, node);
    const state = slotOf(found, slot);
    state.assigned += 1;
    state.assign ??= assign;
    const load = this.#occupy(nodeId, service.reservation, service.planning.hostPorts);
    load.addedReplicas += 1;
    load.addedCpuMillis += service.reservation.cpuMillis;
    load.addedMemoryMiB += service.reservation.memoryMiB;
    for (const kind in service.reservation.devices) load.addedDevices.add(kind);
  }

  /** Counts one more of the service on the node. */
  #settle({ settled }: Entry, node: NodeState): number {
    const count = (settled.get(node.id) ?? 0) + 1;
    settled.set(node.id, count);
    return count;
  }

  #checkNode(service: ServiceState, node: NodeState): void {
    if (node.status !== "ready" || node.availability !== "active" || node.quarantined) {
      this.#say(
        "node",
        `${service.name} is assigned to ${node.name}, which is ${node.quarantined ? "quarantined" : `${node.status} and ${node.availability}`}`,
      );
    }
    if (node.reported && !node.engineReachable)
      this.#say("node", `${service.name} is assigned to ${node.name}, which does not reach its container engine`);
    const site = this.#sites.get(node.site);
    const attributeOf = (key: string): string | undefined => {
      if (key.startsWith("node.labels.")) return node.labels[key.slice(12)];
      if (key.startsWith("node.declared.")) return node.declared[key.slice(14)];
      if (key.startsWith("site.labels.")) return site?.labels[key.slice(12)];
      return key === "node.os" ? "linux" : node[key.slice(5) as "name" | "id" | "site" | "arch" | "hostname"];
    };
    for (const constraint of service.planning.constraints)
      if (!admits(constraint, attributeOf(constraint.key)))
        this.#say("node", `${node.name} does not satisfy ${service.name}'s constraint on ${constraint.key}`);
    for (const taint of node.taints) {
      const tolerated = service.planning.tolerations.some(
        (toleration) => toleration.key === taint.key && (toleration.value === undefined || toleration.value === taint.value),
      );
      if (!tolerated) this.#say("node", `${service.name} does not tolerate ${taint.key} of ${node.name}`);
    }
  }

  /** Only what is added now: rows that clash already are not this plan's doing. */
  #checkPorts(service: ServiceState, node: NodeState): void {
    const taken = this.#loads.get(node.id)?.ports ?? [];
    for (const wanted of service.planning.hostPorts)
      if (taken.some((other) => portsClash(other, wanted)))
        this.#say("port", `${node.name} would have host port ${wanted.port}/${wanted.protocol} twice`);
  }

  #checkVolumes(service: ServiceState, { appId, slot, nodeId }: Assign, node: NodeState): void {
    for (const { name, engineName } of service.planning.volumes) {
      if (this.#drops.has(`${nodeId}/${engineName}`))
        this.#say("volume", `${service.name} slot ${slot} is assigned to ${node.name}, which has yet to delete ${engineName}`);
      const bound = this.#bindings.get(`${keyOf(appId, service.name)}/${slot}/${name}`);
      if (bound !== nodeId)
        this.#say(
          "volume",
          `${service.name} slot ${slot} is assigned to ${node.name}, its volume ${name} is ${bound === undefined ? "bound nowhere" : `on ${bound}`}`,
        );
    }
  }

  /** A slot that has bound nothing yet begins where the data of one of its volumes is, if there is any. */
  #checkHeir({ appId, service, slot, nodeId }: Extract<Change, { kind: "bindVolume" }>): void {
    const volumes = this.#services.get(appId)?.get(service)?.service.planning.volumes ?? [];
    if (volumes.some(({ name }) => this.#bindings.has(`${keyOf(appId, service)}/${slot}/${name}`))) return;
    const holders = volumes.flatMap(({ name }) => [...(this.#holders.get(`${appId}/${slot}/${name}`) ?? [])]);
    if (holders.length > 0 && !holders.includes(nodeId))
      this.#say("volume", `${service} slot ${slot} begins on ${nodeId}, and its data is on ${holders.join(" and ")}`);
  }

  #occupy(nodeId: NodeId, { cpuMillis, memoryMiB, devices }: ServiceState["reservation"], ports: readonly HostPort[]): Load {
    const load = obtain(this.#loads, nodeId, emptyLoad);
    load.replicas += 1;
    load.cpuMillis += cpuMillis;
    load.memoryMiB += memoryMiB;
    for (const kind in devices) load.devices.set(kind, (load.devices.get(kind) ?? 0) + devices[kind]!);
    load.ports.push(...ports);
    return load;
  }

  #checkLoads(): void {
    // What was over-committed before (a node that shrank) is not this plan's doing, unless it adds to it.
    for (const [nodeId, load] of this.#loads) {
      const node = this.#nodes.get(nodeId);
      if (!node) continue;
      if (load.addedCpuMillis > 0 && load.cpuMillis > node.cpuMillis)
        this.#say("capacity", `${node.name} would set aside ${load.cpuMillis} of ${node.cpuMillis} millicores`);
      if (load.addedMemoryMiB > 0 && load.memoryMiB > node.memoryMiB)
        this.#say("capacity", `${node.name} would set aside ${load.memoryMiB} of ${node.memoryMiB} MiB`);
      if (load.addedReplicas > 0 && load.replicas > NODE_REPLICAS_MAX)
        this.#say("capacity", `${node.name} would be given ${load.replicas} replicas, at most ${NODE_REPLICAS_MAX} are`);
      for (const kind of load.addedDevices)
        if (load.devices.get(kind)! > (node.devices[kind] ?? 0))
          this.#say("capacity", `${node.name} would set aside ${load.devices.get(kind)} of ${node.devices[kind] ?? 0} ${kind}`);
    }
  }

  #checkSlots(): void {
    for (const entry of this.#entries) {
      const { service } = entry;
      let lost = 0;
      for (const [slot, state] of entry.slots) {
        this.#checkSlot(service, slot, state);
        const darkens = state.readyBefore > 0 && state.readyAfter === 0 && !state.hasCompleted;
        if (darkens && !service.removed && this.#isWanted(service, slot)) lost += 1;
      }
      const most = service.planning.maxUnavailable ?? service.planning.parallelism;
      if (lost > most) this.#say("floor", `${lost} slots of ${service.name} would lose their last ready replica, at most ${most} may`);
    }
  }

  #checkSlot(service: ServiceState, slot: string, { assigned, assign, running, occupying }: SlotState): void {
    if (!assign) return;
    const where = () => `${service.name} slot ${slot}`;
    if (assigned > 1) this.#say("slot", `${where()} is assigned ${assigned} times`);
    if (running > 0 && assign.reason !== "update" && assign.reason !== "constraint")
      this.#say("slot", `${where()} is served and gets another replica (${assign.reason})`);
    if (occupying >= 2) this.#say("slot", `${where()} would have ${occupying + 1} replicas`);
    if (occupying > 0 && service.planning.volumes.some((volume) => !volume.readOnly))
      this.#say("slot", `${where()} would have two writers of its volume`);
  }

  #isWanted(service: ServiceState, slot: string): boolean {
    const app = this.#apps.get(service.appId);
    if (!app || app.deleting) return false;
    // Which nodes a global service wants is the planner's to say; its stops are one a node.
    return service.mode === "replicated" && Number(slot) < service.replicas;
  }

  #checkGroups(): void {
    if (!this.#snapshot.services.some(({ planning }) => planning.colocate)) return;
    const homes = new Map<string, NodeId>();
    for (const { appId, service: name, slot, nodeId } of this.#assigns) {
      const service = this.#entry(appId, name)?.service;
      if (!service?.planning.colocate || service.planning.volumes.length > 0) continue;
      const home = obtain(homes, appId, () => nodeId);
      if (home !== nodeId) this.#say("colocate", `${name} slot ${slot} is assigned to ${nodeId}, others of its group to ${home}`);
    }
  }

  #entry(appId: string, service: string): Entry | undefined {
    return this.#services.get(appId)?.get(service);
  }
}

const emptyLoad = (): Load => ({
  replicas: 0,
  cpuMillis: 0,
  memoryMiB: 0,
  devices: new Map(),
  ports: [],
  addedReplicas: 0,
  addedCpuMillis: 0,
  addedMemoryMiB: 0,
  addedDevices: new Set(),
});

const emptySlot = (): SlotState => ({
  occupying: 0,
  running: 0,
  readyBefore: 0,
  readyAfter: 0,
  hasCompleted: false,
  assigned: 0,
  assign: null,
});

const slotOf = ({ slots }: Entry, slot: string): SlotState => obtain(slots, slot, emptySlot);

const keyOf = (appId: string, service: string) => `${appId}/${service}`;
