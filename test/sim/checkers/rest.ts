/** What has to be so once nothing goes wrong any more. */
import { LABEL_NODE } from "../../../agent/engine/labels.ts";
import { mayLack, mayRest } from "../rest-exceptions.ts";
import type { World } from "../world.ts";
import { obtain } from "../../../shared/schedule/obtain.ts";
import { isHindered } from "./containers.ts";
import type { Findings } from "./findings.ts";
import { REPLICA_LABEL } from "./health.ts";
import { keyOf, type ReplicaRow, type Rows } from "./rows.ts";

/** The store's own bounds on what it keeps of each object. */
const EVENTS_AN_OBJECT_MAX = 200;
const ENDED_A_SLOT_MAX = 10;
const DEPLOYMENTS_AN_APP_MAX = 50;

/** A manifest without it, and the agent's next step. */
const TOLD_WITHIN_MS = 5_000;

/** I33. */
const UNOWNED_MAX_MS = 300_000;

export class Rest {
  readonly #world: World;
  readonly #rows: Rows;
  readonly #findings: Findings;
  /** Since when nobody does what has to be done about a replica. */
  readonly #unownedMs = new Map<string, number>();

  constructor(parts: { readonly world: World; readonly rows: Rows; readonly findings: Findings }) {
    this.#world = parts.world;
    this.#rows = parts.rows;
    this.#findings = parts.findings;
  }

  /** Each second: a replica whose node is gone is ended, one that is to stop is stopped by its node when that can. */
  look(): void {
    const { nowMs } = this.#findings;
    const { isolate } = this.#world;
    // Nobody owns anything while the control plane is away or stands still.
    if (isolate === null || !isolate.isReady || isolate.process.parked !== null) this.#unownedMs.clear();
    for (const row of this.#rows.of("replicas").values()) {
      const node = this.#rows.get("nodes", row.node_id);
      const machine = this.#world.machines.find(({ name }) => name === node?.name);
      // Two machines with one key are told nothing until an operator has looked.
      const isTold = node?.status === "ready" && node.quarantined === 0;
      const isLeft = row.desired === "stop" && isTold && machine !== undefined && !isHindered(machine);
      const isAway = this.#world.isolate === null || this.#world.isolate.process.parked !== null;
      if (isAway || (node !== undefined && !isLeft)) {
        this.#unownedMs.delete(row.id);
        continue;
      }
      const sinceMs = obtain(this.#unownedMs, row.id, () => nowMs);
      this.#findings.expect(
        "I33",
        nowMs - sinceMs <= UNOWNED_MAX_MS,
        () => `nobody has ended ${row.id} (${row.desired}, ${row.reason}) for five minutes; its node is ${node?.status ?? "gone"}`,
      );
    }
  }

