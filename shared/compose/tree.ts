/**
 * A YAML document as positioned values. Compose needs more than plain objects: every message names file, line and
 * column, values keep their place through merge, `extends` and `include`, and a key called `__proto__` is only a key.
 * Trees are never changed in place; each stage returns new ones.
 */

/** 1-based place of a value. `base` is the directory that relative paths written there start from. */
export type Mark = { readonly file: string; readonly base: string; readonly line: number; readonly column: number };

/** `!reset` removes what earlier files said, `!override` replaces instead of merging. */
export type MergeTag = "merge" | "reset" | "override";

export type ScalarValue = string | number | boolean | null;
export type Scalar = { readonly kind: "scalar"; readonly value: ScalarValue; readonly at: Mark; readonly tag: MergeTag };
export type Sequence = { readonly kind: "sequence"; readonly items: readonly Tree[]; readonly at: Mark; readonly tag: MergeTag };
export type Entry = { readonly at: Mark; readonly value: Tree };
export type Mapping = { readonly kind: "mapping"; readonly entries: ReadonlyMap<string, Entry>; readonly at: Mark; readonly tag: MergeTag };
export type Tree = Scalar | Sequence | Mapping;

export const scalar = (value: ScalarValue, at: Mark): Scalar => ({ kind: "scalar", value, at, tag: "merge" });
export const sequence = (items: readonly Tree[], at: Mark): Sequence => ({ kind: "sequence", items, at, tag: "merge" });
export const mapping = (entries: Iterable<readonly [string, Entry]>, at: Mark): Mapping => ({
  kind: "mapping",
  entries: new Map(entries),
  at,
  tag: "merge",
});

export const isNull = (tree: Tree): boolean => tree.kind === "scalar" && tree.value === null;

/** The value of a key, or undefined where there is none or the tree is no mapping. */
export const child = (tree: Tree | undefined, key: string): Tree | undefined =>
  tree?.kind === "mapping" ? tree.entries.get(key)?.value : undefined;

export function withEntry(tree: Mapping, key: string, entry: Entry): Mapping {
  return { ...tree, entries: new Map(tree.entries).set(key, entry) };
}

export function withoutKey(tree: Mapping, key: string): Mapping {
  if (!tree.entries.has(key)) return tree;
  const entries = new Map(tree.entries);
  entries.delete(key);
  return { ...tree, entries };
}

/**
 * The text of a scalar as Compose prints it where a string is wanted. Numbers lose their spelling (`1.10` is `1.1`),
 * as in every Compose implementation, because YAML has typed them before Compose sees them.
 */
export function scalarText(tree: Scalar): string {
  if (tree.value === null) return "";
  return String(tree.value);
}

/** Plain data for messages, comparisons and zod. Objects have no prototype, so no key is special. */
export function toData(tree: Tree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "sequence") return tree.items.map(toData);
  const data: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [key, entry] of tree.entries) data[key] = toData(entry.value);
  return data;
}
