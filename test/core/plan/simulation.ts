/**
 * A toy cluster in virtual time: applies plans to a World, and agents that start, crash, refuse and stop replicas as told.
 * After every step the invariants that hold at all times are checked, so that a scenario only states what it is about.
 */
import { expect } from "vitest";
import type { AppId, DeploymentId } from "../../../shared/model/name.ts";
import type { Change, ClusterPlan } from "../../../shared/plan/change.ts";
import { lintPlan } from "../../../shared/plan/lint-plan.ts";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import type { ServicePlanning, ServiceState } from "../../../shared/plan/snapshot.ts";
import { TERMINAL_STATES } from "../../../shared/wire/report.ts";
import { idOf, type ReplicaRow, type World, UNTOUCHED } from "./world.ts";

/** What replicas of a spec do once started. Default: ready after START_TIME_MS. */
export type Behaviour = "ready" | "crash" | "fail" | "complete" | "reject" | "noImage" | "neverReady";

const STEP_MS = 1000;
const START_TIME_MS = 3000;
const STOP_TIME_MS = 2000;

export class Simulation {
  readonly world: World;
  readonly behaviours = new Map<string, Behaviour>();
  /** `n1`, or `n1/web` for one service there. */
  readonly rejectingNodes = new Set<string>();
  /** Nodes whose agent cannot be heard. Containers there go on. */
  readonly dark = new Set<string>();
  readonly outcomes: Extract<Change, { kind: "deployment" }>[] = [];
  readonly log: Change[] = [];
  lastPlan: ClusterPlan | null = null;
  /** Slots of each service that were ready at the worst moment of the last `run`. */
  readonly floor = new Map<string, number>();
  readonly #stopping = new Map<string, number>();
  /** Rows that were on a lost node: several may come back at once. */
  readonly #returned = new Set<string>();
  readonly #started = new Map<string, number>();
  /** Services as they were when a deployment of their app last succeeded, by app. */
  readonly #good = new Map<AppId, ReadonlyMap<string, ServiceState>>();
  #plans = 0;

  constructor(world: World) {
    this.world = world;
  }

  /** A new revision of the app: services named take the change. See `revise` for what a scale does after a failure. */
  deploy(
    app: string,
    changes: Record<string, Partial<Omit<ServiceState, "planning">> & { planning?: Partial<ServicePlanning> }>,
    options: { kind?: "deploy" | "scale" | "rollback" } = {},
  ): this {
    const state = this.world.apps.find((candidate) => candidate.name === app)!;
    const revision = state.revision + 1;
    this.world.apps = this.world.apps.map((candidate) => (candidate === state ? { ...state, revision } : candidate));
    const isHalted = options.kind === "scale" && this.isHalted(state.id);
    for (const [name, change] of Object.entries(changes)) {
      const service = this.world.serviceOf(name);
      const good = isHalted ? this.#good.get(state.id)?.get(name) : undefined;
      const isReplaced = good === undefined ? change.spec !== undefined : good.spec !== service.spec;
      this.world.changeService(name, { ...good, ...change, revision: isReplaced ? revision : service.revision });
    }
    this.world.failed = this.world.failed.filter((failed) => failed.appId !== state.id);
    if (isHalted) this.world.failed.push({ appId: state.id, revision });
    const running = this.world.deployments.find((deployment) => deployment.appId === state.id);
    this.world.deployments = this.world.deployments.filter((deployment) => deployment !== running);
    this.world.deployments.push({
      id: idOf("d", `${app}/${revision}`) as DeploymentId,
      appId: state.id,
      revision,
      fromRevision: running !== undefined ? running.fromRevision : state.revision,
      kind: options.kind ?? "deploy",
      startedMs: options.kind === "scale" && running !== undefined ? running.startedMs : this.world.nowMs,
      ...UNTOUCHED,
      rev: 1,
    });
    return this;
  }

  /** Its last deployment failed, or only scales what did. */
  isHalted(app: AppId): boolean {
    return this.world.failed.some((failed) => failed.appId === app);
  }

