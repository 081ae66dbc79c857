/** Builds Compose projects in memory for the tests: files by name, answers as the shell's reader would give them. */
import { type ComposeInput, type ComposeResult, readCompose } from "../../../shared/compose/intake.ts";
import type { ComposeError } from "../../../shared/compose/problem.ts";
import type { FileAnswer } from "../../../shared/compose/reader.ts";

export const DIRECTORY = "/projects/shop";

export type Project = Partial<Omit<ComposeInput, "files" | "readFile">> & {
  /** Texts or answers by path, from DIRECTORY. */
  disk?: Readonly<Record<string, string | FileAnswer>>;
  /** The -f files, names on the disk. */
  files?: readonly string[];
};

const absolute = (path: string): string => (path.startsWith("/") ? path : `${DIRECTORY}/${path}`);

export function read(compose: string | readonly string[], project: Project = {}): ComposeResult {
  const texts = typeof compose === "string" ? [compose] : compose;
  const disk = new Map(
    Object.entries(project.disk ?? {}).map(([path, answer]) => [
      absolute(path),
      typeof answer === "string" ? { kind: "text" as const, text: answer } : answer,
    ]),
  );
  const { disk: _, files, ...input } = project;
  return readCompose({
    env: {},
    ...input,
    files: texts.map((text, index) => ({
      path: absolute(files?.[index] ?? (index === 0 ? "compose.yaml" : `override-${index}.yaml`)),
      text,
    })),
    readFile: (path) => disk.get(path) ?? { kind: "missing" },
  });
}

export type Accepted = Extract<ComposeResult, { ok: true }>;

export function accepted(compose: string | readonly string[], project: Project = {}): Accepted {
  const result = read(compose, project);
  if (!result.ok) throw new Error(`refused:\n${result.errors.map(shown).join("\n")}`);
  return result;
}

export function refusedWith(compose: string | readonly string[], project: Project = {}): ComposeError[] {
  const result = read(compose, project);
  if (result.ok) throw new Error("accepted");
  return result.errors;
}

/** `compose.yaml:3:5 code path` */
export const shown = (error: ComposeError): string =>
  `${error.file.replace(`${DIRECTORY}/`, "")}:${error.line}:${error.column} ${error.code} ${error.path}`;

/** One service called web, of image nginx, with these lines. */
export const web = (...lines: string[]): string =>
  ["services:", "  web:", "    image: nginx", ...lines.map((line) => `    ${line}`)].join("\n");

export function workload(compose: string | readonly string[], project: Project = {}): Accepted["app"]["services"][string]["workload"] {
  const service = accepted(compose, project).app.services.web;
  if (service === undefined) throw new Error("no service web");
  return service.workload;
}

/**
 * Runs it and expects little work: far over what a linear reading takes, far under what a quadratic one would. Counted
 * in processor time, since a wall clock on a busy machine measures the machine.
 */
export function quickly(run: () => void): void {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  const spentMs = (user + system) / 1000;
  if (spentMs > 5_000) throw new Error(`took ${Math.round(spentMs)} ms of processor time`);
}
