/**
 * Files → one merged tree: each document is parsed, interpolated, given what it includes and extends, and merged over
 * the documents before it, in that order.
 */
import { loadDocuments } from "./documents.ts";
import { applyExtends } from "./extends.ts";
import type { Loading } from "./files.ts";
import { applyInclude, type Scope } from "./include.ts";
import { mergeTrees } from "./merge.ts";
import { type Mapping, mapping } from "./tree.ts";
import type { YamlSource } from "./yaml.ts";

export function loadFiles(sources: readonly YamlSource[], scope: Scope, loading: Loading): Mapping {
  let merged: Mapping | undefined;
  for (const source of sources) {
    for (const document of loadDocuments(source, scope.variables, loading)) {
      const included = applyInclude(document, { scope: { ...scope, including: [...scope.including, source.file] }, loading, loadFiles });
      const extended = applyExtends(included, { file: source.file, variables: scope.variables }, loading);
      const next = mergeTrees(merged, extended);
      merged = next?.kind === "mapping" ? next : merged;
    }
  }
  return merged ?? mapping([], { file: sources[0]?.file ?? "", base: sources[0]?.base ?? ".", line: 1, column: 1 });
}
