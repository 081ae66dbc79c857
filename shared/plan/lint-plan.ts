/**
 * Checks a plan against the snapshot it was made from, before it is committed. Written from the rules alone, without the
 * planner's own structures, so that a mistake in those does not hide itself. Every violation is a bug in the planner.
 *
 *   rows       changes name replicas, nodes and services that are there, each replica at most once
 *   target     an assignment carries what its service wants now, for a slot that it wants
 *   node       nodes that take replicas are ready, active, not quarantined and allowed by the service's words
 *   capacity   nodes that take replicas are not over-committed
 *   port       no host port twice on a node that takes replicas
 *   slot       a second replica of a slot only by an update, never a third; never a second writer of a volume
 *   crowd      no more replicas of a service on a node than its maxPerNode
 *   volume     a slot with volumes only on the node that holds them
 *   colocate   what is placed of a colocated group is on one node
 *   floor      no more slots of a service lose their last ready replica than its parallelism allows
 */
import { admits } from "../model/constraint.ts";
import type { NodeId } from "../model/name.ts";
import { REPLICA_STATES, TERMINAL_STATES } from "../wire/report.ts";
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
  cpuMillis: number;
  memoryMiB: number;
  readonly devices: Map<string, number>;
  readonly ports: HostPort[];
}

interface SlotState {
  /** Rows of live nodes that still hold resources, and those of them that shall go on. */
  occupying: number;
  running: number;
  readyBefore: number;
  readyAfter: number;
  assigned: Assign[];
}

class Linter {
  readonly #snapshot: ClusterSnapshot;
  readonly #violations: string[] = [];
  readonly #nodes: Map<NodeId, NodeState>;
  readonly #services: Map<string, { service: ServiceState; s: number }>;
  readonly #sites: Map<string, SiteState>;
  readonly #apps: Map<string, AppState>;
  readonly #assigns: Assign[] = [];
  /** By replica id. */
  readonly #leaves = new Map<string, Leave>();
  readonly #bindings = new Map<string, NodeId>();
  readonly #slots = new Map<string, SlotState>();
  readonly #loads = new Map<NodeId, Load>();
  /** Replicas of a service on a node, for services that this plan changes. */
  readonly #perNode = new Map<string, number>();
  readonly #removed = new Set<string>();

  constructor(snapshot: ClusterSnapshot, plan: ClusterPlan) {
    this.#snapshot = snapshot;
    this.#nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
    this.#sites = new Map(snapshot.sites.map((site) => [site.name, site]));
    this.#apps = new Map(snapshot.apps.map((app) => [app.id, app]));
    this.#services = new Map(snapshot.services.map((service, s) => [keyOf(service.appId, service.name), { service, s }]));
    for (const { appId, service, slot, volume, nodeId } of snapshot.volumes)
      if (this.#nodes.has(nodeId)) this.#bindings.set(`${keyOf(appId, service)}/${slot}/${volume}`, nodeId);
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
        for (const { service } of this.#services.values())
          if (service.appId === change.appId && !this.#removed.has(keyOf(service.appId, service.name)))
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
    for (const { appId, service } of this.#assigns) changed.add(this.#services.get(keyOf(appId, service))?.s ?? -1);
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
      if (!node || leave?.kind === "end" || TERMINAL_STATES.has(REPLICA_STATES[replicas.state[r]!]!)) continue;
      if (busyNodes.has(node.id))
        this.#occupy(
          node.id,
          { cpuMillis: replicas.cpuMillis[r]!, memoryMiB: replicas.memoryMiB[r]!, devices: replicas.devices[r]! },
          replicas.hostPorts[r]!,
        );
      if (s < 0 || !changed.has(s)) continue;
      this.#settle(services[s]!, node);
      if (node.status === "lost") continue;
      const slot = this.#slot(services[s]!, replicas.slot[r]!);
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
    const found = this.#services.get(keyOf(appId, assign.service));
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
    const count = this.#settle(service, node);
    const { maxPerNode } = service.planning;
    if (service.mode === "replicated" && maxPerNode !== null && count > maxPerNode)
      this.#say("crowd", `${node.name} would run ${count} of ${service.name}, at most ${maxPerNode} may`);
    this.#checkNode(service, node);
    this.#checkVolumes(service, assign, node);
    this.#checkPorts(service, node);
    this.#slot(service, slot).assigned.push(assign);
    this.#occupy(nodeId, service.reservation, service.planning.hostPorts);
  }

  /** Counts one more of the service on the node. */
  #settle(service: ServiceState, node: NodeState): number {
    const key = `${keyOf(service.appId, service.name)}/${node.id}`;
    const count = (this.#perNode.get(key) ?? 0) + 1;
    this.#perNode.set(key, count);
    return count;
  }

  #checkNode(service: ServiceState, node: NodeState): void {
    if (node.status !== "ready" || node.availability !== "active" || node.quarantined) {
      this.#say(
        "node",
        `${service.name} is assigned to ${node.name}, which is ${node.quarantined ? "quarantined" : `${node.status} and ${node.availability}`}`,
      );
    }
    const site = this.#sites.get(node.site);
    const attributeOf = (key: string): string | undefined => {
      if (key.startsWith("node.labels.")) return node.labels[key.slice(12)];
      if (key.startsWith("site.labels.")) return site?.labels[key.slice(12)];
      return node[key.slice(5) as "name" | "id" | "site" | "arch" | "os" | "hostname"];
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
    for (const { port, protocol, hostIp } of service.planning.hostPorts) {
      const clash = taken.some(
        (other) => other.port === port && other.protocol === protocol && (other.hostIp === "" || hostIp === "" || other.hostIp === hostIp),
      );
      if (clash) this.#say("port", `${node.name} would have host port ${port}/${protocol} twice`);
    }
  }

  #checkVolumes(service: ServiceState, { appId, slot, nodeId }: Assign, node: NodeState): void {
    for (const { name } of service.planning.volumes) {
      const bound = this.#bindings.get(`${keyOf(appId, service.name)}/${slot}/${name}`);
      if (bound !== nodeId)
        this.#say(
          "volume",
          `${service.name} slot ${slot} is assigned to ${node.name}, its volume ${name} is ${bound === undefined ? "bound nowhere" : `on ${bound}`}`,
        );
    }
  }

