/**
 * What operators do to apps: deploy, change, scale, roll back, remove and make again; several of them work at once, in bursts, often on one app.
 */
import { Acts } from "./acts.ts";
import { type AppKind, type AppShape, KINDS, newShape, REGISTRY, specOf } from "./apps.ts";
import { Client } from "./client.ts";
import type { Prng } from "./prng.ts";
import type { World } from "./world.ts";

interface AppState extends AppShape {
  version: number;
  /** An operator has asked for its removal and has not deployed it since. */
  isRemoved: boolean;
}

/** One request of an operator: its name in the history, and what it draws from, so that no other moves what is drawn. */
interface Turn {
  readonly id: string;
  readonly random: Prng;
}

const TEAM = "team";
const OPERATORS = 2;
const APPS_MAX = 6;
const VERSIONS = 4;
const BAD_TAGS = ["crash1", "sick1", "missing", "slow1", "deaf1"];
/** Of what is meant to end by itself, well or not. */
const ENDING_TAGS: Partial<Record<AppKind, readonly string[]>> = { once: ["job1", "job1", "crash1"], tries: ["crash1", "job1"] };

export class Workload {
  readonly done = {
    deploys: 0,
    updates: 0,
    scales: 0,
    rollbacks: 0,
    removals: 0,
    recreated: 0,
    servicesRemoved: 0,
    bursts: 0,
  };
  readonly client: Client;
  readonly #world: World;
  readonly #acts: Acts;
  readonly #random: Prng;
  readonly #apps: AppState[] = [];
  /** Of a namespace's own deployer; the others use the admin's. */
  readonly #tokens = new Map<string, string>();

  constructor(world: World, acts = new Acts()) {
    this.#world = world;
    this.#acts = acts;
    this.#random = world.kernel.random.fork("workload");
    this.client = new Client(world);
    for (let version = 1; version <= VERSIONS; version++) world.registry.push(`${REGISTRY}/web:${version}`);
    for (const word of ["crash", "sick", "deaf", "slow", "job"]) world.registry.push(`${REGISTRY}/web:${word}1`);
  }

  /** Until `untilMs` of true time; each operator does something every `everyMs` times their number. */
  async run(untilMs: number, everyMs: number): Promise<void> {
    await this.#makeTeam();
    for (let count = 1; count <= 3; count++) await this.#deployNew(this.#turn(`o0.${count}`));
    const operators = Array.from({ length: OPERATORS }, (_, index) => index + 1);
    await Promise.all(operators.map((operator) => this.#operate(operator, { untilMs, everyMs: everyMs * OPERATORS })));
  }

  #turn(id: string): Turn {
    return { id, random: this.#random.fork(id) };
  }

  async #makeTeam(): Promise<void> {
    const random = this.#random.fork(TEAM);
    await this.client.ask({ method: "POST", path: "/v1/namespaces", body: { name: TEAM } }, random);
    for (;;) {
      const body = { name: TEAM, role: "deployer", namespace: TEAM };
      const made = await this.client.ask({ method: "POST", path: "/v1/tokens", body }, random);
      if (made.status === 0 || made.status >= 300) continue;
      const { token } = made.body as { token: string };
      this.#tokens.set(TEAM, token);
      this.#world.handOut(token);
      return;
    }
  }

  async #operate(operator: number, { untilMs, everyMs }: { readonly untilMs: number; readonly everyMs: number }): Promise<void> {
    const { kernel, operator: process } = this.#world;
    let dueMs = kernel.nowMs;
    for (let count = 1; kernel.nowMs < untilMs; count++) {
      const turn = this.#turn(`o${operator}.${count}`);
      dueMs += turn.random.between(0.2, 1.8) * everyMs;
      await kernel.pause(Math.max(0, dueMs - kernel.nowMs), process);
      if (kernel.nowMs >= untilMs) return;
      await this.#burst(turn);
    }
  }

