/** A cluster in virtual time: a database, the control plane's processes, machines at sites, an operator, and what goes wrong. */
import { hashToken, newToken } from "../../worker/auth.ts";
import type { KeyFiles } from "../../worker/init.ts";
import { NOW } from "../../worker/store/commit-types.ts";
import { Store } from "../../worker/store/store.ts";
import { SimDatabase } from "./database.ts";
import { SimRegistry } from "./images.ts";
import { type Ears, Isolate, type IsolateParts, SERVER_URL } from "./isolate.ts";
import { seedJose } from "./jose.ts";
import { chooseJose, isJoseQuiet } from "./jose-choice.ts";
import { Kernel, Process } from "./kernel.ts";
import { Machine } from "./machine.ts";
import type { Prng } from "./prng.ts";

/** The world's true time at its beginning. */
const EPOCH_MS = Date.UTC(2030, 0, 1);
const OPERATOR_TIMEOUT_MS = 60_000;

export interface WorldOptions {
  readonly seed: string;
  readonly nodes: number;
  readonly sites: number;
  /** Default: the stand-in. */
  readonly jose?: "real" | "stand-in";
  /** How many of the newest events are kept for people. Default: none. */
  readonly traceLines?: number;
}

export interface OperatorAnswer {
  readonly status: number;
  readonly body: unknown;
}

export class World {
  readonly kernel: Kernel;
  readonly database: SimDatabase;
  readonly registry = new SimRegistry();
  readonly machines: Machine[] = [];
  readonly random: Prng;
  readonly operator = new Process("operator");
  readonly clones: Machine[] = [];
  #clones = 0;
  readonly #keys = new Map<string, string>();
  readonly #options: WorldOptions;
  /** The process that serves; null while the control plane is away. */
  isolate: Isolate | null = null;
  /** Processes beside it that only plan, or only tick. */
  readonly #helpers: Isolate[] = [];
  #isolates = 0;
  readonly #joinTokens = new Map<string, string>();
  readonly #handedOut: string[] = [];
  /** Called for each machine that is added. */
  onMachine: (machine: Machine) => void = () => {};
  adminToken = "";
  /** The folder with the control plane's keys is not there. */
  areKeysAway = false;
  readonly planningErrors: string[] = [];
  readonly ears: Ears = { onAsked: () => {}, onAnswered: () => {}, onError: () => {} };

  constructor(options: WorldOptions) {
    this.#options = options;
    this.kernel = new Kernel(options.seed, options);
    this.random = this.kernel.random.fork("world");
    seedJose(this.kernel.random.fork("jose"));
    chooseJose(options.jose ?? "stand-in");
    this.kernel.isQuiet = isJoseQuiet;
    this.database = new SimDatabase(this.kernel, EPOCH_MS);
  }

  get nowMs(): number {
    return this.kernel.nowMs;
  }

  machine(name: string): Machine {
    const found = this.machines.find((machine) => machine.name === name);
    if (found === undefined) throw new Error(`no machine ${name}`);
    return found;
  }

