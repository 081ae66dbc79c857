/** A store over a fresh in-memory database or file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { CommitResult, Mutation } from "../../worker/store/commit-types.ts";
import { type EmbeddedDatabase, openDatabaseFile, openDatabaseInMemory } from "../../worker/store/database-embedded.ts";
import { Store } from "../../worker/store/store.ts";
import { appRow, IDENTITY, id, nodeRow, serviceRow, specBody } from "./rows.ts";

export * from "./rows.ts";

export async function memoryStore(): Promise<{ store: Store; database: EmbeddedDatabase }> {
  const database = await openDatabaseInMemory();
  onTestFinished(() => database.close());
  const store = await Store.open(database);
  await store.init(IDENTITY);
  return { store, database };
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "berth-store-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export async function fileStore(
  path = join(temporaryFolder(), "berth.db"),
): Promise<{ store: Store; database: EmbeddedDatabase; path: string }> {
  const database = await openDatabaseFile(path);
  onTestFinished(() => database.close());
  const store = await Store.open(database);
  await store.init(IDENTITY);
  return { store, database, path };
}

/** Commits and expects it to be. */
export async function must(store: Store, mutation: Mutation): Promise<Extract<CommitResult, { kind: "committed" }>> {
  const result = await store.commit(mutation);
  if (result.kind !== "committed") throw new Error(`not committed: ${JSON.stringify(result)}`);
  return result;
}

/** One app with one service, its spec, its image and some nodes. */
export async function seed(store: Store, nodes = 2): Promise<void> {
  await must(store, {
    changes: [
      { op: "insert", table: "nodes", rows: Array.from({ length: nodes }, (_, i) => nodeRow(i + 1)) },
      { op: "insert", table: "apps", rows: [appRow(1)] },
      { op: "insert", table: "services", rows: [serviceRow(1, "web")] },
      { op: "insert", table: "bodies", rows: [specBody(1)] },
      {
        op: "insert",
        table: "images",
        rows: [{ appId: id("app", 1), revision: 2, reference: "registry/web:1", digest: null, imageId: null, resolver: null }],
      },
    ],
  });
}
