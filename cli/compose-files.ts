/**
 * Finds and reads the Compose files of a project for the pure intake in `shared/compose`: -f files or discovery with
 * override files, `.env` and --env-file, and whatever those name (include, extends, env_file, configs). Everything
 * here is reading; what it means is decided there.
 */
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parseDotenv } from "../shared/compose/dotenv.ts";
import { type ComposeResult, readCompose } from "../shared/compose/intake.ts";
import type { ComposeError } from "../shared/compose/problem.ts";
import type { FileAnswer } from "../shared/compose/reader.ts";

/** As the intake's own limit: one body of the API. */
const FILE_BYTES_MAX = 1_000_000;
const DEFAULT_NAMES = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const OVERRIDE_NAMES: Readonly<Record<string, readonly string[]>> = {
  compose: ["compose.override.yaml", "compose.override.yml"],
  "docker-compose": ["docker-compose.override.yaml", "docker-compose.override.yml"],
};

export type ComposeFilesOptions = {
  /** -f, in order; `-` is standard input. Empty: COMPOSE_FILE, else discovery from `directory` upwards. */
  files: readonly string[];
  /** The working directory, absolute. */
  directory: string;
  environment: Readonly<Record<string, string | undefined>>;
  /** --env-file, in order; empty: COMPOSE_ENV_FILES, else `.env` of the project. */
  envFiles?: readonly string[];
  /** --profile; empty: COMPOSE_PROFILES. */
  profiles?: readonly string[];
  /** -p */
  projectName?: string;
  /** --project-directory */
  projectDirectory?: string;
  /** --build */
  allowBuild?: boolean;
};

/** The intake's result, with the paths of the files that make up the project relative to the working directory. */
export type ComposeFilesResult = ComposeResult & { files: string[] };

export function readComposeFiles(options: ComposeFilesOptions): ComposeFilesResult {
  const errors: ComposeError[] = [];
  const given = definedOnly(options.environment);
  const explicit = options.files.length > 0 ? [...options.files] : filesFromEnvironment(options, given);
  const paths =
    explicit.length > 0
      ? explicit.map((file) => (file === "-" ? "-" : path.resolve(options.directory, file)))
      : discover(options.directory);
  const first = paths.find((file) => file !== "-");
  const projectDirectory = path.resolve(options.directory, options.projectDirectory ?? (first === undefined ? "." : path.dirname(first)));
  const env = environmentOf(options, { given, projectDirectory, errors });
  const files: { path: string; text: string }[] = [];
  for (const file of paths) {
    const answer = file === "-" ? readAnswer(0) : readPath(file);
    const name = file === "-" ? path.join(options.directory, "stdin") : file;
    if (answer.kind === "text") files.push({ path: name, text: answer.text });
    else errors.push(fileError(name, answer));
  }
  if (paths.length === 0) {
    errors.push({
      code: "file_missing",
      message: `no ${DEFAULT_NAMES.join(", ")} in ${options.directory} or above`,
      mend: "name the file with -f",
      path: "",
      file: options.directory,
      line: 1,
      column: 1,
    });
  }
  const relative = relativeTo(options.directory);
  if (errors.length > 0)
    return {
      ok: false,
      errors: errors.map(relative),
      report: [],
      warnings: [],
      files: paths.map((file) => path.relative(options.directory, file)),
    };
  const profiles = options.profiles !== undefined && options.profiles.length > 0 ? options.profiles : listOf(env.COMPOSE_PROFILES, ",");
  const result = readCompose({
    files,
    env,
    readFile: readPath,
    profiles,
    projectDirectory,
    ...(options.projectName === undefined ? {} : { projectName: options.projectName }),
    ...(options.allowBuild === undefined ? {} : { allowBuild: options.allowBuild }),
  });
  const shown = {
    report: result.report.map(relative),
    warnings: result.warnings.map(relative),
    files: files.map((file) => path.relative(options.directory, file.path)),
  };
  return result.ok ? { ...result, ...shown } : { ...result, ...shown, errors: result.errors.map(relative) };
}

const relativeTo =
  (directory: string) =>
  <Placed extends { file: string }>(placed: Placed): Placed => {
    const shorter = path.relative(directory, placed.file);
    return { ...placed, file: shorter === "" || shorter.startsWith("../../..") ? placed.file : shorter };
  };

