import { and, asc, eq } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { namespaces, registries } from "./schema.ts";
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
    marksQuery(store),
  ]);
  return { marks: marksIn(marks), namespace: namespaceRows[0] ?? null, registries: rows };
}
