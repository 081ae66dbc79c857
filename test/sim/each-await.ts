/**
 * F35: a history that uses every route and every loop of the control plane is played once to see which awaits it passes,
 * then again and again with the process killed at some of them, each the first time that it is passed. A new one starts,
 * the operator asks again with the same idempotency key, and in the end what is wanted runs, each change was made once, and
 * no invariant broke.
 */
import { Checkers, type Violation } from "./checkers.ts";
import { onAwait, type Point } from "./awaits.ts";
import { KIND_DATABASE } from "./database.ts";
import { Process } from "./kernel.ts";
import type { Machine } from "./machine.ts";
import { HEALTHCHECK } from "./apps.ts";
import { SERVER_URL } from "./isolate.ts";
import { World } from "./world.ts";

const SEED = "awaits";
const APP = "/v1/namespaces/default/apps";
const RESTART_MS = 400;
/** One attempt of the operator. */
const ATTEMPT_MS = 30_000;
/** The whole history, in virtual time; collecting happens after ten minutes. */
const LIMIT_MS = 30 * 60_000;
const TRACE_LINES = 400;

export interface AwaitOutcome {
  /** Where it was killed, in that order. */
  readonly killedAt: readonly Point[];
  readonly reached: readonly Point[];
  readonly violations: readonly Violation[];
  readonly trace: readonly string[];
}