  #occupy(nodeId: NodeId, { cpuMillis, memoryMiB, devices }: ServiceState["reservation"], ports: readonly HostPort[]): void {
    const load = obtain(this.#loads, nodeId, (): Load => ({ cpuMillis: 0, memoryMiB: 0, devices: new Map(), ports: [] }));
    load.cpuMillis += cpuMillis;
    load.memoryMiB += memoryMiB;
    for (const kind in devices) load.devices.set(kind, (load.devices.get(kind) ?? 0) + devices[kind]!);
    load.ports.push(...ports);
  }

  #checkLoads(): void {
    const demands = new Map<NodeId, { cpuMillis: number; memoryMiB: number; devices: Set<string> }>();
    for (const { appId, service, nodeId } of this.#assigns) {
      const found = this.#services.get(keyOf(appId, service))?.service;
      if (!found) continue;
      const demand = obtain(demands, nodeId, () => ({ cpuMillis: 0, memoryMiB: 0, devices: new Set<string>() }));
      demand.cpuMillis += found.reservation.cpuMillis;
      demand.memoryMiB += found.reservation.memoryMiB;
      for (const kind in found.reservation.devices) demand.devices.add(kind);
    }
    // What was over-committed before (a node that shrank) is not this plan's doing, unless it adds to it.
    for (const [nodeId, demand] of demands) {
      const node = this.#nodes.get(nodeId);
      const load = this.#loads.get(nodeId);
      if (!node || !load) continue;
      if (demand.cpuMillis > 0 && load.cpuMillis > node.cpuMillis)
        this.#say("capacity", `${node.name} would set aside ${load.cpuMillis} of ${node.cpuMillis} millicores`);
      if (demand.memoryMiB > 0 && load.memoryMiB > node.memoryMiB)
        this.#say("capacity", `${node.name} would set aside ${load.memoryMiB} of ${node.memoryMiB} MiB`);
      for (const kind of demand.devices)
        if (load.devices.get(kind)! > (node.devices[kind] ?? 0))
          this.#say("capacity", `${node.name} would set aside ${load.devices.get(kind)} of ${node.devices[kind] ?? 0} ${kind}`);
    }
  }

  #checkSlots(): void {
    const lost = new Map<string, number>();
    for (const [key, slot] of this.#slots) {
      const at = key.lastIndexOf("/");
      const name = key.slice(0, at);
      const { service } = this.#services.get(name)!;
      const where = `${service.name} slot ${key.slice(at + 1)}`;
      if (slot.assigned.length > 1) this.#say("slot", `${where} is assigned ${slot.assigned.length} times`);
      const assign = slot.assigned[0];
      if (assign) {
        if (slot.running > 0 && assign.reason !== "update" && assign.reason !== "constraint")
          this.#say("slot", `${where} is served and gets another replica (${assign.reason})`);
        if (slot.occupying >= 2) this.#say("slot", `${where} would have ${slot.occupying + 1} replicas`);
        if (slot.occupying > 0 && service.planning.volumes.some((volume) => !volume.readOnly))
          this.#say("slot", `${where} would have two writers of its volume`);
      }
      const darkens = slot.readyBefore > 0 && slot.readyAfter === 0;
      if (darkens && !service.removed && this.#isWanted(service, key.slice(at + 1))) lost.set(name, (lost.get(name) ?? 0) + 1);
    }
    for (const [name, count] of lost) {
      const { service } = this.#services.get(name)!;
      if (count > service.planning.parallelism)
        this.#say(
          "floor",
          `${count} slots of ${service.name} would lose their last ready replica, at most ${service.planning.parallelism} may`,
        );
    }
  }

  #isWanted(service: ServiceState, slot: string): boolean {
    const app = this.#apps.get(service.appId);
    if (!app || app.deleting) return false;
    // Which nodes a global service wants is the planner's to say; its stops are one a node.
    return service.mode === "replicated" && Number(slot) < service.replicas;
  }

  #checkGroups(): void {
    const homes = new Map<string, NodeId>();
    for (const { appId, service: name, slot, nodeId } of this.#assigns) {
      const service = this.#services.get(keyOf(appId, name))?.service;
      if (!service?.planning.colocate || service.planning.volumes.length > 0) continue;
      const home = obtain(homes, appId, () => nodeId);
      if (home !== nodeId) this.#say("colocate", `${name} slot ${slot} is assigned to ${nodeId}, others of its group to ${home}`);
    }
  }

  #slot(service: ServiceState, slot: string): SlotState {
    return obtain(this.#slots, `${keyOf(service.appId, service.name)}/${slot}`, () => ({
      occupying: 0,
      running: 0,
      readyBefore: 0,
      readyAfter: 0,
      assigned: [],
    }));
  }
}

const keyOf = (appId: string, service: string) => `${appId}/${service}`;
