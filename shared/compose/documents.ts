/** The documents of one file: parsed, and interpolated with the variables of the project that names it. */
import type { Loading } from "./files.ts";
import { interpolateTree, type Variables } from "./interpolate.ts";
import { mergeTrees } from "./merge.ts";
import { type Mapping, mapping, type Tree } from "./tree.ts";
import { parseYaml, type YamlSource } from "./yaml.ts";

/** The interpolated documents of one file that are mappings. */
export function loadDocuments(source: YamlSource, variables: Variables, loading: Loading): Mapping[] {
  const documents: Mapping[] = [];
  for (const tree of parseYaml(source, loading.problems)) {
    const filled = interpolateTree(tree, "", { variables, problems: loading.problems, onUnset: loading.onUnset });
    if (filled.kind === "mapping") documents.push(filled);
    else
      loading.problems.add({
        code: "wrong_type",
        at: filled.at,
        path: "",
        message: "a Compose file is a mapping with services: in it",
        mend: "begin with services:",
      });
  }
  return documents;
}

/** One document of several merged: what an extended file is. */
export function loadExtended(source: YamlSource, variables: Variables, loading: Loading): Mapping {
  const parsed = loading.extended.get(variables) ?? new Map<string, Mapping>();
  loading.extended.set(variables, parsed);
  const known = parsed.get(source.file);
  if (known !== undefined) return known;
  let merged: Tree | undefined;
  for (const document of loadDocuments(source, variables, loading)) merged = mergeTrees(merged, document);
  const whole = merged?.kind === "mapping" ? merged : mapping([], { file: source.file, base: source.base, line: 1, column: 1 });
  parsed.set(source.file, whole);
  return whole;
}
