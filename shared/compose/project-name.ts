/**
 * The app's name: -p, then COMPOSE_PROJECT_NAME, then `name:`, then the directory's name, as Compose has it. Given
 * names must be right as they stand; the directory's is made right.
 */
import { NAME_PATTERN } from "../model/name-pattern.ts";
import { nameFrom } from "./app-names.ts";
import { interpolateTree } from "./interpolate.ts";
import { baseNameOf } from "./paths.ts";
import { Problems } from "./problem.ts";
import { child, type Mapping, type Mark, mapping } from "./tree.ts";
import { parseYaml, type YamlSource } from "./yaml.ts";

export type NameSources = { given?: string | undefined; variables: ReadonlyMap<string, string>; directory: string };

export function projectName(project: Mapping, sources: NameSources, problems: Problems): string | undefined {
  const key = child(project, "name");
  const stated = key?.kind === "scalar" && typeof key.value === "string" ? key.value : undefined;
  const fromEnvironment = sources.variables.get("COMPOSE_PROJECT_NAME");
  const start: Mark = key?.at ?? { ...project.at, line: 1, column: 1 };
  const given = nonEmpty(sources.given) ?? nonEmpty(fromEnvironment) ?? nonEmpty(stated);
  if (given !== undefined) {
    if (NAME_PATTERN.test(given)) return given;
    problems.add({
      code: "wrong_value",
      at: start,
      path: "name",
      message: `"${given}" cannot be an app's name`,
      mend: `use lower-case letters, digits, "-" and "_"${nameFrom(given) === undefined ? "" : `, e.g. ${nameFrom(given)}`}`,
    });
    return undefined;
  }
  // Compose drops what does not fit; berth's own rule for volumes would put "-" there and make another name.
  const cleaned = baseNameOf(sources.directory)
    .toLowerCase()
    .replace(/[^a-z0-9_-]/g, "");
  const name = nameFrom(cleaned);
  if (name === undefined)
    problems.add({
      code: "name_missing",
      at: start,
      path: "name",
      message: "the app has no name, and its directory's name gives none",
      mend: "add name: to the file, or use -p NAME",
    });
  return name;
}

/**
 * The variables with COMPOSE_PROJECT_NAME among them, which files may use (`container_name: ${COMPOSE_PROJECT_NAME}-db`)
 * before their merged name is known. Only then are they read twice; what is wrong in them is told the second time.
 */
export function withProjectName(files: readonly YamlSource[], sources: NameSources): ReadonlyMap<string, string> {
  if (!files.some(({ text }) => text.includes("COMPOSE_PROJECT_NAME"))) return sources.variables;
  const unheard = new Problems();
  let named: Mapping | undefined;
  for (const file of files) {
    for (const tree of parseYaml(file, unheard)) if (tree.kind === "mapping" && child(tree, "name") !== undefined) named = tree;
  }
  const how = { variables: sources.variables, problems: unheard, onUnset: () => {} };
  const stated = named === undefined ? undefined : interpolateTree(named, "", how);
  const empty = mapping([], { file: "", base: "", line: 1, column: 1 });
  const name = projectName(stated?.kind === "mapping" ? stated : empty, sources, unheard);
  return name === undefined ? sources.variables : new Map(sources.variables).set("COMPOSE_PROJECT_NAME", name);
}

const nonEmpty = (text: string | undefined): string | undefined => (text === undefined || text === "" ? undefined : text);