  /** The node's agent falls silent. */
  lose(name: string, status: "unreachable" | "lost" = "lost"): this {
    this.dark.add(name);
    if (status === "lost") for (const row of this.world.replicas) if (this.#nameOf(row) === name) this.#returned.add(row.id);
    this.world.changeNode(name, { status, reported: false });
    return this;
  }

  /** A new session; `reported` follows with the first complete report. */
  comeBack(name: string): this {
    this.dark.delete(name);
    this.world.changeNode(name, { status: "ready", reported: false });
    return this;
  }

  report(name: string): this {
    this.world.changeNode(name, { reported: true });
    return this;
  }

  plan(): ClusterPlan {
    this.#plans += 1;
    const snapshot = this.world.snapshot();
    const plan = planCluster(snapshot, { nowMs: this.world.nowMs, idSeed: `seed${this.#plans}` });
    expect(lintPlan(snapshot, plan)).toEqual([]);
    return plan;
  }

  /** Plans, applies, lets the agents act for a second. */
  step(): ClusterPlan {
    const plan = this.plan();
    this.lastPlan = plan;
    for (const change of plan.changes) this.#apply(change);
    this.world.rev += 1;
    this.checkAlways();
    this.#agents();
    this.world.nowMs += STEP_MS;
    for (const service of this.world.services)
      this.floor.set(service.name, Math.min(this.floor.get(service.name) ?? Number.POSITIVE_INFINITY, this.readySlots(service.name)));
    return plan;
  }

  run(seconds: number): this {
    this.floor.clear();
    for (let i = 0; i < seconds; i += 1) this.step();
    return this;
  }

  /** Until two plans in a row change nothing and wake nobody; fails when that takes over an hour. */
  settle(): this {
    this.floor.clear();
    let quiet = 0;
    for (let i = 0; i < 3600; i += 1) {
      const plan = this.step();
      quiet = plan.changes.length === 0 && plan.wakeAtMs === null && !this.#busy() ? quiet + 1 : 0;
      if (quiet === 2) return this;
    }
    throw new Error(`not settled after an hour: ${JSON.stringify(this.lastPlan, null, 1)}`);
  }

  rows(service: string): ReplicaRow[] {
    return this.world.replicas.filter((row) => row.service === service);
  }

  nodesOf(service: string): string[] {
    return this.rows(service)
      .map((row) => this.world.nodeRows.find((node) => node.id === row.nodeId)?.name ?? "removed")
      .sort();
  }

  readySlots(service: string): number {
    return new Set(this.rows(service).flatMap((row) => (row.run && row.readySinceMs !== null && !this.#isDark(row) ? [row.slot] : [])))
      .size;
  }

  changesOf<Kind extends Change["kind"]>(kind: Kind): Extract<Change, { kind: Kind }>[] {
    return this.log.filter((change): change is Extract<Change, { kind: Kind }> => change.kind === kind);
  }

  checkAlways(): void {
    for (const node of this.world.nodeRows) {
      const rows = this.world.replicas.filter((row) => row.nodeId === node.id && !TERMINAL_STATES.has(row.state));
      expect(
        rows.reduce((sum, row) => sum + row.cpuMillis, 0),
        `cpu of ${node.name}`,
      ).toBeLessThanOrEqual(node.cpuMillis);
      expect(
        rows.reduce((sum, row) => sum + row.memoryMiB, 0),
        `memory of ${node.name}`,
      ).toBeLessThanOrEqual(node.memoryMiB);
      const ports = rows.flatMap((row) => row.hostPorts.map((port) => `${port.port}/${port.protocol}`));
      expect(new Set(ports).size, `host ports of ${node.name}`).toBe(ports.length);
    }
    const bySlot = Map.groupBy(
      this.world.replicas.filter((row) => !this.#isDark(row) && !this.#returned.has(row.id) && !TERMINAL_STATES.has(row.state)),
      (row) => `${row.appId}/${row.service}/${row.slot}`,
    );
    for (const [slot, rows] of bySlot) expect(rows.length, `replicas of ${slot}`).toBeLessThanOrEqual(2);
    for (const bound of this.world.volumes) {
      if (!this.world.nodeRows.some((node) => node.id === bound.nodeId)) continue;
      for (const row of this.rows(bound.service))
        if (this.world.appOf(row.appId).name === bound.app && row.slot === bound.slot && row.run)
          expect(row.nodeId, `node of ${bound.service} slot ${bound.slot}`).toBe(bound.nodeId);
    }
  }

  #isDark(row: ReplicaRow): boolean {
    const node = this.world.nodeRows.find((candidate) => candidate.id === row.nodeId);
    return node === undefined || node.status === "lost";
  }

  #busy(): boolean {
    return this.world.replicas.some(
      (row) => !this.dark.has(this.#nameOf(row)) && !TERMINAL_STATES.has(row.state) && (row.run ? row.state !== "running" : true),
    );
  }

  #nameOf(row: ReplicaRow): string {
    return this.world.nodeRows.find((node) => node.id === row.nodeId)?.name ?? "";
  }

  #apply(change: Change): void {
    this.log.push(change);
    const { world } = this;
    switch (change.kind) {
      case "assign": {
        const service = world.services.find((candidate) => candidate.appId === change.appId && candidate.name === change.service)!;
        const { cpuMillis, memoryMiB, devices } = service.reservation;
        const { replica, appId, slot, spec, revision, attempt } = change;
        world.replicas.push({
          id: replica,
          appId,
          service: change.service,
          slot,
          nodeId: change.nodeId,
          spec,
          revision,
          attempt,
          image: service.image,
          run: true,
          state: "assigned",
          readySinceMs: null,
          fault: "",
          restarts: 0,
          assignedMs: world.nowMs,
          cpuMillis,
          memoryMiB,
          devices,
          hostPorts: service.planning.hostPorts,
        });
        break;
      }
      case "stop":
        world.replicas = world.replicas.map((row) => (row.id === change.replica ? { ...row, run: false } : row));
        break;
      case "end":
        world.replicas = world.replicas.filter((row) => row.id !== change.replica);
        break;
      case "bindVolume": {
        const { namespace, name: app } = world.appOf(change.appId);
        world.volumes = world.volumes.filter(
          (bound) =>
            !(bound.app === app && bound.service === change.service && bound.slot === change.slot && bound.volume === change.volume),
        );
        world.volumes.push({
          namespace,
          app,
          service: change.service,
          slot: change.slot,
          volume: change.volume,
          nodeId: change.nodeId,
        });
        break;
      }
      case "resolver":
        world.services = world.services.map((service) =>
          service.appId === change.appId && service.planning.imageReference === change.reference
            ? { ...service, resolver: change.nodeId }
            : service,
        );
        break;
      case "removeService":
        world.services = world.services.filter((service) => !(service.appId === change.appId && service.name === change.service));
        break;
      case "removeApp":
        world.apps = world.apps.filter((app) => app.id !== change.appId);
        break;
      case "canaries":
        world.deployments = world.deployments.map((deployment) =>
          deployment.id === change.id ? { ...deployment, canariesHealthy: change.areHealthy } : deployment,
        );
        break;
      case "deployment":
        this.outcomes.push(change);
        world.deployments = world.deployments.filter((deployment) => deployment.id !== change.id);
        if (change.state === "succeeded" && !this.isHalted(change.appId))
          this.#good.set(
            change.appId,
            new Map(world.services.filter(({ appId }) => appId === change.appId).map((service) => [service.name, service])),
          );
        if (change.state === "failed" && !this.isHalted(change.appId))
          world.failed.push({ appId: change.appId as AppId, revision: world.apps.find((app) => app.id === change.appId)!.revision });
    }
  }

  #agents(): void {
    const { world } = this;
    const present = new Set(world.nodeRows.map((node) => node.id));
    world.replicas = world.replicas.flatMap((row) => {
      if (!present.has(row.nodeId) || this.dark.has(this.#nameOf(row))) return [row];
      if (!row.run) {
        const since = this.#stopping.get(row.id) ?? world.nowMs;
        this.#stopping.set(row.id, since);
        return world.nowMs - since >= STOP_TIME_MS ? [] : [{ ...row, state: "stopping", readySinceMs: null }];
      }
      return [this.#runs(row)];
    });
    for (const service of world.services) {
      if (service.resolver === null || service.image !== "") continue;
      world.changeService(service.name, { image: `sha256:${service.revision}` });
      world.replicas = world.replicas.map((row) =>
        row.service === service.name && row.revision === service.revision ? { ...row, image: `sha256:${service.revision}` } : row,
      );
    }
  }

  #runs(row: ReplicaRow): ReplicaRow {
    if (row.state !== "assigned" && row.state !== "starting") return row;
    const { nowMs } = this.world;
    const node = this.#nameOf(row);
    const rejects = this.rejectingNodes.has(node) || this.rejectingNodes.has(`${node}/${row.service}`);
    const behaviour = rejects ? "reject" : (this.behaviours.get(row.spec) ?? "ready");
    if (behaviour === "noImage") return { ...row, state: "preparing", fault: "there is no image web:9" };
    if (behaviour === "reject") return { ...row, state: "rejected" };
    const since = this.#started.get(row.id) ?? nowMs;
    this.#started.set(row.id, since);
    if (nowMs - since < START_TIME_MS) return { ...row, state: "starting" };
    if (behaviour === "ready") return { ...row, state: "running", readySinceMs: nowMs };
    if (behaviour === "fail") return { ...row, state: "failed" };
    if (behaviour === "complete") return { ...row, state: "completed" };
    return { ...row, state: "starting", restarts: row.restarts + (behaviour === "crash" ? 1 : 0) };
  }
}