/** Killed at each of the targets that it passes. */
export async function playAwaits(targets: readonly Point[]): Promise<AwaitOutcome> {
  const world = new World({ seed: SEED, nodes: 0, sites: 0, traceLines: TRACE_LINES });
  const checkers = new Checkers(world);
  const reached = new Set<Point>();
  const waiting = new Set(targets);
  const killedAt: Point[] = [];
  let diedAt = -1;
  onAwait((point) => {
    // The rest of this turn belongs to a process that is no more.
    if (world.kernel.steps === diedAt) return false;
    reached.add(point);
    if (!waiting.delete(point)) return true;
    killedAt.push(point);
    diedAt = world.kernel.steps;
    world.kernel.log("mischief", `killed at ${point}`);
    world.killIsolate();
    return false;
  });
  try {
    const story = new Story(world, checkers);
    await world.play(() => story.run(), LIMIT_MS);
    checkers.checkConverged();
  } catch (error) {
    checkers.fail("sim", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return { killedAt, reached: [...reached], violations: checkers.violations, trace: world.kernel.trace.kept() };
}

class Story {
  readonly #world: World;
  readonly #checkers: Checkers;
  #keys = 0;
  /** Messages of deploys of `shop` that were answered: each is one revision. */
  readonly #made: string[] = [];

  constructor(world: World, checkers: Checkers) {
    this.#world = world;
    this.#checkers = checkers;
  }

  async run(): Promise<void> {
    const world = this.#world;
    this.#supervise();
    await this.#until("the control plane listens", () => world.isolate?.isReady === true);
    // The store that makes it is the operator's, and the awaits of its code are killed at too.
    while (this.#one("select count(*) as n from tokens") === 0) await Promise.race([world.makeAdmin(), this.#pause(5_000)]);
    this.#checkers.begin();
    await this.#places();
    const machines = await this.#machines();
    await this.#apps();
    await this.#restart();
    await this.#verbs();
    await this.#failures(machines);
    await this.#trouble(machines);
    await this.#look();
    await this.#leave(machines);
    await this.#pause(90_000);
    this.#checkOnce();
  }

  /** Starts a process whenever none lives, as an init does. */
  #supervise(): void {
    const { kernel } = this.#world;
    const init = new Process("init");
    const look = () => {
      const { isolate } = this.#world;
      if (isolate === null || !isolate.process.isAlive) {
        this.#world.startIsolate().catch((error: unknown) => {
          kernel.log("init", `the control plane did not start: ${String(error)}`);
          this.#world.killIsolate();
        });
      }
      kernel.after(RESTART_MS, init, "", look);
    };
    kernel.after(0, init, "", look);
  }

  async #places(): Promise<void> {
    await this.#ask("GET", "/v1/cluster");
    await this.#ask("GET", "/v1/whoami");
    for (const site of ["berlin", "oslo", "gone"]) await this.#ask("POST", "/v1/sites", { name: site });
    await this.#ask("PATCH", "/v1/sites/berlin", { labels: { zone: "a" } });
    await this.#ask("DELETE", "/v1/sites/gone");
    await this.#ask("GET", "/v1/sites");
    await this.#ask("POST", "/v1/namespaces", { name: "team" });
    await this.#ask("POST", "/v1/namespaces", { name: "brief" });
    await this.#ask("GET", "/v1/namespaces");
    await this.#ask("DELETE", "/v1/namespaces/brief");
    await this.#ask("POST", "/v1/tokens", { name: "auditor", role: "viewer", namespace: null });
    const key = this.#newKey();
    const ci = { name: "ci", role: "deployer", namespace: "team" };
    const token = (await this.#ask("POST", "/v1/tokens", ci, { key })) as { id: string; token: string };
    // Its secret is not stored in the clear, and is said again to whoever has the key.
    const again = (await this.#ask("POST", "/v1/tokens", ci, { key })) as { token: string };
    if (again.token !== token.token) this.#checkers.fail("I13", "the same key gave another token");
    await this.#ask("GET", "/v1/nodes", undefined, { token: token.token });
    await this.#ask("GET", "/v1/tokens");
    await Promise.all(Array.from({ length: 12 }, () => this.#ask("GET", "/v1/sites")));
    const twice = this.#newKey();
    const siteAsked = () => this.#ask("POST", "/v1/sites", { name: "twice" }, { key: twice });
    await Promise.all([siteAsked(), siteAsked(), siteAsked()]);
    await this.#ask("POST", "/v1/sites", { name: "x".repeat(2_000_000) }, { mayBe: [413] });
    await this.#ask("DELETE", `/v1/tokens/${token.id}`);
    await this.#ask("PUT", "/v1/namespaces/default/registries/registry.test", { username: "puller", password: "secret" });
    await this.#ask("PUT", "/v1/namespaces/team/registries/registry.test", { username: "puller", password: "secret" });
    await this.#ask("GET", "/v1/namespaces/team/registries");
    await this.#ask("DELETE", "/v1/namespaces/team/registries/registry.test");
  }

  async #machines(): Promise<Machine[]> {
    const world = this.#world;
    for (const site of ["berlin", "oslo"]) {
      const made = (await this.#ask("POST", "/v1/join-tokens", { site, uses: 9 })) as { token: string };
      world.giveJoinToken(site, made.token);
    }
    const spare = (await this.#ask("POST", "/v1/join-tokens", { site: "oslo", uses: 1 })) as { id: string };
    await this.#ask("GET", "/v1/join-tokens");
    await this.#ask("DELETE", `/v1/join-tokens/${spare.id}`);
    const machines = ["berlin", "oslo", "berlin", "oslo"].map((site, at) => world.addMachine(`m${at + 1}`, site));
    for (const machine of machines) this.#checkers.watch(machine);
    await this.#until("all machines are ready", () => world.nodesReady() === machines.length);
    await this.#ask("GET", "/v1/nodes");
    const id = this.#nodeId("m4");
    await this.#ask("PATCH", `/v1/nodes/${id}`, { labels: { disk: "ssd" } });
    await this.#ask("PATCH", `/v1/nodes/${id}`, { availability: "cordoned" });
    await this.#ask("PATCH", `/v1/nodes/${id}`, { availability: "active" });
    await this.#ask("GET", `/v1/nodes/${id}`);
    return machines;
  }

  async #apps(): Promise<void> {
    const { registry } = this.#world;
    for (const tag of ["1", "2", "3", "sick1", "late1"]) registry.push(`registry.test/web:${tag}`);
    await this.#put("shop", this.#web(2, "1"), { dryRun: true });
    await this.#put("shop", this.#web(2, "1"));
    await this.#put("db", { db: { replicas: 1, workload: this.#workload("1", { volume: true }), update: UPDATE } });
    await this.#settled("shop");
    await this.#ask("PATCH", `${APP}/shop/services/web`, { replicas: 3 });
    await this.#settled("shop");
    await this.#put("shop", this.#web(3, "2"));
    await this.#settled("shop");
    await this.#ask("POST", `${APP}/shop/rollback`, {});
    await this.#settled("shop");
    // Nobody but a node can say which image this is.
    registry.weather = "away";
    const late = this.#put("late", this.#web(1, "late1"));
    await late;
    registry.weather = "fair";
    await this.#settled("late");
    // Nothing differs: the key alone is recorded.
    await this.#put("shop", this.#web(3, "1"));
  }

  /** As told by its init. */
  async #restart(): Promise<void> {
    const { isolate } = this.#world;
    const stopped = isolate?.stop();
    await Promise.race([stopped, this.#pause(10_000)]);
    await this.#until("another process listens", () => this.#world.isolate !== isolate && this.#world.isolate?.isReady === true);
  }

  /** What people say of a deployment that is under way, and to keep others from the app. */
  async #verbs(): Promise<void> {
    const say = (id: string, verb: string) =>
      this.#ask("POST", `/v1/namespaces/default/deployments/${id}/${verb}`, undefined, { mayBe: [409] });
    const tried = await this.#put("shop", this.#web(3, "2", { canaries: 1 }));
    await say(tried, "pause");
    await say(tried, "resume");
    const areHealthy = () => this.#one(`select canaries_healthy as n from deployments where id = '${tried}'`) === 1;
    await this.#until("the canary is healthy", areHealthy);
    await say(tried, "promote");
    await this.#settled("shop");
    const aborted = await this.#put("shop", this.#web(3, "3", { canaries: 1 }));
    await say(aborted, "abort");
    await this.#until("it was rolled back", () => this.#one(`select count(*) as n from deployments where kind = 'rollback'`) > 1);
    await this.#settled("shop");
    await this.#ask("PUT", `${APP}/shop/lock`, { message: "the sale is on" });
    await this.#ask("PATCH", `${APP}/shop/services/web`, { replicas: 2 }, { mayBe: [422] });
    await this.#ask("DELETE", `${APP}/shop/lock`);
    await this.#ask("GET", `${APP}/shop/diff`);
    await this.#put("shop", this.#web(3, "1"));
    await this.#settled("shop");
  }

  /** A deployment that fails and rolls itself back. */
  async #failures([first]: Machine[]): Promise<void> {
    const rollbacks = () => this.#one("select count(*) as n from deployments where kind = 'rollback' and created_by = 'berth'");
    const before = rollbacks();
    await this.#put("shop", this.#web(3, "sick1"));
    await this.#until("it was rolled back", () => rollbacks() > before);
    await this.#settled("shop");
    // One that fails and stays as it is: a scale then is no try of what failed.
    await this.#put("shop", this.#web(3, "sick1", { failureAction: "pause" }));
    await this.#settled("shop");
    await this.#ask("PATCH", `${APP}/shop/services/web`, { replicas: 2 });
    await this.#settled("shop");
    await this.#put("shop", this.#web(3, "1"));
    await this.#settled("shop");
    if (first === undefined) return;
    for (const isCut of [true, false]) {
      first.wire.faults.isUpCut = isCut;
      first.wire.faults.isDownCut = isCut;
      await this.#pause(30_000);
    }
    first.killAgent();
    await this.#pause(2_000);
    this.#world.startAgent(first);
  }

  /** The database refuses, and another process plans beside this one. */
  async #trouble(machines: Machine[]): Promise<void> {
    const { database } = this.#world;
    const planners = Array.from({ length: 3 }, () => this.#world.startPlanner());
    for (const tag of ["2", "1", "3"]) {
      await this.#put("shop", this.#web(3, tag));
      await this.#pause(12_000);
    }
    for (const stop of planners) stop();
    database.faults.busy = 0.3;
    database.faults.ackLost = 0.1;
    await this.#put("shop", this.#web(2, "1"));
    await this.#pause(20_000);
    Object.assign(database.faults, KIND_DATABASE);
    const [, second] = machines;
    const clone = second === undefined ? null : this.#world.clone(second);
    if (clone !== null) this.#world.startAgent(clone);
    await this.#pause(20_000);
    clone?.powerOff();
    for (const { id } of database.look("select id from nodes where quarantined = 1"))
      await this.#ask("PATCH", `/v1/nodes/${String(id)}`, { reissue: true });
    await this.#settled("shop");
  }

  async #look(): Promise<void> {
    const list = (await this.#ask("GET", APP)) as { watch: string };
    const watching = this.#ask("GET", `${APP}?watch=${list.watch}`);
    await this.#ask("PATCH", `${APP}/shop/services/web`, { replicas: 3 });
    await watching;
    await this.#settled("shop");
    const replicas = (await this.#ask("GET", "/v1/namespaces/default/replicas")) as { items: { id: string }[] };
    const deployments = (await this.#ask("GET", "/v1/namespaces/default/deployments")) as { items: { id: string }[] };
    const revisions = (await this.#ask("GET", `${APP}/shop/revisions`)) as { items: { revision: number }[] };
    for (const path of [
      `${APP}/shop`,
      `${APP}/shop/revisions/${revisions.items[0]?.revision}`,
      `${APP}/shop/why?service=web`,
      `${APP}/shop/logs?tail=1`,
      `/v1/namespaces/default/replicas/${replicas.items[0]?.id}`,
      `/v1/namespaces/default/deployments/${deployments.items[0]?.id}`,
      "/v1/namespaces/default/events",
      "/v1/events",
      "/v1/audit",
      "/readyz",
    ])
      await this.#ask("GET", path);
  }

  async #leave(machines: Machine[]): Promise<void> {
    await this.#ask("DELETE", `${APP}/late`);
    await this.#ask("DELETE", `${APP}/db`);
    await this.#until("db is gone", () => this.#one("select count(*) as n from apps where name = 'db'") === 0);
    await this.#ask("DELETE", `${APP}/db?deleteData=true`);
    // One hears of its removal at its next poll, the other in its next session.
    for (const [at, machine] of machines.slice(-2).entries()) {
      const id = this.#nodeId(machine.name);
      machine.mayStop = true;
      if (at === 1) machine.killAgent();
      await this.#ask("DELETE", `/v1/nodes/${id}?force=true`);
      if (at === 1) this.#world.startAgent(machine);
    }
    // Long enough for a round of collecting, whenever this process began.
    await this.#pause(11 * 60_000);
  }

  #web(replicas: number, tag: string, update: object = {}): object {
    return { web: { replicas, workload: this.#workload(tag), update: { ...UPDATE, ...update } } };
  }

  #workload(tag: string, { volume = false } = {}): object {
    return {
      image: `registry.test/web:${tag}`,
      healthcheck: HEALTHCHECK,
      stopGraceMs: 3_000,
      ...(volume ? { mounts: [{ kind: "volume", volume: "data", target: "/data" }] } : {}),
    };
  }

  /** The id of the deployment; empty where there is nothing to do. */
  async #put(name: string, services: object, { dryRun = false } = {}): Promise<string> {
    const message = `change ${++this.#keys}`;
    const volumes = name === "db" ? { volumes: { data: {} } } : {};
    const body = { spec: { name, services, ...volumes }, message };
    const answer = (await this.#ask("PUT", `${APP}/${name}${dryRun ? "?dryRun=true" : ""}`, body)) as {
      plan: { unchanged: boolean };
      deployment: { id: string } | null;
    };
    if (name === "shop" && !dryRun && !answer.plan.unchanged) this.#made.push(message);
    return answer.deployment?.id ?? "";
  }

  /** Until somebody answers, with one key, as a client does that must not act twice. */
  async #ask(
    method: string,
    path: string,
    body?: unknown,
    {
      key = this.#newKey(),
      token = this.#world.adminToken,
      mayBe = [404],
    }: { key?: string; token?: string; mayBe?: readonly number[] } = {},
  ): Promise<unknown> {
    const { kernel, operator } = this.#world;
    for (;;) {
      const { isolate } = this.#world;
      if (isolate?.isReady === true) {
        const answered = isolate
          .fetch({
            method: method as "POST",
            url: `${SERVER_URL}${path}`,
            headers: {
              authorization: `Bearer ${token}`,
              ...(method === "GET" ? {} : { "idempotency-key": key }),
              ...(body === undefined ? {} : { "content-type": "application/json" }),
            },
            timeoutMs: ATTEMPT_MS,
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          })
          .catch(() => null);
        const answer = await Promise.race([answered, this.#pause(ATTEMPT_MS).then(() => null)]);
        if (answer !== null && answer.status < 500 && answer.status !== 429) {
          kernel.log("operator", `${method} ${path} → ${answer.status}`);
          // Where the answer of a deletion was lost there is nothing left to delete.
          if (answer.status >= 400 && !mayBe.includes(answer.status)) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
          return answer.header("content-type")?.startsWith("application/json") === true ? (JSON.parse(answer.body) as unknown) : null;
        }
      }
      await kernel.pause(150, operator);
    }
  }

  #newKey(): string {
    return `${this.#world.database.clockMs}-${++this.#keys}`;
  }

  #pause(ms: number): Promise<void> {
    return this.#world.kernel.pause(ms, this.#world.operator);
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    const limitMs = this.#world.nowMs + 240_000;
    while (!isSo()) {
      if (this.#world.nowMs > limitMs) throw new Error(`waited four minutes in vain until ${what}`);
      await this.#pause(250);
    }
  }

  #settled(app: string): Promise<void> {
    return this.#until(
      `${app} has no deployment under way`,
      () =>
        this.#one(
          `select count(*) as n from deployments d join apps a on a.id = d.app_id where a.name = '${app}' and d.state = 'running'`,
        ) === 0,
    );
  }

  #one(sql: string): number {
    return Number(this.#world.database.look(sql)[0]?.n ?? 0);
  }

  #nodeId(name: string): string {
    return String(this.#world.database.look(`select id from nodes where name = '${name}'`)[0]?.id);
  }

  /** I13: what was answered as done is there, once, however often it was asked. */
  #checkOnce(): void {
    for (const message of this.#made) {
      this.#checkers.looks("I13");
      const count = this.#one(`select count(*) as n from app_revisions where message = '${message}'`);
      if (count !== 1) this.#checkers.fail("I13", `${message} was answered as done and made ${count} revisions`);
    }
  }
}

const UPDATE = { minHealthyMs: 2_000, healthyDeadlineMs: 40_000, progressDeadlineMs: 40_000, failureAction: "rollback" };
