/** What operators do to a cluster: deploy, change, scale, roll back, remove, cordon; each answered or not, and tried again as a careful client would. */
import { Acts } from "./acts.ts";
import type { Prng } from "./prng.ts";
import type { OperatorAnswer, World } from "./world.ts";

interface AppState {
  readonly name: string;
  readonly kind: AppKind;
  readonly rollsBack: boolean;
  replicas: number;
  version: number;
  /** What the operator last asked for and does not know the fate of. */
  isRemoved: boolean;
}

type AppKind = "web" | "port" | "data" | "everywhere" | "pair";
const KINDS: readonly AppKind[] = ["web", "web", "port", "data", "everywhere", "pair"];
const REGISTRY = "registry.test";
const VERSIONS = 4;

export const HEALTHCHECK = { test: ["CMD", "true"], intervalMs: 1_000, retries: 3 };

/** The spec of an app, as a client sends it. */
export function specOf(app: Pick<AppState, "name" | "kind" | "rollsBack" | "replicas">, image: string): object {
  const { name, kind, rollsBack, replicas } = app;
  const update = { minHealthyMs: 2_000, healthyDeadlineMs: 40_000, failureAction: rollsBack ? "rollback" : "pause" };
  const workload = { image, healthcheck: HEALTHCHECK, stopGraceMs: 3_000 };
  switch (kind) {
    case "web":
      return { name, services: { web: { replicas, workload, update } } };
    case "port":
      return {
        name,
        services: {
          web: {
            replicas: 2,
            workload: { ...workload, ports: [{ target: 80, published: 8_000 + (name.charCodeAt(name.length - 1) % 50) }] },
            update,
          },
        },
      };
    case "data":
      return {
        name,
        services: { db: { replicas: 1, workload: { ...workload, mounts: [{ kind: "volume", volume: "data", target: "/data" }] }, update } },
        volumes: { data: {} },
      };
    case "everywhere":
      return { name, services: { agent: { mode: "global", workload, update } } };
    case "pair":
      return {
        name,
        services: {
          front: { replicas: 2, workload, update, dependsOn: { back: { condition: "healthy" } } },
          back: { replicas: 1, workload, update },
        },
      };
  }
}

export class Workload {
  readonly done = { deploys: 0, updates: 0, scales: 0, rollbacks: 0, removals: 0, recreated: 0, unanswered: 0, refused: 0 };
  readonly #world: World;
  readonly #acts: Acts;
  /** Of what is done next: all of it is drawn before the first request, so that no answer moves what is drawn. */
  #random: Prng;
  readonly #apps: AppState[] = [];
  #keys = 0;
  /** Ops that were answered with success, by their message: each has to be there exactly once. */
  readonly accepted: string[] = [];

  constructor(world: World, acts = new Acts()) {
    this.#world = world;
    this.#acts = acts;
    this.#random = world.kernel.random.fork("workload");
    for (let version = 1; version <= VERSIONS; version++) world.registry.push(`${REGISTRY}/web:${version}`);
    for (const word of ["crash", "sick", "deaf", "slow"]) world.registry.push(`${REGISTRY}/web:${word}1`);
  }

  /** Until `untilMs` of true time. */
  async run(untilMs: number, everyMs: number): Promise<void> {
    const { kernel, operator } = this.#world;
    const whole = this.#random;
    let dueMs = kernel.nowMs;
    for (let count = 0; count < 3; count++) await this.#deployNew();
    for (let count = 1; kernel.nowMs < untilMs; count++) {
      this.#random = whole.fork(`${count}`);
      dueMs += this.#random.between(0.2, 1.8) * everyMs;
      await kernel.pause(Math.max(0, dueMs - kernel.nowMs), operator);
      if (kernel.nowMs >= untilMs) return;
      await this.#something();
    }
  }

  async #something(): Promise<void> {
    const dice = this.#random.fraction();
    const app = this.#apps.length === 0 ? null : this.#random.pick(this.#apps);
    if (app === null || (dice < 0.15 && this.#apps.length < 6)) return this.#deployNew();
    if (app.isRemoved) {
      app.isRemoved = false;
      this.done.recreated++;
      return this.#put(app, `${REGISTRY}/web:${app.version}`);
    }
    if (dice < 0.5) {
      const bad = this.#random.chance(0.2);
      const tag = bad ? this.#random.pick(["crash1", "sick1", "missing", "slow1"]) : String((app.version % VERSIONS) + 1);
      if (!bad) app.version = Number(tag);
      this.done.updates++;
      return this.#put(app, `${REGISTRY}/web:${tag}`);
    }
    if (dice < 0.7) {
      if (app.kind !== "web") return;
      app.replicas = this.#random.int(0, 5);
      this.done.scales++;
      await this.#ask("PATCH", `/v1/namespaces/default/apps/${app.name}/services/web`, { replicas: app.replicas });
      return;
    }
    if (dice < 0.85) {
      this.done.rollbacks++;
      await this.#ask("POST", `/v1/namespaces/default/apps/${app.name}/rollback`, {});
      return;
    }
    this.done.removals++;
    app.isRemoved = true;
    await this.#ask("DELETE", `/v1/namespaces/default/apps/${app.name}${app.kind === "data" ? "" : "?deleteData=true"}`);
  }

  async #deployNew(): Promise<void> {
    const app: AppState = {
      name: `app-${this.#apps.length + 1}`,
      kind: this.#random.pick(KINDS),
      rollsBack: this.#random.chance(0.5),
      replicas: this.#random.int(1, 4),
      version: 1,
      isRemoved: false,
    };
    this.#apps.push(app);
    this.done.deploys++;
    await this.#put(app, `${REGISTRY}/web:1`);
  }

  async #put(app: AppState, image: string): Promise<void> {
    const message = `change ${++this.#keys}`;
    const answer = await this.#ask("PUT", `/v1/namespaces/default/apps/${app.name}`, { spec: specOf(app, image), message });
    if (answer.status >= 200 && answer.status < 300 && (answer.body as { plan?: { unchanged?: boolean } }).plan?.unchanged === false)
      this.accepted.push(message);
  }

  /** With one key until it is answered, as a client does that must not act twice. */
  async #ask(method: string, path: string, body?: unknown): Promise<OperatorAnswer> {
    const { kernel, operator } = this.#world;
    const id = `o${++this.#keys}`;
    const random = this.#random.fork(id);
    if (!this.#acts.begin({ id, atMs: kernel.nowMs, what: `${method} ${path}` })) return { status: 0, body: null };
    const key = `${this.#world.database.clockMs}-${this.#keys}`;
    for (let attempt = 0; ; attempt++) {
      const answer = await this.#world.ask(method, path, body, { "idempotency-key": key });
      if (answer.status !== 0 && answer.status < 500) {
        if (answer.status >= 400) this.done.refused++;
        return answer;
      }
      this.done.unanswered++;
      if (attempt === 5) return answer;
      await kernel.pause(random.between(500, 4_000), operator);
    }
  }
}