const definedOnly = (environment: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

const listOf = (text: string | undefined, separator: string): string[] =>
  text === undefined || text === "" ? [] : text.split(separator).filter((part) => part !== "");

function filesFromEnvironment(options: ComposeFilesOptions, given: Readonly<Record<string, string>>): string[] {
  const dotenv = readPath(path.join(options.directory, ".env"));
  const fromFile = dotenv.kind === "text" ? parseDotenv(dotenv.text, new Map(Object.entries(given))).variables : new Map<string, string>();
  const files = given.COMPOSE_FILE ?? fromFile.get("COMPOSE_FILE");
  return listOf(files, given.COMPOSE_PATH_SEPARATOR ?? fromFile.get("COMPOSE_PATH_SEPARATOR") ?? ":");
}

/** The first directory upwards that holds a Compose file, with its override file. */
function discover(from: string): string[] {
  for (let directory = from; ; directory = path.dirname(directory)) {
    const found = DEFAULT_NAMES.map((name) => path.join(directory, name)).find(isFile);
    if (found !== undefined) {
      const stem = path.basename(found).replace(/\.ya?ml$/, "");
      const override = (OVERRIDE_NAMES[stem] ?? []).map((name) => path.join(directory, name)).find(isFile);
      return override === undefined ? [found] : [found, override];
    }
    if (path.dirname(directory) === directory) return [];
  }
}

function isFile(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

type EnvironmentContext = { given: Readonly<Record<string, string>>; projectDirectory: string; errors: ComposeError[] };

/** The environment over the env files, of which a later one wins over an earlier. */
function environmentOf(options: ComposeFilesOptions, context: EnvironmentContext): Record<string, string> {
  const named =
    options.envFiles !== undefined && options.envFiles.length > 0 ? options.envFiles : listOf(context.given.COMPOSE_ENV_FILES, ",");
  const files =
    named.length > 0 ? named.map((file) => path.resolve(options.directory, file)) : [path.join(context.projectDirectory, ".env")];
  const outer = new Map(Object.entries(context.given));
  const variables = new Map<string, string>();
  for (const file of files) {
    const answer = readPath(file);
    if (answer.kind === "missing" && named.length === 0) continue;
    if (answer.kind !== "text") {
      context.errors.push(fileError(file, answer));
      continue;
    }
    const parsed = parseDotenv(answer.text, new Map([...variables, ...outer]));
    for (const { line, reason } of parsed.problems) {
      context.errors.push({
        code: "env_file_syntax",
        message: reason,
        mend: "write NAME=value, with quotes around a value that spans lines",
        path: "",
        file,
        line,
        column: 1,
      });
    }
    for (const [name, value] of parsed.variables) variables.set(name, value);
  }
  return { ...Object.fromEntries(variables), ...context.given };
}

function fileError(file: string, answer: Exclude<FileAnswer, { kind: "text" }>): ComposeError {
  const place = { path: "", file, line: 1, column: 1 };
  switch (answer.kind) {
    case "missing":
      return { ...place, code: "file_missing", message: `${file} does not exist`, mend: "check the path" };
    case "directory":
      return { ...place, code: "file_unreadable", message: `${file} is a directory`, mend: "name a file in it" };
    case "binary":
      return { ...place, code: "file_not_text", message: `${file} is not UTF-8 text`, mend: "save it as UTF-8" };
    case "too-large":
      return {
        ...place,
        code: "file_too_large",
        message: `${file} has ${answer.bytes} bytes; at most ${FILE_BYTES_MAX} are read`,
        mend: "split it with include:",
      };
    case "unreadable":
      return { ...place, code: "file_unreadable", message: `${file} cannot be read (${answer.reason})`, mend: "check its permissions" };
  }
}

/** What is at a path. A named pipe or device is not read: it could block for ever. */
export function readPath(file: string): FileAnswer {
  try {
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) return { kind: "missing" };
    if (stat.isDirectory()) return { kind: "directory" };
    if (!stat.isFile()) return { kind: "unreadable", reason: "not a regular file" };
    if (stat.size > FILE_BYTES_MAX) return { kind: "too-large", bytes: stat.size };
    const answer = readAnswer(file);
    return answer.kind === "text" && (stat.mode & 0o111) !== 0 ? { ...answer, executable: true } : answer;
  } catch (error) {
    return { kind: "unreadable", reason: reasonOf(error) };
  }
}

function readAnswer(file: string | 0): FileAnswer {
  try {
    const bytes = readFileSync(file);
    if (bytes.byteLength > FILE_BYTES_MAX) return { kind: "too-large", bytes: bytes.byteLength };
    return { kind: "text", text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch (error) {
    if (error instanceof TypeError) return { kind: "binary" };
    return { kind: "unreadable", reason: reasonOf(error) };
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "unknown");
