/** `berth deploy`: Compose files → plan → yes → progress → addresses. */
import path from "node:path";
import { statSync } from "node:fs";
import type { AppSpec } from "../../shared/model/app.ts";
import { tooLarge } from "../../shared/model/app-size.ts";
import type { DeployAnswer, DeployPlan } from "../../shared/api/resources.ts";
import type { Build } from "../../shared/compose/build.ts";
import { counted } from "../../shared/text/counted.ts";
import { ApiError } from "../client/client.ts";
import type { AppDetail } from "../client/resources.ts";
import { type ComposeFilesResult, readComposeFiles } from "../compose-files.ts";
import { CliError, EXIT } from "../exit.ts";
import { emit } from "../render/output.ts";
import { planLines } from "../render/plan.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { carryOut, type ChangeOptions } from "./change.ts";
import { appPath } from "./paths.ts";

export interface DeployOptions extends ChangeOptions {
  readonly file: readonly string[];
  readonly projectName?: string;
  readonly projectDirectory?: string;
  readonly envFile: readonly string[];
  readonly profile: readonly string[];
  readonly build: boolean;
  readonly plan: boolean;
  readonly message?: string;
  /** Say what berth does with every key, not only with those it approximates. */
  readonly report: boolean;
}

/** Reading a project asks no cluster. */
type ProjectShell = Pick<Shell, "terminal" | "env" | "cwd">;

interface Project {
  readonly app: AppSpec;
  readonly builds: readonly Build[];
}

export async function deploy(shell: Shell, given: readonly string[], options: DeployOptions): Promise<void> {
  try {
    const { app, builds } = readProject(shell, given, options);
    const send = (spec: AppSpec, query: { dryRun?: true }): Promise<DeployAnswer> =>
      shell
        .client()
        .put<DeployAnswer>(
          appPath(shell.namespace, app.name),
          { spec, ...(options.message === undefined ? {} : { message: options.message }) },
          query,
        );
    const current = builds.length === 0 ? null : await currentSpec(shell, app.name);
    const before = current === null ? app : withDigests(app, digestsIn(current, builds));
    const rebuilt = current === null ? [] : rebuiltOf(current, builds);
    if (options.plan) {
      const { plan } = await send(before, { dryRun: true });
      await showPlan(shell, plan);
      for (const { image, services } of rebuilt)
        warn(shell, `a plan builds nothing: ${image} may come out different, which replaces ${services}`);
      return;
    }
    let spec = before;
    const images = [...new Set(builds.map(({ image }) => visible(image)))];
    const building = {
      images,
      announce: () => {
        for (const { image, services } of rebuilt)
          warn(shell, `${image} is built anew, which replaces ${services} where it comes out different`);
      },
      run: async () => {
        const { buildAndPush } = await import("../build/build.ts");
        spec = withDigests(app, await buildAndPush(shell, builds));
      },
    };
    await carryOut(shell, app.name, {
      ...options,
      send: (query) => send(spec, query),
      ...(images.length === 0 ? {} : { builds: building }),
    });
  } catch (error) {
    if (!options.plan || !(error instanceof CliError)) throw error;
    throw new CliError(error.message, {
      exitCode: EXIT.planError,
      details: error.details,
      cause: error,
      ...(error.next === null ? {} : { next: error.next }),
    });
  }
}

const warn = ({ terminal }: Shell, text: string): void => terminal.err(`${terminal.style.warn("!")} ${text}\n`);

/** Null: there is no such app. */
async function currentSpec(shell: Shell, name: string): Promise<AppSpec | null> {
  try {
    return (await shell.client().get<AppDetail>(appPath(shell.namespace, name))).spec;
  } catch (error) {
    if (error instanceof ApiError && error.code === "not_found") return null;
    throw error;
  }
}

const imageIn = (spec: AppSpec, service: string): string | undefined =>
  Object.hasOwn(spec.services, service) ? spec.services[service]?.workload.image : undefined;

