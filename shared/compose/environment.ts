/** `environment`, `env_file`, `labels` and `label_file`. */
import { parseDotenv } from "./dotenv.ts";
import { answerFor, type Loading, readText, reportDotenv } from "./files.ts";
import { resolvePath } from "./paths.ts";
import type { Section } from "./section.ts";
import type { Mark } from "./tree.ts";

type Sources = { variables: ReadonlyMap<string, string>; loading: Loading };
type Strings = Record<string, string>;

/** Records that users fill have no prototype, so `__proto__` is a name like any other until the model refuses it. */
const emptyRecord = (): Strings => Object.create(null) as Strings;

export function environmentOf(service: Section, sources: Sources): Strings {
  const env = emptyRecord();
  for (const file of envFiles(service)) {
    if (!file.required && answerFor(file.path, sources.loading).kind === "missing") continue;
    const text = readText(file.path, { at: file.at, keyPath: file.keyPath, what: "the env file" }, sources.loading);
    if (text === undefined) continue;
    const parsed = parseDotenv(text, sources.variables, file.raw ? "raw" : "compose");
    reportDotenv(file.path, parsed.problems, { problems: sources.loading.problems, base: file.at.base });
    for (const [name, value] of parsed.variables) env[name] = value;
  }
  for (const { key, value } of service.pairs("environment")) {
    const given = value ?? sources.variables.get(key);
    if (given === undefined) delete env[key];
    else env[key] = given;
  }
  return env;
}

type EnvFile = { path: string; raw: boolean; required: boolean; at: Mark; keyPath: string };

function envFiles(service: Section): EnvFile[] {
  const files: EnvFile[] = [];
  for (const item of service.items("env_file")) {
    if (item.value.kind === "scalar") {
      files.push({
        path: resolvePath(item.at.base, String(item.value.value)),
        raw: false,
        required: true,
        at: item.at,
        keyPath: item.path,
      });
      continue;
    }
    const long = service.within(item);
    const path = long.text("path");
    const format = long.text("format");
    if (path === undefined) long.wrong(item, "an env_file needs path:", "write path: FILE");
    if (format !== undefined && format.value !== "raw")
      long.wrong(format, `"${format.value}" is no format of an env file`, "write raw, or remove it");
    if (path !== undefined)
      files.push({
        path: resolvePath(path.at.base, path.value),
        raw: format?.value === "raw",
        required: long.boolean("required") ?? true,
        at: path.at,
        keyPath: path.path,
      });
  }
  return files;
}

export function labelsOf(service: Section, sources: Sources): Strings {
  const labels = emptyRecord();
  for (const file of service.strings("label_file")) {
    const path = resolvePath(file.at.base, file.value);
    const text = readText(path, { at: file.at, keyPath: file.path, what: "the label file" }, sources.loading);
    if (text === undefined) continue;
    const parsed = parseDotenv(text, new Map());
    reportDotenv(path, parsed.problems, { problems: sources.loading.problems, base: file.at.base });
    for (const [name, value] of parsed.variables) labels[name] = value;
  }
  for (const { key, value } of service.pairs("labels")) labels[key] = value ?? "";
  for (const key of Object.keys(labels)) {
    if (!key.startsWith("berth.")) continue;
    const at = service.pairs("labels").find((pair) => pair.key === key)?.at ?? service.at;
    if (at !== undefined)
      service.refuse({ at, path: `${service.path}.labels.${key}` }, "labels that begin with berth. are berth's own", "choose another key");
    delete labels[key];
  }
  return labels;
}
