/** What one batch may do to the rows: counters, operations, the audit log, and that each commit is whole. */
import { createHash } from "node:crypto";
import type { HttpRequest } from "../../../agent/ports.ts";
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { Findings } from "./findings.ts";
import { type AuditRow, type Batch, isVersioned, keyOf, kindOf, type NodeRow, type Rows, type TableName, type TableRows } from "./rows.ts";

/** The store's own bound on one step of the cluster clock. */
const CLOCK_STEP_MAX_MS = 5_000;
const BERTH = "berth";
/** Rows of these go without a tombstone when they are too old: nothing that follows the feed shows them any more. */
const AGEING: ReadonlySet<TableName> = new Set(["deployments", "app_revisions", "images", "tokens", "join_tokens", "volume_drops"]);
/** A day more than a month: the database's clock may be off. */
const EXPIRED_KEPT_MS = 29 * 86_400_000;
/** Whatever of a node only an operator changes. */
const OPERATORS_COLUMNS = ["name", "site", "labels", "taints", "availability", "admission"] as const satisfies readonly (keyof NodeRow)[];
const SERVICE_COLUMNS = ["mode", "replicas", "spec", "revision", "reservation", "planning", "removed"] as const;
const APP_COLUMNS = ["revision", "deleting", "delete_volumes", "locked_by", "lock_message"] as const;

export class Commits {
  readonly #rows: Rows;
  readonly #findings: Findings;
  /** Keys of operators' requests, by the time that they carry. */
  readonly #keys = new Map<string, Set<string>>();
  /** Operations that were recorded, by the same. */
  readonly #operations = new Map<string, number>();
  /** Apps, `namespace/name`, that somebody asked to remove with their data. */
  readonly #givenUp = new Set<string>();
  /** Operators' requests without a key: each may make one commit that records no operation. */
  #keyless = 0;
  /** Nodes that each join token has let in. */
  readonly #enrolled = new Map<string, number>();

  constructor(rows: Rows, findings: Findings) {
    this.#rows = rows;
    this.#findings = findings;
  }

