/**
 * `include`: another Compose project as a part of this one. It is read on its own, with its own directory and
 * environment, and its services, volumes, networks, configs and secrets are added; the same name with other content
 * is a conflict.
 */
import { type Loading, readText, withEnvFile } from "./files.ts";
import type { Variables } from "./interpolate.ts";
import { directoryOf, resolvePath } from "./paths.ts";
import { child, type Entry, type Mapping, mapping, type Mark, scalarText, toData, type Tree, withEntry, withoutKey } from "./tree.ts";
import type { YamlSource } from "./yaml.ts";

const SECTIONS = ["services", "volumes", "networks", "configs", "secrets", "models"] as const;
/** Projects include libraries that include a base: 3. This bounds recursion. */
const INCLUDE_DEPTH_MAX = 20;

export type Scope = {
  readonly variables: Variables;
  /** Files being included around this one, outermost first. */
  readonly including: readonly string[];
};

/** An included project is loaded as the including one is: its loader is passed in, since it includes in turn. */
export type Within = {
  scope: Scope;
  loading: Loading;
  loadFiles: (sources: readonly YamlSource[], scope: Scope, loading: Loading) => Mapping;
};

export function applyInclude(document: Mapping, within: Within): Mapping {
  const { loading } = within;
  const include = document.entries.get("include");
  if (include === undefined) return document;
  let result = withoutKey(document, "include");
  if (include.value.kind !== "sequence") {
    loading.problems.add({
      code: "wrong_type",
      at: include.value.at,
      path: "include",
      message: "include takes a list",
      mend: "write include: [other/compose.yaml]",
    });
    return result;
  }
  for (const [index, item] of include.value.items.entries()) {
    const included = loadIncluded(item, `include[${index}]`, within);
    if (included !== undefined) result = adopt(result, included, loading);
  }
  return result;
}

function loadIncluded(item: Tree, path: string, within: Within): Mapping | undefined {
  const { scope, loading } = within;
  const files = strings(item.kind === "scalar" ? item : child(item, "path"));
  if (files === undefined || files.length === 0) {
    loading.problems.add({
      code: "wrong_type",
      at: item.at,
      path,
      message: "an include takes a path, or a mapping with path:",
      mend: "write - path: other/compose.yaml",
    });
    return undefined;
  }
  const first = resolvePath(item.at.base, files[0]?.text ?? "");
  const directory = child(item, "project_directory");
  const base =
    directory?.kind === "scalar" && directory.value !== null ? resolvePath(item.at.base, scalarText(directory)) : directoryOf(first);
  const sources: YamlSource[] = [];
  for (const { text, at } of files) {
    const file = resolvePath(item.at.base, text);
    if (scope.including.includes(file) || scope.including.length > INCLUDE_DEPTH_MAX) {
      loading.problems.add({
        code: "include_cycle",
        at,
        path,
        message: `include goes in a circle: ${[...scope.including, file].join(" → ")}`,
        mend: "take the include out of one of these files",
      });
      return undefined;
    }
    const read = readText(file, { at, keyPath: path, what: "the included file" }, loading);
    if (read !== undefined) sources.push({ file, base, text: read });
  }
  if (sources.length === 0) return undefined;
  const variables = includedVariables(item, { base, path }, within);
  return within.loadFiles(sources, { ...scope, variables }, loading);
}

/** The including project's variables win over the included one's `.env`, which only gives defaults. */
function includedVariables(item: Tree, at: { base: string; path: string }, within: Within): ReadonlyMap<string, string> {
  const { scope, loading } = within;
  const named = item.kind === "mapping" ? child(item, "env_file") : undefined;
  if (named === undefined) {
    const implied = `${at.base}/.env`;
    const answer = loading.readFile(implied);
    return answer.kind === "text" ? withEnvFile(implied, answer.text, { known: scope.variables, loading, at: item.at }) : scope.variables;
  }
  let known = scope.variables;
  // Later files win over earlier ones, and the outer variables over all of them.
  for (const { text, at: mark } of (strings(named) ?? []).toReversed()) {
    const file = resolvePath(mark.base, text);
    const read = readText(file, { at: mark, keyPath: `${at.path}.env_file`, what: "the env file" }, loading);
    if (read !== undefined) known = withEnvFile(file, read, { known, loading, at: mark });
  }
  return known;
}

function adopt(document: Mapping, included: Mapping, loading: Loading): Mapping {
  let result = document;
  for (const section of SECTIONS) {
    const theirs = child(included, section);
    if (theirs?.kind !== "mapping") continue;
    const ours = child(result, section);
    const entries = new Map<string, Entry>(ours?.kind === "mapping" ? ours.entries : []);
    for (const [name, entry] of theirs.entries) {
      const known = entries.get(name);
      if (known === undefined) entries.set(name, entry);
      else if (JSON.stringify(toData(known.value)) !== JSON.stringify(toData(entry.value))) {
        loading.problems.add({
          code: "include_conflict",
          at: known.at,
          path: `${section}.${name}`,
          message: `${section}.${name} is also defined by the included ${entry.at.file}, differently`,
          mend: "rename one, or change the included one from an override file (-f compose.yaml -f override.yaml)",
        });
      }
    }
    const at = result.entries.get(section)?.at ?? theirs.at;
    result = withEntry(result, section, { at, value: mapping(entries, ours?.at ?? theirs.at) });
  }
  return result;
}

function strings(tree: Tree | undefined): { text: string; at: Mark }[] | undefined {
  if (tree?.kind === "scalar" && tree.value !== null) return [{ text: scalarText(tree), at: tree.at }];
  if (tree?.kind !== "sequence") return undefined;
  const found: { text: string; at: Mark }[] = [];
  for (const item of tree.items) {
    if (item.kind !== "scalar" || item.value === null) return undefined;
    found.push({ text: scalarText(item), at: item.at });
  }
  return found;
}
