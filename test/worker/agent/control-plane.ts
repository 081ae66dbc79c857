/** A control plane in this process: real store in memory, real keys, a clock that the test moves. */
import { randomBytes } from "node:crypto";
import { Hono } from "hono";
import { agentRoutes } from "../../../worker/routes/agent/routes.ts";
import { createCluster, type KeyFiles } from "../../../worker/init.ts";
import { type KeyRing, makeSigner, newEd25519, publicHalf } from "../../../worker/keys.ts";
import { newId } from "../../../worker/new-id.ts";
import type { Context } from "../../../worker/context.ts";
import { toResponse } from "../../../worker/errors.ts";
import type { Clock, Log, Random, Registry } from "../../../worker/ports.ts";
import { Rehearsals } from "../../../worker/rehearsals.ts";
import { Channels } from "../../../worker/shard/channels.ts";
import type { Planning } from "../../../worker/shard/planner.ts";
import { makeTicking } from "../../../worker/shard/ticking.ts";
import { Shard, type ShardTiming } from "../../../worker/shard/shard.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { type EmbeddedDatabase, openDatabaseInMemory } from "../../../worker/store/database-embedded.ts";
import { Snapshots } from "../../../worker/snapshots.ts";
import { Store } from "../../../worker/store/store.ts";
import { FakeAgent, type JoinSecret } from "./fake-agent.ts";

export const random: Random = { bytes: (count) => new Uint8Array(randomBytes(count)) };

/** Timers fire only when the test advances; between two of them everything that is waiting gets to run. */
export class VirtualClock implements Clock {
  #nowMs = 1_000_000;
  #timers = new Map<number, { readonly atMs: number; readonly run: () => void }>();
  #next = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, run: () => void): () => void {
    const id = this.#next++;
    this.#timers.set(id, { atMs: this.#nowMs + Math.max(0, ms), run });
    return () => void this.#timers.delete(id);
  }

  get timers(): number {
    return this.#timers.size;
  }

  async advance(ms: number): Promise<void> {
    await settle();
    const endMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.atMs <= endMs).sort(([, a], [, b]) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      const [id, timer] = due;
      this.#timers.delete(id);
      this.#nowMs = Math.max(this.#nowMs, timer.atMs);
      timer.run();
      await settle();
    }
    this.#nowMs = endMs;
    await settle();
  }

  /** As after a suspend: time has passed and no timer has fired yet. */
  async standStill(ms: number, first: () => void = () => {}): Promise<void> {
    this.#nowMs += ms;
    first();
    await settle();
    await this.advance(0);
  }
}

/** Lets pending database work and promises finish. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits for a condition; signatures are made on other threads, so no number of turns is enough. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`waited 10 s in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

export function collectLog(): Log & { readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: string) => (fields: Record<string, unknown>, message: string) => void lines.push({ level, message, fields });
  return { lines, info: at("info"), warn: at("warn"), error: at("error") };
}

export function memoryFiles(): KeyFiles & { readonly files: Map<string, string> } {
  const files = new Map<string, string>();
  return {
    files,
    read: async (name) => files.get(name) ?? null,
    create: async (name, text) => {
      if (files.has(name)) throw new Error(`${name} is there`);
      files.set(name, text);
    },
  };
}

export interface ControlPlaneOptions {
  readonly planning?: (parts: { readonly store: Store; readonly snapshots: Snapshots }) => Planning;
  readonly timing?: Partial<ShardTiming>;
  /** Virtual time unless given. */
  readonly clock?: Clock;
  readonly wallMs?: () => number;
}

/** Stands still, so that what is a minute old to one process is so to all. */
const STARTED_MS = Date.now();

export class ControlPlane {
  readonly context: Context;
  readonly app: Hono;
  readonly ring: KeyRing;
  readonly log: ReturnType<typeof collectLog>;
  readonly #clock: Clock;
  readonly #database: EmbeddedDatabase;

