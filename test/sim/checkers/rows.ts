/**
 * The database's rows as they are committed now, kept by what each batch writes: reading them all again after each of a
 * history's thousand batches would cost as much as what is checked.
 */
import { obtain } from "../../../shared/schedule/obtain.ts";
import { TABLE_SHAPES } from "../../../worker/store/table-shape.ts";
import type { SimDatabase, WrittenBatch } from "../database.ts";

/** Columns by their names in SQL; booleans are 0 or 1, JSON is text. */
export interface TableRows {
  cluster: {
    readonly rev: number;
    readonly plan_rev: number;
    readonly observed: number;
    readonly clock_ms: number;
    readonly commit_ms: number;
  };
  namespaces: { readonly name: string };
  tokens: { readonly id: string; readonly expires_ms: number | null };
  join_tokens: { readonly id: string; readonly uses: number; readonly uses_max: number; readonly expires_ms: number };
  sites: { readonly name: string };
  nodes: NodeRow;
  removed_nodes: { readonly id: string; readonly name: string };
  apps: {
    readonly id: string;
    readonly namespace: string;
    readonly name: string;
    readonly revision: number;
    readonly deleting: number;
    readonly delete_volumes: number;
    readonly locked_by: string | null;
    readonly lock_message: string;
  };
  app_revisions: { readonly app_id: string; readonly revision: number; readonly message: string };
  services: ServiceRow;
  bodies: { readonly hash: string; readonly kind: string; readonly body: string };
  images: ImageRow;
  replicas: ReplicaRow;
  observations: ObservationRow;
  node_reports: { readonly node_id: string; readonly session: number; readonly seq: number; readonly complete: number };
  ended_replicas: {
    readonly id: string;
    readonly app_id: string;
    readonly service: string;
    readonly slot: string;
    readonly ended_ms: number;
  };
  volumes: {
    readonly namespace: string;
    readonly app: string;
    readonly service: string;
    readonly slot: string;
    readonly node_id: string;
    readonly engine_name: string;
  };
  volume_drops: { readonly node_id: string; readonly engine_name: string };
  deployments: DeploymentRow;
  explanations: { readonly app_id: string; readonly service: string; readonly body: string };
  registries: { readonly namespace: string; readonly registry: string };
  events: { readonly id: number; readonly object_kind: string; readonly object_id: string };
  audit: AuditRow;
  audit_head: { readonly up_to_rev: number; readonly row_count: number; readonly hash: string };
  ops: { readonly op_id: string; readonly rev: number };
  tombstones: { readonly kind: string; readonly key: string; readonly rev: number };
}
export type TableName = keyof TableRows;

export interface NodeRow {
  readonly id: string;
  readonly name: string;
  readonly site: string;
  readonly admission: string;
  readonly labels: string;
  readonly taints: string;
  readonly availability: string;
  readonly status: "ready" | "unreachable" | "lost";
  readonly status_ms: number;
  readonly facts: string;
  readonly join_token: string;
  readonly session: number;
  readonly quarantined: number;
  readonly generation: number;
  readonly rev: number;
}
export interface ServiceRow {
  readonly app_id: string;
  readonly name: string;
  readonly mode: "replicated" | "global";
  readonly replicas: number;
  readonly spec: string;
  readonly revision: number;
  readonly reservation: string;
  readonly planning: string;
  readonly removed: number;
}
export interface ImageRow {
  readonly app_id: string;
  readonly revision: number;
  readonly reference: string;
  readonly digest: string | null;
  readonly image_id: string | null;
  readonly resolver: string | null;
}
export interface ReplicaRow {
  readonly id: string;
  readonly app_id: string;
  readonly service: string;
  readonly slot: string;
  readonly node_id: string;
  readonly spec: string;
  readonly revision: number;
  readonly desired: "run" | "stop";
  readonly reason: string;
  readonly attempt: number;
  readonly assigned_ms: number;
}
export interface ObservationRow {
  readonly replica: string;
  readonly node_id: string;
  readonly session: number;
  readonly seq: number;
  readonly state: string;
  readonly reason: string;
}
export interface DeploymentRow {
  readonly id: string;
  readonly app_id: string;
  readonly revision: number;
  readonly from_revision: number | null;
  readonly started_ms: number;
  readonly kind: "deploy" | "scale" | "rollback";
  readonly state: "running" | "succeeded" | "failed" | "superseded";
  readonly created_by: string;
  readonly rollback_to: number | null;
  readonly halted: number;
  readonly paused_by: string | null;
  readonly promoted: number;
}
export interface AuditRow {
  readonly rev: number;
  readonly at_ms: number;
  readonly actor: string;
  readonly verb: string;
  readonly namespace: string | null;
  readonly object: string;
  readonly detail: string;
  readonly hash: string | null;
}

