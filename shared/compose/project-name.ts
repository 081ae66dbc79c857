/**
 * The app's name: -p, then COMPOSE_PROJECT_NAME, then `name:`, then the directory's name, as Compose has it. Given
 * names must be right as they stand; the directory's is made right.
 */
import { NAME_PATTERN } from "../model/name.ts";
import { nameFrom } from "./app-names.ts";
import { baseNameOf } from "./paths.ts";
import type { Problems } from "./problem.ts";
import { child, type Mapping, type Mark } from "./tree.ts";

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

const nonEmpty = (text: string | undefined): string | undefined => (text === undefined || text === "" ? undefined : text);
