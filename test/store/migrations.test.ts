import { readFileSync } from "node:fs";
import { generateSQLiteDrizzleJson, generateSQLiteMigration } from "drizzle-kit/api";
import { expect, onTestFinished, test } from "vitest";
import { embedded } from "../../migrations/embed.ts";
import { type EmbeddedDatabase, openDatabaseInMemory } from "../../worker/store/database-embedded.ts";
import { MIGRATIONS } from "../../worker/store/migrations.ts";
import { migrate, SchemaNewerError } from "../../worker/store/migrator.ts";
import * as schema from "../../worker/store/schema.ts";

async function database(): Promise<EmbeddedDatabase> {
  const made = await openDatabaseInMemory();
  onTestFinished(() => made.close());
  return made;
}

/** Tables with their columns and indexes, in a form that does not depend on how they were written. */
async function schemaOf(target: EmbeddedDatabase): Promise<unknown> {
  const [columns, indexes] = await target.read([
    "select t.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk from sqlite_master t join pragma_table_info(t.name) c where t.type = 'table' and t.name not like 'sqlite%' and t.name <> 'migrations' order by 1, c.cid",
    "select t.name, i.name, i.\"unique\", group_concat(x.name) from sqlite_master t join pragma_index_list(t.name) i join pragma_index_info(i.name) x where t.name <> 'migrations' group by 1, 2 order by 1, 2",
  ]);
  return [columns!, indexes!].map(({ rows }) => rows.map((row) => Array.from(row)));
}

test("the migrations make the schema that the code was written for", async () => {
  const [migrated, wanted] = [await database(), await database()];
  await migrate(migrated);
  const statements = await generateSQLiteMigration(await generateSQLiteDrizzleJson({}), await generateSQLiteDrizzleJson(schema));
  await wanted.write(statements);
  expect(await schemaOf(migrated)).toEqual(await schemaOf(wanted));
});

test("the embedded migrations are those of migrations/ (else: node migrations/embed.ts)", () => {
  expect(readFileSync(new URL("../../worker/store/migrations.ts", import.meta.url), "utf8")).toBe(embedded());
});

const STEPS = [
  { id: "0001_a", statements: ["create table a (x integer)"] },
  { id: "0002_b", statements: ["create table b (x integer)", "insert into b values (1)"] },
];

test("migrates from empty, from part way and not twice", async () => {
  const target = await database();
  expect(await migrate(target, STEPS.slice(0, 1))).toEqual(["0001_a"]);
  expect(await migrate(target, STEPS)).toEqual(["0002_b"]);
  expect(await migrate(target, STEPS)).toEqual([]);
  expect((await target.read(["select count(*) from b"]))[0]!.rows[0]![0]).toBe(1);
});

test("of processes that start at once, each migration is applied by one (F46)", async () => {
  const target = await database();
  const applied = await Promise.all([1, 2, 3, 4].map(() => migrate(target, STEPS)));
  expect(applied.flat().sort()).toEqual(["0001_a", "0002_b"]);
  expect((await target.read(["select count(*) from b"]))[0]!.rows[0]![0]).toBe(1);
});

test("a migration that fails leaves nothing, and is tried again (F46)", async () => {
  const target = await database();
  const broken = { id: "0003_c", statements: ["create table c (x integer)", "insert into nowhere values (1)"] };
  await expect(migrate(target, [...STEPS, broken])).rejects.toThrow("nowhere");
  expect((await target.read(["select name from sqlite_master where name = 'c'"]))[0]!.rows).toHaveLength(0);
  expect(await migrate(target, [...STEPS, { ...broken, statements: broken.statements.slice(0, 1) }])).toEqual(["0003_c"]);
});

test("a database of a newer berth is refused in words and left as it is", async () => {
  const target = await database();
  await migrate(target, STEPS);
  const attempt = migrate(target, STEPS.slice(0, 1));
  await expect(attempt).rejects.toThrow(SchemaNewerError);
  await expect(attempt).rejects.toThrow(
    "The database was written by a newer berth (it has 0002_b, which this build does not know). Start that version or a later one; this one would lose data.",
  );
});

test("migrations are numbered in order", () => {
  expect(MIGRATIONS.map(({ id }) => Number(id.slice(0, 4)))).toEqual(MIGRATIONS.map((_, i) => i + 1));
});