  begin(): void {
    for (const node of this.#rows.of("nodes").values()) this.#letIn(node.join_token);
    for (const token of this.#rows.of("join_tokens").values()) this.#joinToken(token);
  }

  /** A request reaches the control plane. */
  asked({ method, headers, url }: HttpRequest): void {
    if (method === "GET" || url.includes("/agent/v1/")) return;
    const [, namespace, app] = /\/namespaces\/([^/]+)\/apps\/([^/?]+)\?(?:.*&)?deleteData=true/.exec(url) ?? [];
    if (String(method) === "DELETE" && namespace !== undefined) this.#givenUp.add(`${namespace}/${app}`);
    const key = headers?.["idempotency-key"];
    if (key === undefined) {
      this.#keyless++;
      return;
    }
    const made = madeOf(key);
    obtain(this.#keys, made, () => new Set()).add(key);
  }

  check(batch: Batch): void {
    this.#counters(batch);
    this.#feed(batch);
    this.#operation(batch);
    this.#audit(batch);
    this.#whole(batch);
    this.#manifests(batch);
    this.#joinTokens(batch);
    this.#data(batch);
  }

  #counters(batch: Batch): void {
    const [move] = batch.of("cluster");
    if (move === undefined || move.before === null || move.after === null) return;
    const { before, after } = move;
    const findings = this.#findings;
    const step = after.clock_ms - before.clock_ms;
    findings.expect("I11", step >= 0 && step <= CLOCK_STEP_MAX_MS, () => `the cluster clock moved by ${step} ms`);
    findings.expect(
      "I12",
      after.rev === before.rev || after.rev === before.rev + 1,
      () => `rev went from ${before.rev} to ${after.rev} in one batch`,
    );
    if (after.observed < before.observed) findings.fail("I12", `observed went back from ${before.observed} to ${after.observed}`);
  }

  /** Whoever reads `rev > ?` and the tombstones sees every change: each row carries the rev of the commit that touched it. */
  #feed(batch: Batch): void {
    const { rev } = this.#rows.cluster;
    const isRevTaken = batch.of("cluster").some(({ before, after }) => before !== null && after !== null && after.rev > before.rev);
    for (const table of batch.tables) {
      if (!isVersioned(table)) continue;
      for (const { key, before, after } of batch.of(table)) {
        this.#findings.looks("I12");
        const stamp = (after as { rev?: number } | null)?.rev;
        if (after !== null && (stamp !== rev || !isRevTaken))
          this.#findings.fail("I12", `${table} ${key} was written at rev ${rev} and carries ${stamp}`);
        if (after !== null || before === null || (AGEING.has(table) && !isRevTaken)) continue;
        const tombstone = this.#rows.get("tombstones", keyOf(kindOf(table), key));
        if (tombstone?.rev !== rev)
          this.#findings.fail("I12", `${table} ${key} was deleted at rev ${rev} and its tombstone says ${tombstone?.rev ?? "nothing"}`);
      }
    }
  }

  /** An operation's id is recorded by the commit that carries it out, once for each key. */
  #operation(batch: Batch): void {
    const recorded = batch.of("ops");
    const isOperators = batch.of("audit").some(({ before, after }) => before === null && after !== null && after.actor !== BERTH);
    if (!isOperators && recorded.length === 0) return;
    this.#findings.looks("I13");
    if (isOperators && recorded.length === 0 && this.#keyless-- <= 0)
      this.#findings.fail("I13", `rev ${this.#rows.cluster.rev} carries out an operation whose id it does not record`);
    for (const { key, before, after } of recorded) {
      if (before !== null && after !== null) this.#findings.fail("I13", `operation ${key} was recorded again`);
      if (before !== null || after === null) continue;
      const desired = batch.tables.filter((table) => table !== "ops" && table !== "cluster");
      if (!isOperators && desired.length > 0)
        this.#findings.fail("I13", `operation ${key} wrote ${desired.join(" ")} and is in no audit row`);
      const made = madeOf(key);
      const count = (this.#operations.get(made) ?? 0) + 1;
      this.#operations.set(made, count);
      const keys = this.#keys.get(made)?.size ?? 0;
      if (count > keys) this.#findings.fail("I13", `${count} operations were carried out for ${keys} keys made at ${made}`);
    }
  }

  /** Rows are only added, and each deliberate change has one. */
  #audit(batch: Batch): void {
    const { rev } = this.#rows.cluster;
    let added = 0;
    for (const { key, before, after } of batch.of("audit")) {
      this.#findings.looks("I19");
      if (before === null) added++;
      else if (after === null) this.#findings.fail("I19", `the audit row of rev ${key} was removed`);
      else if (!isChained(before, after)) this.#findings.fail("I19", `the audit row of rev ${key} was changed`);
      if (before === null && after?.rev !== rev) this.#findings.fail("I19", `an audit row of rev ${key} was written at rev ${rev}`);
    }
    const deliberate = this.#deliberate(batch);
    if (deliberate.length === 0 && added === 0) return;
    this.#findings.looks("I19");
    if (added === 0) this.#findings.fail("I19", `rev ${rev} has no audit row: ${deliberate.join(", ")}`);
    if (deliberate.length === 0) this.#findings.fail("I19", `rev ${rev} has an audit row and changed nothing that anybody wants`);
  }

  /** What of a batch is wanted by somebody: all else is what berth does by itself to bring it about, or what has grown old. */
  #deliberate(batch: Batch): string[] {
    const found: string[] = [];
    const isPlan = batch.of("cluster").some(({ before, after }) => before !== null && after !== null && after.plan_rev > before.plan_rev);
    for (const table of ["sites", "namespaces", "registries", "removed_nodes"] as const)
      for (const { key } of batch.of(table)) found.push(`${table} ${key}`);
    for (const table of ["tokens", "join_tokens"] as const)
      for (const { key, before, after } of batch.of(table)) {
        const isUsed = table === "join_tokens" && before !== null && after !== null;
        if (!isUsed && !(after === null && this.#hasExpired(before))) found.push(`${table} ${key}`);
      }
    for (const { key, before, after } of batch.of("nodes")) {
      if (before === null) continue;
      const isLifted = before.quarantined === 1 && after?.quarantined === 0;
      if (after === null || isLifted || OPERATORS_COLUMNS.some((column) => before[column] !== after[column])) found.push(`nodes ${key}`);
    }
    for (const { key, before, after } of batch.of("apps")) {
      if (after === null) {
        if (before?.deleting !== 1) this.#findings.fail("I19", `app ${key} went and nobody had removed it`);
      } else if (before === null || APP_COLUMNS.some((column) => before[column] !== after[column])) found.push(`apps ${key}`);
    }
    for (const { key, before, after } of batch.of("services")) {
      if (after === null) {
        if (before?.removed !== 1) this.#findings.fail("I19", `service ${key} went and nobody had removed it`);
      } else if (before === null || SERVICE_COLUMNS.some((column) => before[column] !== after[column])) found.push(`services ${key}`);
    }
    for (const { key, before } of batch.of("app_revisions")) if (before === null) found.push(`app_revisions ${key}`);
    for (const { key, before, after } of batch.of("deployments")) {
      const isAborted = !isPlan && before?.state === "running" && after?.state === "failed";
      const isTold = after !== null && (before?.paused_by !== after.paused_by || before?.promoted !== after.promoted);
      if (before === null || isAborted || isTold) found.push(`deployments ${key}`);
    }
    for (const { key, after } of batch.of("volumes")) if (after === null && !isPlan) found.push(`volumes ${key}`);
    return found;
  }

  #hasExpired(token: { readonly expires_ms: number | null } | null): boolean {
    return token !== null && token.expires_ms !== null && token.expires_ms < this.#rows.cluster.commit_ms - EXPIRED_KEPT_MS;
  }

  /** Nobody sees half a commit: what a row names is there, and what is named stays. */
  #whole(batch: Batch): void {
    const rows = this.#rows;
    const need = (what: string, table: TableName, key: string) => {
      this.#findings.looks("I14");
      if (rows.get(table, key) === undefined) this.#findings.fail("I14", `${what} names ${table} ${key}, which is not there`);
    };
    for (const { after } of batch.of("replicas")) {
      if (after === null) continue;
      need(`replica ${after.id}`, "bodies", after.spec);
      need(`replica ${after.id}`, "apps", after.app_id);
    }
    for (const { after } of batch.of("services")) {
      if (after === null) continue;
      need(`service ${after.name}`, "bodies", after.spec);
      need(`service ${after.name}`, "apps", after.app_id);
    }
    for (const { after } of batch.of("apps"))
      if (after !== null) need(`app ${after.name}`, "app_revisions", keyOf(after.id, after.revision));
    for (const { before, after } of batch.of("deployments")) {
      if (after === null) continue;
      need(`deployment ${after.id}`, "apps", after.app_id);
      if (before === null) need(`deployment ${after.id}`, "app_revisions", keyOf(after.app_id, after.revision));
      if (before !== null && before.state !== after.state && before.state !== "running")
        this.#findings.fail("I16", `deployment ${after.id} was ${before.state} and is ${after.state}`);
    }
    for (const { after } of batch.of("observations")) if (after !== null) need("an observation", "replicas", after.replica);
    for (const { before, after } of batch.of("apps")) {
      if (before === null || after !== null) continue;
      for (const table of ["replicas", "services", "deployments", "images"] as const)
        for (const row of rows.of(table).values())
          if (row.app_id === before.id) this.#findings.fail("I14", `app ${before.name} went and left a row of ${table}`);
    }
  }

