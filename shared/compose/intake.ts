/**
 * Compose files → an app. Pure: the caller reads the disk and the environment and passes both in. Every error of the
 * project is found in one run, each with file, line, column, a stable code and what to do; what is accepted comes with
 * a report line for every key.
 */
import type { z } from "zod";
import { AppSpec } from "../model/app.ts";
import { issueWords } from "../model/issue.ts";
import type { Build } from "./build.ts";
import { buildOf } from "./build.ts";
import { checkKeys } from "./check-keys.ts";
import { checkCircles, dependenciesOf } from "./dependencies.ts";
import type { Loading } from "./files.ts";
import { loadFiles } from "./load.ts";
import { Aliases, checkDefaultNetwork, collectAliases, linksOf } from "./network.ts";
import { directoryOf } from "./paths.ts";
import { type ComposeError, type Complaint, Problems } from "./problem.ts";
import { activeServices } from "./profiles.ts";
import { projectName, withProjectName } from "./project-name.ts";
import type { ReadFile } from "./reader.ts";
import { type ComposeWarning, Report, type ReportLine } from "./report.ts";
import { Section } from "./section.ts";
import { saysRestart } from "./restart.ts";
import { serviceOf } from "./service.ts";
import { composePlaces } from "./spec-places.ts";
import { Stores } from "./stores.ts";
import { child, type Mapping, type Mark, scalarText, type Tree } from "./tree.ts";
import { type BerthExtension, extensionOf, markOf } from "./x-berth.ts";

export type ComposeInput = {
  /** The -f files in order, by absolute paths. */
  files: readonly { path: string; text: string }[];
  /** The environment with `.env` and --env-file already under it (the environment wins). */
  env: Readonly<Record<string, string>>;
  readFile: ReadFile;
  /** Chosen profiles; `*` is all. */
  profiles?: readonly string[];
  /** -p; wins over COMPOSE_PROJECT_NAME, `name:` and the directory's name. */
  projectName?: string;
  /** Where relative paths start; absent: the directory of the first file. */
  projectDirectory?: string;
  /** --build: `build:` is let through and returned. */
  allowBuild?: boolean;
};

export type ComposeResult =
  | { ok: true; app: AppSpec; report: ReportLine[]; warnings: ComposeWarning[]; builds: Build[] }
  | { ok: false; errors: ComposeError[]; report: ReportLine[]; warnings: ComposeWarning[] };

export function readCompose(input: ComposeInput): ComposeResult {
  const problems = new Problems();
  const report = new Report();
  const variables = new Map(Object.entries(input.env));
  const loading: Loading = {
    problems,
    readFile: input.readFile,
    onUnset: ({ name, at }) => report.warn("variable_unset", at, `the variable ${name} is not set; the empty string is used`),
    read: new Map(),
    extended: new WeakMap(),
  };
  const directory = input.projectDirectory ?? directoryOf(input.files[0]?.path ?? ".");
  const sources = input.files.map(({ path, text }) => ({ file: path, base: directory, text }));
  const naming = { given: input.projectName, variables, directory };
  const project = loadFiles(sources, { variables: withProjectName(sources, naming), including: [] }, loading);
  const name = projectName(project, naming, problems);
  const intake = new Intake(project, { input, problems, report, variables, loading });
  const draft = intake.app(name ?? "app");
  const failed = (): ComposeResult => ({ ok: false, errors: problems.list(), report: report.lines(), warnings: report.warnings() });
  const parsed = AppSpec.safeParse(draft.app);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) modelIssue(issue, project, problems);
    const [first] = parsed.error.issues;
    if (problems.count === 0 && first !== undefined) problems.add(complaintOf(first, { at: project.at, path: first.path.join(".") }));
  }
  if (problems.count > 0 || !parsed.success) return failed();
  return { ok: true, app: parsed.data, report: report.lines(), warnings: report.warnings(), builds: draft.builds };
}

type Context = { input: ComposeInput; problems: Problems; report: Report; variables: ReadonlyMap<string, string>; loading: Loading };
type Party = { name: string; section: Section; tree: Tree; at: Mark };

class Intake {
  readonly #project: Mapping;
  readonly #context: Context;
  readonly #active: Set<string>;
  readonly #known: Set<string>;

  constructor(project: Mapping, context: Context) {
    this.#project = project;
    this.#context = context;
    const { active, known } = activeServices(project, context.input.profiles ?? [], context);
    this.#active = active;
    this.#known = known;
  }

