/**
 * Brings the schema up to this build's. Each migration is one batch whose first statement claims its id, so of two
 * processes that start at once one applies it, and the other hits the key, reads again and goes on.
 */
import type { Database } from "../ports.ts";
import { MIGRATIONS, type Migration } from "./migrations.ts";

export class SchemaNewerError extends Error {
  override readonly name = "SchemaNewerError";
  readonly code = "SCHEMA_NEWER";
  constructor(unknown: readonly string[]) {
    super(
      `The database was written by a newer berth (it has ${unknown.join(", ")}, which this build does not know). Start that version or a later one; this one would lose data.`,
    );
  }
}

const CREATE = "create table if not exists migrations (id text primary key not null, applied_ms integer not null)";
const CLAIM = "insert into migrations (id, applied_ms) values (?, cast(unixepoch('subsec') * 1000 as integer))";

/** Ids of the migrations that were applied here, in order. Throws SchemaNewerError and whatever a migration fails with. */
export async function migrate(database: Database, migrations: readonly Migration[] = MIGRATIONS): Promise<string[]> {
  await database.write([CREATE]);
  const applied: string[] = [];
  for (;;) {
    const done = await appliedIds(database);
    const known = new Set(migrations.map(({ id }) => id));
    const unknown = [...done].filter((id) => !known.has(id));
    if (unknown.length > 0) throw new SchemaNewerError(unknown);
    const next = migrations.find(({ id }) => !done.has(id));
    if (!next) return applied;
    try {
      await database.write([{ sql: CLAIM, args: [next.id] }, ...next.statements]);
      applied.push(next.id);
    } catch (error) {
      // Somebody else was first: go on from what they left. Anything else is the migration's own fault.
      if (!(await appliedIds(database)).has(next.id)) throw error;
    }
  }
}

async function appliedIds(database: Database): Promise<Set<string>> {
  const [result] = await database.read(["select id from migrations order by id"]);
  return new Set(result!.rows.map((row) => String(row[0])));
}