  private constructor(given: {
    context: Context;
    ring: KeyRing;
    log: ReturnType<typeof collectLog>;
    clock: Clock;
    database: EmbeddedDatabase;
  }) {
    this.context = given.context;
    this.ring = given.ring;
    this.log = given.log;
    this.#clock = given.clock;
    this.#database = given.database;
    this.app = new Hono();
    this.app.onError(toResponse(given.log));
    this.app.route("/agent/v1", agentRoutes(given.context));
  }

  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const database = await openDatabaseInMemory();
    const store = await Store.open(database);
    const { ring } = await createCluster({ store, files: memoryFiles(), random });
    const clock = options.clock ?? new VirtualClock();
    return ControlPlane.#over({ database, store, ring, clock, options });
  }

  static async #over(given: {
    database: EmbeddedDatabase;
    store: Store;
    ring: KeyRing;
    clock: Clock;
    options: ControlPlaneOptions;
  }): Promise<ControlPlane> {
    const { database, store, ring, clock, options } = given;
    const log = collectLog();
    const snapshots = new Snapshots(store);
    const signer = await makeSigner(ring, options.wallMs ?? (() => STARTED_MS));
    const shard = new Shard({
      store,
      clock,
      random,
      log,
      planning: options.planning?.({ store, snapshots }) ?? null,
      ticking: makeTicking({ store, signer }),
      // Holds are as long as they can be, so that a test knows when they end.
      timing: options.timing ?? { jitter: 0, jitterFirst: 0 },
    });
    const channels = new Channels({ clock, random, wake: (id) => shard.wake(id) });
    const registry: Registry = { resolve: async () => null };
    const address = { url: "https://127.0.0.1:7443", spki: null };
    const rehearsals = new Rehearsals(clock);
    const context: Context = { store, shard, channels, snapshots, rehearsals, signer, registry, clock, random, log, address };
    await shard.start();
    return new ControlPlane({ context, ring, log, clock, database });
  }

  /** The same database under a new process: nothing that was in memory is left. */
  async restart(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    await this.context.shard.stop();
    return ControlPlane.#over({ database: this.#database, store: this.context.store, ring: this.ring, clock: this.#clock, options });
  }

  /** A second process over the same database. */
  beside(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    return ControlPlane.#over({ database: this.#database, store: this.context.store, ring: this.ring, clock: this.#clock, options });
  }

  get clock(): VirtualClock {
    if (!(this.#clock instanceof VirtualClock)) throw new Error("this control plane runs in real time");
    return this.#clock;
  }

  async stop(): Promise<void> {
    await this.context.shard.stop();
    this.context.channels.stop();
    await this.#database.close();
  }

  send = async (path: string, init?: RequestInit): Promise<Response> => this.app.request(path, init);

  async joinToken(changes: Record<string, unknown> = {}): Promise<JoinSecret> {
    const { jwk } = await newEd25519();
    const id = newId(random, "jt");
    const nowMs = (await this.context.store.marks()).nowMs;
    await this.commit({
      changes: [
        {
          op: "insert",
          table: "joinTokens",
          rows: [
            {
              id,
              publicKey: publicHalf(jwk),
              site: "default",
              labels: {},
              namePattern: null,
              needsApproval: false,
              usesMax: 1_000,
              uses: 0,
              createdMs: NOW,
              expiresMs: nowMs + 3_600_000,
              ...changes,
            },
          ],
        },
      ],
    });
    return { id, jwk };
  }

  /** When it returns the shard knows, and polls that it concerns have been rung. */
  async commit(mutation: Parameters<Store["commit"]>[0]): Promise<number> {
    const result = await this.context.store.commit(mutation);
    if (result.kind !== "committed") throw new Error(JSON.stringify(result));
    await this.context.shard.refresh();
    return result.rev;
  }

  agent(): Promise<FakeAgent> {
    return FakeAgent.make(this.send);
  }

  /** Lets virtual time pass in small steps until the condition holds. */
  eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return until(what, async () => {
      if (await condition()) return true;
      await this.clock.advance(10);
      return false;
    });
  }

  /** Waits until so many polls are held. */
  held(count: number): Promise<void> {
    return until(`${count} held polls`, () => this.context.shard.heldPolls === count);
  }

  /** Enrolled and in session. */
  async node(token?: JoinSecret): Promise<FakeAgent> {
    const agent = await this.agent();
    await agent.enroll(token ?? (await this.joinToken()));
    await agent.openSession();
    return agent;
  }
}