  /** Runs a script beside the world's events until it has ended. */
  async play<Result>(script: () => Promise<Result>, limitMs: number): Promise<Result> {
    let outcome: { readonly value: Result } | { readonly error: unknown } | null = null;
    script().then(
      (value) => {
        outcome = { value };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    const untilMs = this.nowMs + limitMs;
    await this.kernel.run(untilMs, () => outcome !== null);
    const ended = outcome as { readonly value: Result } | { readonly error: unknown } | null;
    if (ended === null) throw new Error(`a script did not end within ${limitMs} ms of virtual time`);
    if ("error" in ended) throw ended.error;
    return ended.value;
  }

  /** A control plane, its sites, and machines that have joined. */
  async build(): Promise<void> {
    await this.play(async () => {
      await this.startIsolate();
      await this.makeAdmin();
      for (let site = 1; site <= this.#options.sites; site++) {
        await this.must("POST", "/v1/sites", { name: `site-${site}` });
        const made = (await this.must("POST", "/v1/join-tokens", { site: `site-${site}`, uses: 100 })) as { token: string };
        this.giveJoinToken(`site-${site}`, made.token);
      }
    }, 60_000);
    for (let at = 1; at <= this.#options.nodes; at++) {
      const site = `site-${((at - 1) % this.#options.sites) + 1}`;
      this.addMachine(`m${at}`, site);
    }
    await this.kernel.run(this.nowMs + 60_000, () => this.nodesReady() === this.#options.nodes);
    if (this.nodesReady() !== this.#options.nodes)
      throw new Error(`only ${this.nodesReady()} of ${this.#options.nodes} machines have joined`);
  }

  #machine(name: string, site: string): Machine {
    return new Machine({
      kernel: this.kernel,
      name,
      site,
      epochMs: EPOCH_MS,
      registry: this.registry,
      door: () => (this.isolate?.isReady === true ? this.isolate : null),
      cpuMillis: 4_000,
      memoryMiB: 4_096,
      rate: 1 + this.random.between(-0.0001, 0.0001),
    });
  }

  /** One that joins with a token of its site, when there is one. */
  addMachine(name: string, site: string): Machine {
    const machine = this.newMachine(name, site);
    this.startAgent(machine);
    return machine;
  }

  /** What nobody but its holder may learn. */
  get secrets(): readonly string[] {
    return [this.adminToken, ...this.#joinTokens.values(), ...this.#handedOut];
  }

  giveJoinToken(site: string, token: string): void {
    this.#joinTokens.set(site, token);
  }
  /** A token that somebody was given. */
  handOut(token: string): void {
    this.#handedOut.push(token);
  }

  /** One that has not joined does so with this token. */
  startAgent(machine: Machine, joinToken = this.#joinTokens.get(machine.site) ?? ""): void {
    machine.startAgent(joinToken);
  }

  /** A machine more, without an agent yet. */
  newMachine(name: string, site: string): Machine {
    const machine = this.#machine(name, site);
    this.machines.push(machine);
    this.onMachine(machine);
    return machine;
  }

  /** It is switched off for good. */
  giveAway(machine: Machine): void {
    machine.powerOff();
    machine.isGone = true;
    this.machines.splice(this.machines.indexOf(machine), 1);
  }

  nodesReady(): number {
    return this.database.look("select count(*) as n from nodes where status = 'ready' and session > 0")[0]!.n as number;
  }

  async startIsolate(): Promise<void> {
    const isolate = new Isolate({ ...this.#isolateParts(), name: `cp#${++this.#isolates}` });
    this.isolate = isolate;
    await isolate.start();
  }

  #isolateParts(): Omit<IsolateParts, "name"> {
    return {
      kernel: this.kernel,
      database: this.database,
      files: this.#files(),
      registry: this.registry,
      epochMs: EPOCH_MS,
      ears: this.ears,
    };
  }

  /** Tries until it has started, whoever starts it: the database may be refusing. */
  async startIsolateIfDown(): Promise<void> {
    for (;;) {
      await this.tryToStart();
      if (this.isolate?.isReady === true) return;
      await this.kernel.pause(1_000, this.operator);
    }
  }

  /** Once, unless somebody else does. Why it did not start; empty: it did. */
  async tryToStart(): Promise<string> {
    if (this.isolate !== null) return "";
    try {
      await this.startIsolate();
      return "";
    } catch (error) {
      this.kernel.log("operator", `the control plane did not start: ${String(error)}`);
      this.killIsolate();
      return String(error);
    }
  }

  /** A second process that plans, beside the one that serves. The returned function kills it. */
  startPlanner(): () => void {
    const helper = this.#helper("planner");
    helper.plan();
    return () => helper.kill();
  }
  /** The same with one that ticks; while the database refuses it does not start. */
  async startTicker(): Promise<() => void> {
    const helper = this.#helper("ticker");
    await helper.tick().catch((error: unknown) => this.kernel.log("operator", `nothing ticks beside: ${String(error)}`));
    return () => helper.kill();
  }
  killHelpers(): void {
    for (const helper of this.#helpers) helper.kill();
    this.#helpers.length = 0;
  }
  #helper(kind: string): Isolate {
    const helper = new Isolate({ ...this.#isolateParts(), name: `${kind}#${++this.#isolates}` });
    this.#helpers.push(helper);
    return helper;
  }

  /** Another machine with a copy of this one's disk, keys included. It has no containers and other hardware. */
  clone(machine: Machine): Machine {
    const clone = this.#machine(`${machine.name}-clone${++this.#clones}`, machine.site);
    clone.disk.copyFrom(machine.disk);
    this.clones.push(clone);
    machine.wasCloned = true;
    return clone;
  }

  killIsolate(): void {
    this.isolate?.kill();
    this.isolate = null;
  }

  #files(): KeyFiles {
    return {
      read: async (name) => (this.areKeysAway ? null : (this.#keys.get(name) ?? null)),
      create: async (name, text) => {
        if (this.#keys.has(name)) throw new Error(`${name} is there already`);
        this.#keys.set(name, text);
      },
    };
  }

  async makeAdmin(): Promise<void> {
    const forked = this.kernel.random.fork("admin");
    this.adminToken = newToken({ bytes: (count) => forked.bytes(count) });
    const store = new Store(this.database.portOf(this.operator));
    const result = await store.commit({
      changes: [
        {
          op: "insert",
          table: "tokens",
          rows: [
            {
              id: "t_aaaaaaaaaaaaaaaa",
              hash: hashToken(this.adminToken),
              name: "admin",
              role: "admin",
              namespace: null,
              createdMs: NOW,
              expiresMs: null,
            },
          ],
        },
      ],
      audit: { actor: "berth", verb: "create", namespace: null, object: "token/admin", detail: "the first admin token" },
    });
    if (result.kind !== "committed") throw new Error("the admin token was not made");
  }

  /** One request of the operator; status 0: nobody answered. */
  async ask(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<OperatorAnswer> {
    const { isolate, kernel, operator } = this;
    await kernel.pause(this.random.between(1, 30), operator);
    if (isolate === null || !isolate.isReady) return { status: 0, body: null };
    const answered = isolate.fetch({
      method: method as "POST",
      url: `${SERVER_URL}${path}`,
      headers: {
        authorization: `Bearer ${this.adminToken}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      timeoutMs: OPERATOR_TIMEOUT_MS,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const late = kernel.pause(OPERATOR_TIMEOUT_MS, operator).then(() => null);
    const answer = await Promise.race([answered, late]);
    if (answer === null) return { status: 0, body: null };
    kernel.log("operator", `${method} ${path} → ${answer.status}`);
    return { status: answer.status, body: answer.body === "" ? null : (JSON.parse(answer.body) as unknown) };
  }

  /** The same, for what has to succeed. */
  async must(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.ask(method, path, body);
    if (answer.status < 200 || answer.status > 299) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}