/** What an earlier build pushed and the app has: a plan with it says what changes besides the build. */
function digestsIn(current: AppSpec, builds: readonly Build[]): ReadonlyMap<string, string> {
  return new Map(
    builds.flatMap(({ service, image }) => {
      const had = imageIn(current, service);
      return had?.startsWith(`${image}@`) ? [[image, had.slice(image.length + 1)] as const] : [];
    }),
  );
}

/** The images of services that the app has, with these services. */
function rebuiltOf(current: AppSpec, builds: readonly Build[]): { readonly image: string; readonly services: string }[] {
  const known = builds.filter(({ service }) => imageIn(current, service) !== undefined);
  return [...new Set(known.map(({ image }) => image))].map((image) => ({
    image: visible(image),
    services: known.flatMap((build) => (build.image === image ? [visible(build.service)] : [])).join(", "),
  }));
}

/** What was just pushed, and not what its tag meant at an earlier deploy. */
export function withDigests(app: AppSpec, digests: ReadonlyMap<string, string>): AppSpec {
  const services = Object.entries(app.services).map(([name, service]) => {
    const { image } = service.workload;
    const digest = digests.get(image);
    return [name, digest === undefined ? service : { ...service, workload: { ...service.workload, image: `${image}@${digest}` } }];
  });
  return { ...app, services: Object.fromEntries(services) as AppSpec["services"] };
}

/** 0: nothing to do, 1: changes; an error is 255. */
async function showPlan(shell: Shell, plan: DeployPlan): Promise<void> {
  await emit(shell, plan, () => {
    for (const text of planLines(plan, shell.terminal.style)) line(shell.terminal, text);
  });
  process.exitCode = plan.unchanged ? EXIT.ok : EXIT.failed;
}

/** Arguments are Compose files, or directories that hold one, as after `-f`. */
export function readProject(
  shell: ProjectShell,
  given: readonly string[],
  options: Pick<DeployOptions, "file" | "projectName" | "projectDirectory" | "envFile" | "profile" | "build" | "report">,
): Project {
  const named = [...options.file, ...given];
  const only = named.length === 1 ? path.resolve(shell.cwd, named[0] ?? ".") : null;
  const isDirectory = only !== null && named[0] !== "-" && statSync(only, { throwIfNoEntry: false })?.isDirectory() === true;
  const result = readComposeFiles({
    files: isDirectory ? [] : named,
    directory: isDirectory ? only : shell.cwd,
    environment: shell.env,
    envFiles: options.envFile,
    profiles: options.profile,
    allowBuild: options.build,
    ...(options.projectName === undefined ? {} : { projectName: options.projectName }),
    ...(options.projectDirectory === undefined ? {} : { projectDirectory: options.projectDirectory }),
  });
  if (!result.ok) throw composeFailure(result);
  const large = tooLarge(result.app);
  if (large !== null) throw new CliError(visible(large.message), { details: [large.mend] });
  report(shell, result, options.report);
  return { app: result.app, builds: result.builds };
}

function composeFailure(result: Extract<ComposeFilesResult, { ok: false }>): CliError {
  const details = result.errors.flatMap((error) => [
    `${visible(error.file)}:${error.line}:${error.column}  ${visible(error.message)}`,
    `    ${visible(error.mend)}  [${error.code}]`,
  ]);
  return new CliError(`the Compose ${result.files.length === 1 ? "file has" : "files have"} ${counted(result.errors.length, "problem")}`, {
    details,
  });
}

/** On standard error, so that `-o json` stays JSON. What is applied as written needs no word. */
function report(shell: ProjectShell, result: ComposeFilesResult, isWhole: boolean): void {
  const { terminal } = shell;
  for (const warning of result.warnings)
    terminal.err(`${terminal.style.warn("!")} ${visible(warning.file)}:${warning.line}  ${visible(warning.message)}\n`);
  for (const entry of result.report) {
    if (entry.status === "applied" && !isWhole) continue;
    const mark =
      entry.status === "applied"
        ? terminal.style.good("=")
        : entry.status === "approximated"
          ? terminal.style.warn("≈")
          : terminal.style.bad("✗");
    terminal.err(`${mark} ${visible(entry.file)}:${entry.line}  ${visible(entry.path)}  ${terminal.style.quiet(visible(entry.note))}\n`);
  }
}