/** What one batch made of one row; null: it was not there before, or is not there now. */
export interface Move<Row> {
  readonly key: string;
  readonly before: Row | null;
  readonly after: Row | null;
}

export class Batch {
  readonly askedMs: number;
  readonly #moves: ReadonlyMap<string, ReadonlyMap<string, Move<unknown>>>;

  constructor(askedMs: number, moves: ReadonlyMap<string, ReadonlyMap<string, Move<unknown>>>) {
    this.askedMs = askedMs;
    this.#moves = moves;
  }

  of<Name extends TableName>(table: Name): readonly Move<TableRows[Name]>[] {
    return [...((this.#moves.get(table)?.values() ?? []) as Iterable<Move<TableRows[Name]>>)];
  }
  touches(table: TableName): boolean {
    return this.#moves.has(table);
  }
  get tables(): readonly TableName[] {
    return [...this.#moves.keys()] as TableName[];
  }
}

interface Shape {
  readonly columns: readonly string[];
  /** Places of the primary key among them. */
  readonly key: readonly number[];
  readonly isVersioned: boolean;
  /** As tombstones name it. */
  readonly kind: string;
}

const SHAPES: ReadonlyMap<string, Shape> = new Map(
  [...TABLE_SHAPES.values()].map((shape) => {
    const columns = [...shape.columns.values()].map(({ name }) => name);
    const key = shape.primaryKey.map(({ name }) => columns.indexOf(name));
    return [shape.name, { columns, key, isVersioned: shape.versioned, kind: shape.table }];
  }),
);

export const isVersioned = (table: TableName): boolean => SHAPES.get(table)?.isVersioned === true;
export const kindOf = (table: TableName): string => SHAPES.get(table)?.kind ?? "";
/** Key of a table whose primary key has several columns. */
export const keyOf = (...parts: readonly (string | number)[]): string => JSON.stringify(parts);

export class Rows {
  readonly #tables = new Map<string, Map<string, unknown>>([...SHAPES.keys()].map((name) => [name, new Map()]));

  /** Everything as it is, and from then on what is written. */
  begin(database: SimDatabase): void {
    database.follow([...SHAPES].map(([name, { columns }]) => ({ name, columns })));
    for (const [name, shape] of SHAPES) {
      const rows = this.#tables.get(name)!;
      for (const row of database.look(`select * from "${name}"`))
        rows.set(
          keyIn(
            shape,
            shape.columns.map((column) => row[column]),
          ),
          row,
        );
    }
  }

  of<Name extends TableName>(table: Name): ReadonlyMap<string, TableRows[Name]> {
    return this.#tables.get(table) as ReadonlyMap<string, TableRows[Name]>;
  }
  get<Name extends TableName>(table: Name, key: string): TableRows[Name] | undefined {
    return this.of(table).get(key);
  }
  get cluster(): TableRows["cluster"] {
    return this.get("cluster", "1")!;
  }

  take({ askedMs, rows: written }: WrittenBatch): Batch {
    const moves = new Map<string, Map<string, { key: string; before: unknown; after: unknown }>>();
    for (const { table, isGone, values } of written) {
      const shape = SHAPES.get(table)!;
      const rows = this.#tables.get(table)!;
      const key = keyIn(shape, values);
      const ofTable = obtain(moves, table, () => new Map<string, { key: string; before: unknown; after: unknown }>());
      const move = obtain(ofTable, key, () => ({ key, before: rows.get(key) ?? null, after: null }));
      move.after = isGone ? null : Object.fromEntries(shape.columns.map((column, at) => [column, values[at]]));
      if (isGone) rows.delete(key);
      else rows.set(key, move.after);
    }
    return new Batch(askedMs, moves);
  }
}

function keyIn({ key }: Shape, values: readonly unknown[]): string {
  const [only, ...more] = key;
  return more.length === 0 ? String(values[only!]) : JSON.stringify(key.map((at) => values[at]));
}
