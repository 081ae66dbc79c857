/**
 * How slots change over: what serves is not given up before its successor serves, no more slots than a service's
 * parallelism change over at once, what another service needs comes first, and a failure is rolled back once.
 */
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { Findings } from "./findings.ts";
import type { Health } from "./health.ts";
import type { Placement } from "./placement.ts";
import { type Batch, type DeploymentRow, keyOf, type ReplicaRow, type Rows, type ServiceRow } from "./rows.ts";

interface Planning {
  readonly parallelism: number;
  readonly order: "auto" | "start-first" | "stop-first";
  readonly dependsOn: readonly { readonly service: string; readonly condition: "started" | "healthy"; readonly required: boolean }[];
}

/** Reasons of a plan that carries a rollout out. */
const UPDATES: ReadonlySet<string> = new Set(["update", "constraint"]);
/** What happens to a container is known to whoever plans so much later, where the link and the engine are well. */
const NEWS_TAKE_MS = 10_000;
/** Reasons that a service that waits for another is not given before. */
const GATED: ReadonlySet<string> = new Set(["initial", "update"]);

export class Rollouts {
  readonly #rows: Rows;
  readonly #findings: Findings;
  readonly #health: Health;
  readonly #placement: Placement;
  /** Slots of each service that have begun to change over and whose successor has not served yet: the deployment that began it. */
  readonly #changing = new Map<string, Map<string, string>>();
  /** Nodes that came back from being lost and have not said since what they run, and since when. */
  readonly #unheard = new Map<string, number>();
  /** When each node last ceased to be lost. */
  readonly #returnedMs = new Map<string, number>();
  /** Slots and specs of which a replica that has ended had served or done its work. */
  readonly #served = new Set<string>();
  /** Slots that a deployment has begun to fill: what it waited for was there then. */
  readonly #begun = new Set<string>();

  constructor(parts: { readonly rows: Rows; readonly findings: Findings; readonly health: Health; readonly placement: Placement }) {
    this.#rows = parts.rows;
    this.#findings = parts.findings;
    this.#health = parts.health;
    this.#placement = parts.placement;
  }

  check(batch: Batch): void {
    this.#returns(batch);
    for (const { before, after } of batch.of("replicas")) {
      if (before === null && after !== null) this.#placed(batch, after);
      if (before?.desired === "run" && after?.desired === "stop") this.#stopped(batch, after);
      if (before !== null && after === null) this.#gone(batch, before);
    }
    for (const { before, after } of batch.of("deployments")) {
      if (before === null && after !== null) this.#begins(after);
      if (before?.state === "running" && after !== null && after.state !== "running") this.#ends(after);
    }
    this.#breadth(batch);
  }

  #returns(batch: Batch): void {
    for (const { key, before, after } of batch.of("nodes")) {
      if (before?.status !== "lost" || after === null || after.status === "lost") continue;
      this.#unheard.set(key, this.#findings.nowMs);
      this.#returnedMs.set(key, this.#findings.nowMs);
    }
    for (const { after } of batch.of("node_reports")) {
      if (after === null || after.complete !== 1) continue;
      if (this.#rows.get("nodes", after.node_id)?.session === after.session) this.#unheard.delete(after.node_id);
    }
  }

  #placed(batch: Batch, row: ReplicaRow): void {
    const slot = this.#slotOf(row).filter((other) => other.id !== row.id && other.desired === "run");
    if (row.reason === "nodeLost") {
      const isDark = ({ node_id }: ReplicaRow) =>
        this.#rows.get("nodes", node_id)?.status === "lost" || (this.#returnedMs.get(node_id) ?? -1) >= batch.askedMs;
      this.#findings.expect("I24", slot.some(isDark), () => `slot ${row.service}/${row.slot} was placed again, and no node of it is lost`);
    }
    this.#gate(row);
    const serves = slot.some((other) => !this.#placement.isTerminal(other.id) && !this.#isDark(other));
    if (UPDATES.has(row.reason) && serves) this.#began(row);
  }