  /** I32 and I33: what is wanted is what runs, and nothing else does. */
  checkRunning(): void {
    const { machines } = this.#world;
    const wanted = new Map<string, ReplicaRow>();
    for (const row of this.#rows.of("replicas").values()) {
      this.#findings.looks("I33");
      const node = this.#rows.get("nodes", row.node_id);
      if (row.desired === "run") wanted.set(row.id, row);
      else
        this.#findings.fail(
          "I33",
          `replica ${row.id} is to stop (${row.reason}) and has not ended: ${this.#stateOf(row.id)}, node ${node?.status ?? "gone"}`,
        );
      if (node === undefined) this.#findings.fail("I33", `replica ${row.id} is ${this.#stateOf(row.id)}, and its node was removed`);
    }
    const running = new Map<string, string>();
    for (const machine of machines) {
      if (!machine.isOn) continue;
      for (const container of machine.engine.containers.values()) {
        const id = container.body.Labels[REPLICA_LABEL];
        if (id === undefined) continue;
        if (running.has(id)) this.#findings.fail("I32", `two containers of ${id}`);
        if (container.status === "running") running.set(id, machine.name);
        if (!wanted.has(id))
          this.#findings.fail("I32", `${container.name} (${container.status}) on ${machine.name} belongs to nothing that is wanted`);
      }
    }
    for (const { app_id, name, mode, replicas, removed } of this.#rows.of("services").values()) {
      const have = [...wanted.values()].filter((row) => row.app_id === app_id && row.service === name);
      const want = removed === 1 ? 0 : mode === "global" ? null : replicas;
      if (want !== null && mayLack(this.#world.database, app_id, name)) continue;
      this.#findings.expect(
        "I32",
        want === null || have.length === want,
        () => `${this.#appName(app_id)}/${name} wants ${want} replicas and has ${have.length}`,
      );
      for (const row of have)
        if (!running.has(row.id) && !mayRest(this.#world.database, row.id) && !this.#isVolumeTaken(row))
          this.#findings.fail(
            "I32",
            `${this.#appName(app_id)}/${name}/${row.slot} (${row.id}) shall run on ${this.#rows.get("nodes", row.node_id)?.name ?? "nothing"} and does not: ${this.#stateOf(row.id)}`,
          );
    }
    for (const { name, status } of this.#rows.of("nodes").values()) {
      const machine = machines.find((candidate) => candidate.name === name);
      if (machine?.isAgentUp === true && machine.ended === null)
        this.#findings.expect("I32", status === "ready", () => `${name} is up and counts as ${status}`);
    }
  }

  /** Told from what the operator asked for alone. One that was refused for good was said to be; a scale after a failure owes none. */
  checkRollbacks(): void {
    this.#findings.looks("I38");
    const owing = this.#world.database.look(`
      select d.id, a.name, d.message from deployments d join apps a on a.id = d.app_id and a.revision = d.revision
      where d.state = 'failed' and d.kind <> 'rollback' and d.halted = 0 and d.from_revision is not null and a.deleting = 0
        and exists (select 1 from services s where s.app_id = a.id and s.removed = 0 and s.planning ->> '$.failureAction' = 'rollback'
          and (d.message like s.name || ' %' or d.message like s.name || ':%'))
        and not exists (select 1 from events e where e.object_id = d.id and e.type = 'notRolledBack')`);
    for (const { id, name, message } of owing)
      this.#findings.fail("I38", `deployment ${String(id)} of ${String(name)} failed (${String(message)}) and was never rolled back`);
  }

  /** What is kept is bounded by what there is. */
  checkBounds(): void {
    const rows = this.#rows;
    for (const { replica } of rows.of("observations").values())
      this.#findings.expect("I36", rows.get("replicas", replica) !== undefined, () => `${replica} has gone and is still observed`);
    for (const { node_id } of rows.of("node_reports").values())
      this.#findings.expect("I36", rows.get("nodes", node_id) !== undefined, () => `${node_id} has gone and its reports are kept`);
    for (const { app_id, service } of rows.of("explanations").values())
      this.#findings.expect(
        "I36",
        rows.get("services", keyOf(app_id, service)) !== undefined,
        () => `${service} of ${app_id} has gone and is still explained`,
      );
    const count = (of: Iterable<string>, max: number, what: string) => {
      for (const [key, rowsOf] of Map.groupBy(of, (one) => one))
        this.#findings.expect("I36", rowsOf.length <= max, () => `${rowsOf.length} ${what} of ${key} are kept`);
    };
    count(
      [...rows.of("events").values()].map((row) => `${row.object_kind} ${row.object_id}`),
      EVENTS_AN_OBJECT_MAX,
      "events",
    );
    count(
      [...rows.of("ended_replicas").values()].map((row) => `${row.app_id} ${row.service}/${row.slot}`),
      ENDED_A_SLOT_MAX,
      "ended replicas",
    );
    count(
      [...rows.of("deployments").values()].map((row) => row.app_id),
      DEPLOYMENTS_AN_APP_MAX,
      "deployments",
    );
    for (const machine of this.#world.machines) {
      const held = [...machine.disk.files.keys()].flatMap((path) => /^replicas\/(.+)\.json$/.exec(path)?.[1] ?? []);
      for (const id of machine.isAgentUp && !machine.disk.isFull ? held : [])
        this.#findings.expect(
          "I36",
          rows.get("replicas", id) !== undefined ||
            (rows.get("ended_replicas", id)?.ended_ms ?? 0) > this.#world.database.clockMs - TOLD_WITHIN_MS,
          () => `${machine.name} remembers ${id}, which has gone`,
        );
    }
  }

  /** No secret that was given out stands in a column. */
  checkSecrets(): void {
    const { secrets } = this.#world;
    for (const table of [
      "events",
      "audit",
      "explanations",
      "ops",
      "observations",
      "deployments",
      "tokens",
      "join_tokens",
      "ended_replicas",
    ] as const)
      for (const [key, row] of rowsOf(this.#rows, table)) {
        const text = JSON.stringify(row);
        this.#findings.expect("I30", !secrets.some((secret) => text.includes(secret)), () => `${table} ${key} holds a secret`);
      }
  }

  /** Its machine was another node before, whose data has that name: only people know what becomes of it. */
  #isVolumeTaken({ node_id, spec }: ReplicaRow): boolean {
    const name = this.#rows.get("nodes", node_id)?.name;
    const machine = this.#world.machines.find((candidate) => candidate.name === name);
    const body = this.#rows.get("bodies", spec)?.body;
    if (machine === undefined || body === undefined) return false;
    const { volumes } = JSON.parse(body) as { readonly volumes: Readonly<Record<string, { readonly engineName: string }>> };
    return Object.values(volumes).some(({ engineName }) => {
      const held = machine.engine.volumes.get(engineName);
      return held !== undefined && held.labels[LABEL_NODE] !== node_id;
    });
  }

  #stateOf(replica: string): string {
    return this.#rows.get("observations", replica)?.state ?? "never seen";
  }
  #appName(id: string): string {
    return this.#rows.get("apps", id)?.name ?? id;
  }
}

const rowsOf = (rows: Rows, table: Parameters<Rows["of"]>[0]): ReadonlyMap<string, unknown> => rows.of(table);
