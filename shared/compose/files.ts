/** Files that a project names, read once each through the shell's reader, with a problem where one cannot be used. */
import { parseDotenv } from "./dotenv.ts";
import type { UnsetVariable, Variables } from "./interpolate.ts";
import type { ComposeErrorCode, Problems } from "./problem.ts";
import type { FileAnswer, ReadFile } from "./reader.ts";
import type { Mapping, Mark } from "./tree.ts";

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

export function reportDotenv(
  path: string,
  found: readonly { line: number; reason: string }[],
  to: { problems: Problems; base: string },
): void {
  for (const { line, reason } of found) {
    to.problems.add({
      code: "env_file_syntax",
      at: { file: path, base: to.base, line, column: 1 },
      path: "",
      message: reason,
      mend: "write NAME=value, with quotes around a value that spans lines",
    });
  }
}