  #gone(batch: Batch, { id, app_id, service, slot, spec }: ReplicaRow): void {
    const last = batch.of("observations").find(({ key }) => key === id)?.before?.state;
    if (last === "completed" || this.#health.hasBeenHealthy(id)) this.#served.add(servedKey(app_id, service, slot, spec));
  }

  #stopped(batch: Batch, row: ReplicaRow): void {
    const others = this.#slotOf(row).filter((other) => other.id !== row.id && other.desired === "run");
    if (row.reason === "nodeReturned") this.#chosen(batch, row, others);
    if (!UPDATES.has(row.reason)) return;
    const service = this.#serviceOf(row);
    if (service === undefined || !isWanted(service, row.slot)) return;
    // Who may stop first may do so beside one on a lost node: that is nobody's successor yet.
    const mayStopFirst = planningOf(service).order !== "start-first";
    const successors = others.filter(
      (other) => other.spec === service.spec && row.spec !== service.spec && !(mayStopFirst && this.#isDark(other)),
    );
    const isReplaced = successors.some((other) => this.#health.hasBeenHealthy(other.id) || this.#placement.isTerminal(other.id));
    if (successors.length > 0 && this.#health.isHealthy(row.id))
      this.#findings.expect(
        "I22",
        isReplaced,
        () =>
          `slot ${row.service}/${row.slot} gave up ${row.id}, which serves, for ${successors.map(({ id }) => id).join(" ")}, which never has`,
      );
    // It stops first.
    if (others.length === 0 && service.mode === "replicated") this.#began(row);
  }

  /** Of two that a slot has since a node returned one is kept, once it is known what both run. */
  #chosen(batch: Batch, row: ReplicaRow, kept: readonly ReplicaRow[]): void {
    this.#findings.expect("I24", kept.length > 0, () => `slot ${row.service}/${row.slot} gave up ${row.id} and has no other`);
    // Kept is what has served; of several that never have, the one that has had most time to.
    const isOldest = kept.every((other) => other.assigned_ms > row.assigned_ms);
    if (isOldest && !kept.some(({ id }) => this.#health.hasBeenHealthy(id)))
      this.#findings.fail("I24", `slot ${row.service}/${row.slot} gave up ${row.id} for newer ones, none of which has served`);
    const isStale = kept.every(({ id }) => !this.#health.wasHealthyAt(id, batch.askedMs - NEWS_TAKE_MS));
    if (!this.#health.isHealthy(row.id) || !isStale) return;
    const words = kept.map(
      (other) =>
        `${other.id} on ${this.#nodeName(other)}${this.#unheard.has(other.node_id) ? ", which has not said since it returned what it runs" : ""}`,
    );
    this.#findings.fail(
      "I24",
      `slot ${row.service}/${row.slot} gave up ${row.id}, which serves, for ${words.join(" and ")}, which does not`,
    );
  }

  /** After each plan: no more slots of a service are on their way than it allows. */
  #breadth(batch: Batch): void {
    const touched = new Set(batch.of("replicas").map(({ before, after }) => serviceKey((after ?? before)!)));
    for (const key of touched) {
      const changing = this.#changing.get(key);
      const service = this.#rows.get("services", key);
      if (changing === undefined) continue;
      for (const [slot, deployment] of changing)
        if (service === undefined || !this.#isOnItsWay(service, slot, deployment)) changing.delete(slot);
      if (service === undefined) continue;
      const { parallelism } = planningOf(service);
      this.#findings.expect(
        "I22",
        changing.size <= parallelism,
        () =>
          `${changing.size} slots of ${service.name} change over at once, and ${parallelism} may: ${[...changing.keys()].map((slot) => this.#wordsOf(service, slot)).join("; ")}`,
      );
    }
  }

  /** Begun, and nothing that could excuse another has come between: a deployment that is over, a lost node, an end. */
  #isOnItsWay(service: ServiceRow, slot: string, deployment: string): boolean {
    if (service.mode === "global" && this.#rows.get("nodes", slot) === undefined) return false;
    if (!isWanted(service, slot) || this.#deploying(service.app_id)?.id !== deployment) return false;
    const rows = this.#slotOf({ app_id: service.app_id, service: service.name, slot });
    // Its node no longer is one for this service.
    if (service.mode === "global" && rows.every((row) => row.desired === "stop" && row.reason !== "update")) return false;
    if (rows.some((row) => row.desired === "run" && (this.#isDark(row) || this.#placement.isTerminal(row.id)))) return false;
    return !rows.some((row) => row.desired === "run" && row.spec === service.spec && this.#health.hasBeenHealthy(row.id));
  }

  /** I40: what a service needs is there before a slot of it begins; one that serves changes over without waiting. */
  #gate(row: ReplicaRow): void {
    const service = this.#serviceOf(row);
    const deployment = this.#deploying(row.app_id);
    if (service === undefined || deployment === undefined || deployment.halted === 1 || !GATED.has(row.reason) || row.attempt > 0) return;
    const begun = `${deployment.id} ${row.service} ${row.slot}`;
    if (this.#begun.has(begun)) return;
    this.#begun.add(begun);
    if (this.#slotOf(row).length > 1) return;
    for (const { service: name, condition, required } of planningOf(service).dependsOn) {
      const needed = this.#rows.get("services", keyOf(row.app_id, name));
      if (needed === undefined || needed.removed === 1 || !required || needed.mode === "global") continue;
      for (let slot = 0; slot < needed.replicas; slot++)
        this.#findings.expect(
          "I40",
          this.#isThere(needed, String(slot), condition),
          () => `slot ${row.service}/${row.slot} began before ${name}/${slot}, which it needs, was ${condition}`,
        );
    }
  }

  #isThere(needed: ServiceRow, slot: string, condition: "started" | "healthy"): boolean {
    // What ran elsewhere and moves has been there.
    if (this.#served.has(servedKey(needed.app_id, needed.name, slot, needed.spec))) return true;
    if (this.#isDataAway(needed, slot)) return true;
    return this.#slotOf({ app_id: needed.app_id, service: needed.name, slot }).some((row) => {
      if (row.desired !== "run") return false;
      if (this.#isDark(row)) return true;
      const hasServed = condition === "healthy" ? this.#health.hasBeenHealthy(row.id) : this.#health.hasRun(row.id);
      return row.spec === needed.spec && (hasServed || this.#placement.isTerminal(row.id));
    });
  }

  #isDataAway({ app_id, name }: ServiceRow, slot: string): boolean {
    const app = this.#rows.get("apps", app_id);
    return [...this.#rows.of("volumes").values()].some(
      (row) =>
        row.app === app?.name &&
        row.namespace === app.namespace &&
        row.service === name &&
        row.slot === slot &&
        this.#rows.get("nodes", row.node_id)?.status === "lost",
    );
  }

  /** A rollback that berth makes by itself answers a deployment that failed and was none itself, and is the first to. */
  #begins({ id, app_id, revision, kind, created_by }: DeploymentRow): void {
    if (kind !== "rollback" || created_by !== "berth") return;
    const [former] = [...this.#rows.of("deployments").values()]
      .filter((row) => row.app_id === app_id && row.revision < revision)
      .sort((a, b) => b.revision - a.revision);
    this.#findings.expect(
      "I38",
      former !== undefined && former.state === "failed" && former.kind !== "rollback" && former.halted === 0,
      () => `${id} rolls back ${former === undefined ? "nothing" : `${former.id}, a ${former.kind} that is ${former.state}`}`,
    );
  }

  #ends(deployment: DeploymentRow): void {
    const { id, app_id, kind, state, halted, rollback_to } = deployment;
    if (state === "succeeded" && halted === 0)
      for (const service of this.#rows.of("services").values())
        if (service.app_id === app_id && service.removed === 0 && service.mode === "replicated") this.#succeeded(deployment, service);
    this.#findings.expect(
      "I38",
      rollback_to === null || (state === "failed" && kind !== "rollback" && halted === 0),
      () => `${id}, a ${kind} that is ${state}, is to be rolled back to ${rollback_to}`,
    );
  }

  /** For people. */
  #wordsOf(service: ServiceRow, slot: string): string {
    const rows = this.#slotOf({ app_id: service.app_id, service: service.name, slot }).map((row) => {
      const words = [
        row.desired,
        row.reason,
        row.spec === service.spec ? "new" : "old",
        this.#rows.get("nodes", row.node_id)?.status ?? "gone",
      ];
      return `${row.id} (${words.join(", ")}${this.#health.isHealthy(row.id) ? ", healthy" : ""})`;
    });
    return `${slot}: ${rows.join(" ") || "nothing"}`;
  }

  /**
   * I43: what is called a success has served, or has done its work, in each slot that the deployment answers for: of services
   * that it changed, and what it placed. Slots that are tied to a node that is away are waited for by nobody.
   */
  #succeeded(deployment: DeploymentRow, service: ServiceRow): void {
    const isAway = [...this.#rows.of("replicas").values()].some(
      (row) => row.app_id === service.app_id && this.#rows.get("nodes", row.node_id)?.status !== "ready",
    );
    for (let slot = 0; slot < service.replicas && !isAway; slot++) {
      const rows = this.#slotOf({ app_id: service.app_id, service: service.name, slot: String(slot) }).filter(
        (row) => row.desired === "run",
      );
      const isServed = rows.some(
        (row) =>
          this.#isDark(row) ||
          (row.spec === service.spec &&
            (this.#health.hasBeenHealthy(row.id) || this.#rows.get("observations", row.id)?.state === "completed") &&
            this.#rows.get("observations", row.id)?.state !== "failed"),
      );
      const isAnswered =
        rows.length === 0 ||
        service.revision === deployment.revision ||
        (deployment.kind !== "rollback" && service.revision > (deployment.from_revision ?? 0)) ||
        rows.some((row) => row.assigned_ms >= deployment.started_ms);
      this.#findings.expect("I43", isServed || !isAnswered, () => `${deployment.id} succeeded: ${this.#wordsOf(service, String(slot))}`);
    }
  }

  #slotOf({ app_id, service, slot }: Pick<ReplicaRow, "app_id" | "service" | "slot">): ReplicaRow[] {
    return [...this.#rows.of("replicas").values()].filter((row) => row.app_id === app_id && row.service === service && row.slot === slot);
  }
  #serviceOf(row: ReplicaRow): ServiceRow | undefined {
    return this.#rows.get("services", serviceKey(row));
  }
  #deploying(app: string): DeploymentRow | undefined {
    for (const row of this.#rows.of("deployments").values()) if (row.app_id === app && row.state === "running") return row;
    return undefined;
  }
  #isDark({ node_id }: ReplicaRow): boolean {
    const node = this.#rows.get("nodes", node_id);
    return node === undefined || node.status === "lost";
  }
  #nodeName({ node_id }: ReplicaRow): string {
    return this.#rows.get("nodes", node_id)?.name ?? node_id;
  }
  #began(row: ReplicaRow): void {
    const deployment = this.#deploying(row.app_id);
    if (deployment === undefined) return;
    obtain(this.#changing, serviceKey(row), () => new Map()).set(row.slot, deployment.id);
  }
}

const servedKey = (app: string, service: string, slot: string, spec: string): string => `${app} ${service} ${slot} ${spec}`;
const serviceKey = (row: Pick<ReplicaRow, "app_id" | "service">): string => keyOf(row.app_id, row.service);
const planningOf = (service: ServiceRow): Planning => JSON.parse(service.planning) as Planning;
const isWanted = (service: ServiceRow, slot: string): boolean =>
  service.removed === 0 && (service.mode === "global" || Number(slot) < service.replicas);