  /** Often one thing; sometimes a few in the same moment, of which each may come between another's look and its commit. */
  async #burst(turn: Turn): Promise<void> {
    const { id, random } = turn;
    if (!random.chance(0.3)) return this.#something(this.#pick(random), turn);
    this.done.bursts++;
    const same = random.chance(0.6) ? this.#pick(random) : null;
    const parts = Array.from({ length: random.int(2, 3) }, (_, part) => this.#turn(`${id}.${part + 1}`));
    await Promise.all(parts.map((part) => this.#something(same ?? this.#pick(part.random), part)));
  }

  #pick(random: Prng): AppState | null {
    return this.#apps.length === 0 || (this.#apps.length < APPS_MAX && random.chance(0.15)) ? null : random.pick(this.#apps);
  }

  async #something(app: AppState | null, turn: Turn): Promise<void> {
    if (app === null) return this.#deployNew(turn);
    const { random } = turn;
    const dice = random.fraction();
    if (app.isRemoved) {
      app.isRemoved = false;
      this.done.recreated++;
      return this.#put(app, imageOf(app, random), turn);
    }
    if (app.kind === "pair" && dice < 0.4) {
      app.hasBack = !app.hasBack;
      if (!app.hasBack) this.done.servicesRemoved++;
      return this.#put(app, imageOf(app, random), turn);
    }
    if (dice < 0.5) {
      this.done.updates++;
      if (random.chance(0.2)) return this.#put(app, `${REGISTRY}/web:${random.pick(BAD_TAGS)}`, turn);
      app.version = (app.version % VERSIONS) + 1;
      return this.#put(app, imageOf(app, random), turn);
    }
    if (dice < 0.7) return this.#scale(app, turn);
    if (dice < 0.85) {
      this.done.rollbacks++;
      return this.#ask(app, turn, { method: "POST", path: "/rollback", body: {} });
    }
    this.done.removals++;
    app.isRemoved = true;
    const keepsData = app.kind === "data" && random.chance(0.5);
    await this.#ask(app, turn, { method: "DELETE", path: keepsData ? "" : "?deleteData=true" });
  }

  async #scale(app: AppState, turn: Turn): Promise<void> {
    if (app.kind !== "web" && app.kind !== "picky" && app.kind !== "tries") return;
    app.replicas = turn.random.int(0, 5);
    this.done.scales++;
    await this.#ask(app, turn, { method: "PATCH", path: "/services/web", body: { replicas: app.replicas } });
  }

  async #deployNew(turn: Turn): Promise<void> {
    const { random } = turn;
    const name = `app-${this.#apps.length + 1}`;
    const namespace = random.chance(0.3) ? TEAM : "default";
    const app: AppState = { ...newShape(random, { namespace, name, kind: random.pick(KINDS) }), version: 1, isRemoved: false };
    this.#apps.push(app);
    this.done.deploys++;
    await this.#put(app, imageOf(app, random), turn);
  }

  async #put(app: AppState, image: string, turn: Turn): Promise<void> {
    await this.#ask(app, turn, { method: "PUT", path: "", body: { spec: specOf(app, image), message: `change ${turn.id}` } });
  }

  async #ask(
    { namespace, name }: AppState,
    { id, random }: Turn,
    request: { readonly method: string; readonly path: string; readonly body?: unknown },
  ): Promise<void> {
    const path = `/v1/namespaces/${namespace}/apps/${name}${request.path}`;
    if (!this.#acts.begin({ id, atMs: this.#world.nowMs, what: `${request.method} ${path}` })) return;
    await this.client.ask({ ...request, path, token: this.#tokens.get(namespace) }, random.fork("ask"));
  }
}

function imageOf({ kind, version }: AppState, random: Prng): string {
  const tags = ENDING_TAGS[kind] ?? [];
  return `${REGISTRY}/web:${random.chance(0.5) ? (tags[version % tags.length] ?? version) : version}`;
}
