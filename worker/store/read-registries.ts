import { and, asc, eq } from "drizzle-orm";
import { registryOf } from "../../shared/model/image.ts";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { apps, images, namespaces, registries } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

/** A namespace's registry credentials, sealed as they are stored; `registry`: that one alone. */
export async function readRegistries(
  store: Store,
  namespace: string,
  registry?: string,
): Promise<{ marks: Marks; namespace: Row<"namespaces"> | null; registries: Row<"registries">[] }> {
  const isIn = eq(registries.namespace, namespace);
  const [namespaceRows, rows, marks] = await store.selectAll([
    store.db.select().from(namespaces).where(eq(namespaces.name, namespace)),
    store.db
      .select()
      .from(registries)
      .where(registry === undefined ? isIn : and(isIn, eq(registries.registry, registry)))
      .orderBy(asc(registries.registry)),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), namespace: namespaceRows[0] ?? null, registries: rows };
}

/** Revisions whose images come from this registry: what their nodes pull with has changed. */
export async function readRevisionsUsing(
  store: Store,
  namespace: string,
  registry: string,
): Promise<{ readonly appId: string; readonly revision: number }[]> {
  const [rows] = await store.selectAll([
    store.db
      .select({ appId: images.appId, revision: images.revision, reference: images.reference })
      .from(images)
      .innerJoin(apps, eq(apps.id, images.appId))
      .where(eq(apps.namespace, namespace)),
  ]);
  return rows.filter(({ reference }) => registryOf(reference) === registry).map(({ appId, revision }) => ({ appId, revision }));
}