  app(name: string): { app: unknown; builds: Build[] } {
    const { input, problems, report, variables, loading } = this.#context;
    checkKeys(this.#project, { problems, report, allowBuild: input.allowBuild === true, isActive: (service) => this.#active.has(service) });
    const root = new Section(this.#project, "", this.#context);
    checkDefaultNetwork(root);
    const stores = new Stores(this.#project, {
      problems,
      report,
      loading,
      variables,
      directory: input.projectDirectory ?? directoryOf(input.files[0]?.path ?? "."),
    });
    const defaults = extensionOf(this.#project, "", this.#context);
    const parties = this.#parties();
    if (parties.length === 0) this.#noServices();
    const aliases = new Aliases(this.#known);
    for (const party of parties) collectAliases(party.name, party.section, { aliases, project: this.#project });
    const links = new Map(parties.map((party) => [party.name, linksOf(party.section, aliases)]));
    const services = new Map<string, ReturnType<typeof serviceOf>>();
    const builds: Build[] = [];
    for (const party of parties) {
      const { section } = party;
      const build = buildOf(section, { name: party.name, allowBuild: input.allowBuild === true, variables });
      if (build !== undefined) builds.push(build);
      this.#requireImage(party);
      const dependsOn = dependenciesOf(section, links.get(party.name) ?? [], { active: this.#active, known: this.#known });
      const extension: BerthExtension = extensionOf(party.tree, section.path, { ...this.#context, defaults });
      services.set(
        party.name,
        serviceOf(section, { name: party.name, extension, stores, loading, variables, aliases: aliases.of(party.name), dependsOn }),
      );
    }
    runOnce(services, new Set(parties.filter(({ section }) => saysRestart(section)).map(({ name: service }) => service)));
    checkCircles(
      new Map(parties.map(({ name: service, at }) => [service, { at, dependsOn: Object.keys(services.get(service)?.dependsOn ?? {}) }])),
      problems,
    );
    for (const unused of stores.unusedConfigs())
      report.approximated(unused.at, `configs.${unused.key}`, "No effect: no service of the app uses it.");
    return {
      app: {
        name,
        services: Object.fromEntries(services),
        volumes: Object.fromEntries(stores.volumes),
        configs: Object.fromEntries(stores.configs),
      },
      builds,
    };
  }

  #parties(): Party[] {
    const services = child(this.#project, "services");
    if (services?.kind !== "mapping") return [];
    return [...services.entries]
      .filter(([name]) => this.#active.has(name) && name !== "__proto__")
      .map(([name, entry]) => ({
        name,
        tree: entry.value,
        at: entry.at,
        section: new Section(entry.value, `services.${name}`, this.#context),
      }));
  }

  #requireImage(party: Party): void {
    if (party.section.has("image") || party.section.has("build") || party.tree.kind !== "mapping") return;
    this.#context.problems.add({
      code: "wrong_value",
      at: party.at,
      path: `services.${party.name}`,
      message: `the service ${party.name} has no image`,
      mend: "add image: REPOSITORY:TAG",
    });
  }

  #noServices(): void {
    const left = this.#known.size;
    this.#context.problems.add({
      code: "no_services",
      at: this.#project.at,
      path: "services",
      message:
        left === 0 ? "the project has no services" : `none of the ${left} services takes part: all have profiles that are not chosen`,
      mend: left === 0 ? "add services:" : "choose a profile with --profile",
    });
  }
}

/** What others wait for to complete is not started again for ever, unless it says so itself: Compose's own default. */
function runOnce(services: ReadonlyMap<string, ReturnType<typeof serviceOf>>, said: ReadonlySet<string>): void {
  for (const { dependsOn = {} } of services.values())
    for (const [name, { condition }] of Object.entries(dependsOn)) {
      const service = services.get(name);
      if (condition === "completed" && service !== undefined && !said.has(name)) service.workload.restart = { condition: "no" };
    }
}

/** A refusal by the model, told at the place in the file that the field came from. */
function modelIssue(issue: z.core.$ZodIssue, project: Mapping, problems: Problems): void {
  const places = composePlaces(issue.path);
  const place = places.find((keys) => has(project, keys)) ?? places.find((keys) => reaches(project, keys)) ?? places[0] ?? [];
  const path = place.reduce((text, key) => (/^[0-9]+$/.test(key) ? `${text}[${key}]` : text === "" ? key : `${text}.${key}`), "");
  // A missing image and an app without services have been told of already.
  if (problems.hasCode("no_services") || (path.endsWith(".image") && !has(project, place)) || problems.hasAt(path)) return;
  const value = valueAt(project, place);
  // What stands under environment may be a password: it is not repeated in logs.
  const isQuotable = value?.kind === "scalar" && value.value !== null && !place.includes("environment");
  const what = isQuotable ? `"${scalarText(value).slice(0, 100)}"` : "this";
  problems.add(complaintOf(issue, { at: markOf(project, place), path, what }));
}

function complaintOf(issue: z.core.$ZodIssue, { at, path, what = "this" }: { at: Mark; path: string; what?: string }): Complaint {
  const { message, mend } = issueWords(issue);
  const place = { code: "wrong_value" as const, at, path };
  if (mend !== null) return { ...place, message, mend };
  const expected = message.replace(/^(?:Invalid input|Invalid string): (?:expected )?/, "");
  return { ...place, message: `${path}: ${what} is not accepted`, mend: `expected: ${expected}` };
}

const has = (project: Mapping, keys: readonly string[]): boolean => valueAt(project, keys) !== undefined;
/** Whether the parent of the last key is there: the key itself may be missing. */
const reaches = (project: Mapping, keys: readonly string[]): boolean => has(project, keys.slice(0, -1));

function valueAt(project: Mapping, keys: readonly string[]): Tree | undefined {
  let tree: Tree | undefined = project;
  for (const key of keys) tree = tree?.kind === "sequence" ? tree.items[Number(key)] : child(tree, key);
  return tree;
}
