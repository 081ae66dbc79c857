/**
 * Files → one merged tree: each document is parsed, interpolated, given what it includes and extends, and merged over
 * the documents before it, in that order.
 */
import { parseDotenv } from "./dotenv.ts";
import { applyExtends } from "./extends.ts";
import { applyInclude } from "./include.ts";
import { interpolateTree, type UnsetVariable, type Variables } from "./interpolate.ts";
import { mergeTrees } from "./merge.ts";
import type { ComposeErrorCode, Problems } from "./problem.ts";
import type { FileAnswer, ReadFile } from "./reader.ts";
import { type Mapping, type Mark, mapping, type Tree } from "./tree.ts";
import { parseYaml, type YamlSource } from "./yaml.ts";

/** A project of 500 services in a file each, and half as many env files. */
const FILES_MAX = 750;

export type Loading = {
  readonly problems: Problems;
  readonly readFile: ReadFile;
  readonly onUnset: (variable: UnsetVariable) => void;
  /** Texts by path: a file extended by fifty services is read once. */
  readonly read: Map<string, FileAnswer>;
  /** Extended files by the variables they were read with, parsed once each. */
  readonly extended: WeakMap<Variables, Map<string, Mapping>>;
};

export type Scope = {
  readonly variables: Variables;
  /** Files being included around this one, outermost first. */
  readonly including: readonly string[];
};

export function loadFiles(sources: readonly YamlSource[], scope: Scope, loading: Loading): Mapping {
  let merged: Mapping | undefined;
  for (const source of sources) {
    for (const document of loadDocuments(source, scope.variables, loading)) {
      const included = applyInclude(document, { ...scope, including: [...scope.including, source.file] }, loading);
      const extended = applyExtends(included, { file: source.file, variables: scope.variables }, loading);
      const next = mergeTrees(merged, extended);
      merged = next?.kind === "mapping" ? next : merged;
    }
  }
  return merged ?? mapping([], { file: sources[0]?.file ?? "", base: sources[0]?.base ?? ".", line: 1, column: 1 });
}

/** The interpolated documents of one file that are mappings. */
export function loadDocuments(source: YamlSource, variables: Variables, loading: Loading): Mapping[] {
  const documents: Mapping[] = [];
  for (const tree of parseYaml(source, loading.problems)) {
    const filled = interpolateTree(tree, "", { variables, problems: loading.problems, onUnset: loading.onUnset });
    if (filled.kind === "mapping") documents.push(filled);
    else loading.problems.add({ code: "wrong_type", at: filled.at, path: "", message: "a Compose file is a mapping with services: in it", mend: "begin with services:" });
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

/** What to say about a file that cannot be used, by the reader's answer. */
const ANSWERS: Readonly<Record<Exclude<FileAnswer["kind"], "text">, { code: ComposeErrorCode; says: string; mend: string }>> = {
  missing: { code: "file_missing", says: "does not exist", mend: "check the path; it starts from the directory of the file that names it" },
  directory: { code: "file_unreadable", says: "is a directory", mend: "name a file" },
  binary: { code: "file_not_text", says: "is not UTF-8 text", mend: "put it into the image or a volume" },
  "too-large": { code: "file_too_large", says: "is larger than 1 MB", mend: "put it into the image or a volume" },
  unreadable: { code: "file_unreadable", says: "cannot be read", mend: "check its permissions" },
};

/** The text at `path`, or undefined with a problem added at `at`. */
export function readText(path: string, from: { at: Mark; keyPath: string; what: string }, loading: Loading): string | undefined {
  const answer = answerFor(path, loading);
  if (answer.kind === "text") return answer.text;
  const { code, says, mend } = ANSWERS[answer.kind];
  const reason = answer.kind === "unreadable" ? ` (${answer.reason})` : "";
  loading.problems.add({ code, at: from.at, path: from.keyPath, message: `${from.what} ${path} ${says}${reason}`, mend });
  return undefined;
}

export function answerFor(path: string, loading: Loading): FileAnswer {
  const known = loading.read.get(path);
  if (known !== undefined) return known;
  if (loading.read.size >= FILES_MAX) return { kind: "unreadable", reason: `the project names more than ${FILES_MAX} files` };
  const answer = loading.readFile(path);
  loading.read.set(path, answer);
  return answer;
}

/** Variables of an env file over what is known; `known` wins where both have a name. */
export function withEnvFile(path: string, text: string, place: { known: Variables; loading: Loading; at: Mark }): Map<string, string> {
  const parsed = parseDotenv(text, place.known);
  reportDotenv(path, parsed.problems, { problems: place.loading.problems, base: place.at.base });
  return new Map([...parsed.variables, ...place.known]);
}

export function reportDotenv(path: string, found: readonly { line: number; reason: string }[], to: { problems: Problems; base: string }): void {
  for (const { line, reason } of found) {
    to.problems.add({ code: "env_file_syntax", at: { file: path, base: to.base, line, column: 1 }, path: "", message: reason, mend: "write NAME=value, with quotes around a value that spans lines" });
  }
}
