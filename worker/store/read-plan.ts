/** What applying a plan reads: replicas that end, and the volumes of apps that go with their data. */
import { and, eq, sql } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { apps, observations, replicas, volumes } from "./schema.ts";
import type { Store } from "./store.ts";

const isIn = (column: typeof replicas.id | typeof apps.id, values: readonly string[]) =>
  sql`${column} in (select value from json_each(${JSON.stringify(values)}))`;

export async function readEnding(
  store: Store,
  ids: readonly string[],
): Promise<{ replica: Row<"replicas">; observation: Row<"observations"> | null }[]> {
  const query = store.db
    .select({ replica: replicas, observation: observations })
    .from(replicas)
    .leftJoin(observations, eq(observations.replica, replicas.id));
  return await query.where(isIn(replicas.id, ids));
}

export async function readDropping(store: Store, appIds: readonly string[]): Promise<Row<"volumes">[]> {
  const rows = await store.db
    .select({ volume: volumes })
    .from(volumes)
    .innerJoin(apps, and(eq(apps.namespace, volumes.namespace), eq(apps.name, volumes.app), eq(apps.deleteVolumes, true)))
    .where(isIn(apps.id, appIds));
  return rows.map(({ volume }) => volume);
}
