import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseDotenv } from "../../../shared/compose/dotenv.ts";
import { readCompose } from "../../../shared/compose/intake.ts";
import type { FileAnswer } from "../../../shared/compose/reader.ts";
import { CASES, CORPUS, type CorpusCase, PROJECT_DIRECTORY, REFERENCE } from "./corpus.ts";
import type { NormalApp, NormalService } from "./normal.ts";
import { normalApp } from "./normal-app.ts";
import { normalReference } from "./normal-reference.ts";
import { shown } from "./project.ts";

/**
 * Where berth means to differ from docker-compose 1.29, and why. Each takes the reference's service and returns what
 * berth should make of it; everything not listed here must be equal.
 */
const DIFFERENCES: readonly { why: string; apply: (service: NormalService) => NormalService }[] = [
  {
    why: "berth keeps running what it was given: an unset restart is always, and unless-stopped has no meaning of its own",
    apply: (service) =>
      service.restart.condition === "unset" || service.restart.condition === "unless-stopped"
        ? { ...service, restart: { condition: "always" } }
        : service,
  },
  {
    why: "every node of berth runs Linux and is a worker, so a constraint that says so is met everywhere and left out",
    apply: (service) => ({ ...service, constraints: service.constraints.filter((line) => line !== "node.platform.os = linux") }),
  },
];

/** Differences of one value in one project: what the reference says, what berth says, and why. */
const SINGLE: Readonly<Record<string, readonly { why: string; apply: (app: NormalApp) => void }[]>> = {
  "07-immich": [
    {
      why: "1.29 takes disable: false for disable: true; the specification does not",
      apply: (app) => setIn(app, "immich-server", { healthcheck: { test: ["CMD-SHELL", "immich-healthcheck"] } }),
    },
  ],
  "11-swarm-voting": [
    {
      why: "Swarm takes a spread and a most a node for a global service and does nothing with them; the report says so",
      apply: (app) => setIn(app, "visualizer", { spreadBy: [], maxPerNode: undefined }),
    },
  ],
  "21-laravel": [
    {
      why: "1.29 leaves $$ in .env as it is; Compose's present rules make it one dollar sign, as in the Compose file",
      apply: (app) => {
        const mysql = app.services.mysql;
        setIn(app, "mysql", {
          env: { ...mysql?.env, MYSQL_ROOT_PASSWORD: "pa$word#1" },
          healthcheck: { test: ["CMD", "mysqladmin", "ping", "-ppa$word#1"], retries: 3, timeoutMs: 5000 },
        });
      },
    },
  ],
  "46-strings": [
    {
      why: "1.29 reads YAML 1.1, where the key YES is true and 1e3 is a word; Compose's present YAML keeps YES and takes 1e3 for the number 1000",
      apply: (app) => {
        const { true: yes, ...env } = app.services.yaml?.env ?? {};
        setIn(app, "yaml", { env: { ...env, YES: yes ?? "", EXP: "1000" } });
      },
    },
  ],
};

function setIn(app: NormalApp, name: string, changes: Partial<NormalService>): void {
  const service = app.services[name];
  if (service === undefined) throw new Error(`the reference has no service ${name}`);
  app.services[name] = { ...service, ...changes };
}

function readCase({ name, files, env, profiles }: CorpusCase): ReturnType<typeof readCompose> {
  const readFile = (path: string): FileAnswer => {
    try {
      return { kind: "text", text: readFileSync(new URL(`${name}${path.slice(PROJECT_DIRECTORY.length)}`, CORPUS), "utf8") };
    } catch {
      return { kind: "missing" };
    }
  };
  const outer = new Map(Object.entries(env));
  const dotenv = readFile(`${PROJECT_DIRECTORY}/.env`);
  const known = dotenv.kind === "text" ? parseDotenv(dotenv.text, outer).variables : new Map<string, string>();
  return readCompose({
    files: files.map((file) => ({ path: `${PROJECT_DIRECTORY}/${file}`, text: readFileSync(new URL(`${name}/${file}`, CORPUS), "utf8") })),
    env: Object.fromEntries([...known, ...outer]),
    profiles,
    readFile,
  });
}

describe("the corpus against docker-compose 1.29", () => {
  test("has 50 projects", () => {
    expect(CASES).toHaveLength(50);
  });

  test.each(CASES)("$name", (project) => {
    const result = readCase(project);
    expect(result.ok ? [] : result.errors.map((error) => `${shown(error)}: ${error.message}`)).toEqual([]);
    if (!result.ok) return;
    const config: unknown = JSON.parse(readFileSync(new URL(`${project.name}.json`, REFERENCE), "utf8"));
    const reference = normalReference(project.name, config);
    // `config` prints services of every profile.
    for (const name of Object.keys(reference.services)) if (!(name in result.app.services)) delete reference.services[name];
    for (const [name, service] of Object.entries(reference.services))
      reference.services[name] = DIFFERENCES.reduce((changed, { apply }) => apply(changed), service);
    for (const { apply } of SINGLE[project.name] ?? []) apply(reference);
    expect(normalApp(result.app)).toEqual(reference);
  });
});