  /** A manifest names what its generation's rows name: whatever changes a node's set is a new generation of it. */
  #manifests(batch: Batch): void {
    const { rev } = this.#rows.cluster;
    const touched = new Map<string, string>();
    for (const { before, after } of batch.of("replicas")) {
      const was = before?.desired === "run" ? before.node_id : null;
      const is = after?.desired === "run" ? after.node_id : null;
      if (was === is) continue;
      if (was !== null) touched.set(was, `${before!.id} leaves it`);
      if (is !== null) touched.set(is, `${after!.id} comes to it`);
    }
    for (const { before, after } of batch.of("images")) {
      if (before === null || after === null || (before.digest === after.digest && before.image_id === after.image_id)) continue;
      for (const row of this.#rows.of("replicas").values())
        if (row.app_id === after.app_id && row.revision === after.revision && row.desired === "run")
          touched.set(row.node_id, `${after.reference} is known`);
    }
    for (const { before, after } of batch.of("volume_drops")) touched.set((after ?? before)!.node_id, "a volume is to go");
    for (const [id, why] of touched) {
      const node = this.#rows.get("nodes", id);
      if (node === undefined) continue;
      this.#findings.expect(
        "I18",
        node.generation === rev,
        () => `the set of ${node.name} changed at rev ${rev} (${why}) and is still of generation ${node.generation}`,
      );
    }
    for (const { before, after } of batch.of("nodes"))
      if (before !== null && after !== null && after.generation < before.generation)
        this.#findings.fail("I18", `the generation of ${after.name} went back from ${before.generation} to ${after.generation}`);
  }

  /** Data goes where somebody asked for that, or with its node. */
  #data(batch: Batch): void {
    for (const { before, after } of batch.of("apps"))
      if (after !== null && after.delete_volumes === 1 && before?.delete_volumes !== 1) this.#mayGo(after.namespace, after.name);
    for (const { before, after } of batch.of("volumes"))
      if (before !== null && after === null && this.#rows.get("nodes", before.node_id) !== undefined)
        this.#mayGo(before.namespace, before.app);
  }

  #mayGo(namespace: string, app: string): void {
    this.#findings.expect(
      "I42",
      this.#givenUp.has(`${namespace}/${app}`),
      () => `the data of ${app} is given up, and nobody asked for that`,
    );
  }

  #joinTokens(batch: Batch): void {
    for (const { before, after } of batch.of("nodes")) if (before === null && after !== null) this.#letIn(after.join_token);
    for (const { after } of batch.of("join_tokens")) if (after !== null) this.#joinToken(after);
  }

  #letIn(token: string): void {
    this.#enrolled.set(token, (this.#enrolled.get(token) ?? 0) + 1);
  }

  #joinToken({ id, uses, uses_max }: TableRows["join_tokens"]): void {
    this.#findings.expect("I29", uses <= uses_max, () => `join token ${id} was used ${uses} times of ${uses_max}`);
    const enrolled = this.#enrolled.get(id) ?? 0;
    if (enrolled > uses) this.#findings.fail("I29", `join token ${id} let ${enrolled} nodes in and counts ${uses} uses`);
  }

  /** At the end: whoever recomputes the chain comes to the head that was signed. */
  checkChain(): void {
    const [head] = this.#rows.of("audit_head").values();
    let last = "";
    let count = 0;
    for (const row of [...this.#rows.of("audit").values()].sort((a, b) => a.rev - b.rev)) {
      if (row.rev > (head?.up_to_rev ?? 0)) break;
      const { rev, at_ms: atMs, actor, verb, namespace, object, detail } = row;
      // Keys in their order: what canonical JSON is.
      last = sha256(last + JSON.stringify({ actor, atMs, detail, namespace, object, rev, verb }));
      count++;
      this.#findings.expect("I37", row.hash === last, () => `the audit row of rev ${rev} is not the next of the chain`);
    }
    this.#findings.expect(
      "I37",
      (head?.hash ?? "") === last && (head?.row_count ?? 0) === count,
      () => `the audit log's head is of ${head?.row_count ?? 0} rows, and ${count} are chained`,
    );
  }
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
/** A key, and the id that is made of it, begin with the time when the key was made. */
const madeOf = (key: string): string => key.slice(0, key.indexOf("-"));

/** Nothing of it changed but that it has been chained now. */
function isChained(before: AuditRow, after: AuditRow): boolean {
  if (before.hash !== null && before.hash !== after.hash) return false;
  return JSON.stringify({ ...before, hash: null }) === JSON.stringify({ ...after, hash: null });
}
