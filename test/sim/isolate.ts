/** One process of the control plane: the real app, shard, planner and store on the world's ports. */
import type { HttpAnswer, HttpRequest } from "../../agent/ports.ts";
import { createApp } from "../../worker/app.ts";
import type { Context } from "../../worker/context.ts";
import { createCluster, type KeyFiles } from "../../worker/init.ts";
import { makeSigner } from "../../worker/keys.ts";
import type { Clock, Log, Random, Registry } from "../../worker/ports.ts";
import { Rehearsals } from "../../worker/rehearsals.ts";
import { rollBack } from "../../worker/roll-back.ts";
import { Channels } from "../../worker/shard/channels.ts";
import { EVICTION_TIMING, EvictionLimiter } from "../../worker/shard/eviction.ts";
import { makePlanning } from "../../worker/shard/planning.ts";
import { PlannerLoop } from "../../worker/shard/planner.ts";
import { Shard } from "../../worker/shard/shard.ts";
import { makeTicking } from "../../worker/shard/ticking.ts";
import { Snapshots } from "../../worker/snapshots.ts";
import { collect } from "../../worker/store/collect.ts";
import { Store } from "../../worker/store/store.ts";
import type { SimDatabase } from "./database.ts";
import type { SimRegistry } from "./images.ts";
import { type Kernel, Process } from "./kernel.ts";
import { logOf } from "./machine.ts";
import { type Door, die } from "./network.ts";
import type { Prng } from "./prng.ts";

const COLLECT_EVERY_MS = 600_000;
/** 500 parts in a million: worse than any that is built in. */
const RATE_ERROR_MAX = 5e-4;
export const SERVER_URL = "https://berth.test:7443";

/** What reaches a process of the control plane from outside, and what it answers: for checkers. */
export interface Ears {
  onAsked(request: HttpRequest): void;
  onAnswered(request: HttpRequest, answer: { readonly status: number; readonly body: string }, askedMs: number): void;
  /** It logged an error: `text` is the message and its fields. */
  onError(text: string): void;
}

export interface IsolateParts {
  readonly kernel: Kernel;
  readonly name: string;
  readonly database: SimDatabase;
  readonly files: KeyFiles;
  readonly registry: SimRegistry;
  readonly epochMs: number;
  readonly ears: Ears;
}

export class Isolate implements Door {
  readonly process: Process;
  /** Added to the true time: what this process takes for the wall clock. */
  clockErrorMs = 0;
  readonly #parts: IsolateParts;
  #app: ReturnType<typeof createApp> | null = null;
  #context: Context | null = null;

  constructor(parts: IsolateParts) {
    this.#parts = parts;
    this.process = new Process(parts.name);
  }

  get isReady(): boolean {
    return this.#app !== null && this.process.isAlive;
  }

  /** Opens the store, makes the cluster if there is none, starts the shard. */
  async start(): Promise<void> {
    const { kernel, database, files, registry, epochMs } = this.#parts;
    const forked = kernel.random.fork(this.process.name);
    const random: Random = { bytes: (count) => forked.bytes(count) };
    const clock = this.#clock(forked);
    const log = this.#log();
    const store = await Store.open(database.portOf(this.process));
    const { ring } = await createCluster({ store, files, random });
    const snapshots = new Snapshots(store);
    const signer = await makeSigner(ring, () => epochMs + kernel.nowMs + this.clockErrorMs);
    const shard: Shard = new Shard({
      store,
      clock,
      random,
      log,
      planning: makePlanning({ store, snapshots, rollBack: (ask) => rollBack(context, ask) }),
      ticking: makeTicking({ store, signer }),
    });
    const images: Registry = {
      resolve: async (reference) => {
        await kernel.pause(forked.between(5, 200), this.process);
        const found = registry.weather === "fair" ? registry.find(reference) : null;
        return found === null ? null : { digest: found.digest };
      },
    };
    const context: Context = {
      store,
      shard,
      channels: new Channels({ clock, random, wake: (id) => shard.wake(id) }),
      snapshots,
      rehearsals: new Rehearsals(clock),
      signer,
      registry: images,
      clock,
      random,
      log,
      address: { url: SERVER_URL, spki: null },
    };
    await shard.start();
    this.#collect(store);
    this.#context = context;
    this.#app = createApp(context);
    kernel.log(this.process.name, "listening");
  }

  /** Only plans, from its own view of the database, again and again. */
  plan(): void {
    const { kernel, database } = this.#parts;
    const forked = kernel.random.fork(this.process.name);
    const store = new Store(database.portOf(this.process));
    const clock = this.#clock(forked);
    // It has heard nobody yet.
    const presence = new EvictionLimiter(EVICTION_TIMING, clock.nowMs());
    const loop = new PlannerLoop({
      planning: makePlanning({ store, snapshots: new Snapshots(store), rollBack: async () => {} }),
      clock,
      random: { bytes: (count) => forked.bytes(count) },
      log: this.#log(),
      onRev: () => {},
      lastReturn: () => ({ ...presence.lastReturn, heard: new Set() }),
    });
    const again = () => {
      loop.ring();
      kernel.after(forked.between(50, 1_500), this.process, "", again);
    };
    again();
  }

  /** Only ticks, though it is not its turn. */
  async tick(): Promise<void> {
    const { kernel, database, files, epochMs } = this.#parts;
    const forked = kernel.random.fork(this.process.name);
    const store = new Store(database.portOf(this.process));
    const { ring } = await createCluster({ store, files, random: { bytes: (count) => forked.bytes(count) } });
    const ticking = makeTicking({ store, signer: await makeSigner(ring, () => epochMs + kernel.nowMs) });
    const later = () => void kernel.after(forked.between(200, 4_000), this.process, "", again);
    const again = () => {
      ticking().then(later, (error: unknown) => {
        kernel.log(this.process.name, `a tick failed: ${String(error)}`);
        later();
      });
    };
    again();
  }

  /** SIGKILL. */
  kill(): void {
    this.#parts.kernel.log(this.process.name, "is killed");
    die(this.process);
  }

  async stop(): Promise<void> {
    await this.#context?.shard.stop();
    this.kill();
  }

  async handle(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    const response = await this.fetch(request, signal);
    return response;
  }

  /** A process that is starting or gone answers nothing: callers ask `isReady` first. */
  async fetch(request: HttpRequest, signal: AbortSignal = new AbortController().signal): Promise<HttpAnswer> {
    if (this.#app === null) return { status: 503, header: () => null, body: "" };
    const { ears, kernel } = this.#parts;
    const askedMs = kernel.nowMs;
    ears.onAsked(request);
    const response = await this.#app.fetch(new ServerRequest(request, signal) as unknown as Request);
    const body = await response.text();
    ears.onAnswered(request, { status: response.status, body }, askedMs);
    return { status: response.status, header: (name) => response.headers.get(name), body };
  }

  /** A process's monotonic clock begins with it, and is as right as its crystal. */
  #clock(random: Prng): Clock {
    const { kernel } = this.#parts;
    const bornMs = kernel.nowMs;
    const rate = 1 + random.between(-RATE_ERROR_MAX, RATE_ERROR_MAX);
    return {
      nowMs: () => (kernel.nowMs - bornMs) * rate,
      // As setTimeout: a wait that rounding has left over must not be one of no time at all.
      after: (ms, run) => kernel.after(Math.max(1, ms) / rate, this.process, "", run),
    };
  }

  #log(): Log {
    const { kernel, ears } = this.#parts;
    const log = logOf(kernel, this.process);
    return {
      ...log,
      error: (fields, message) => {
        log.error(fields, message);
        ears.onError(`${this.process.name}: ${message} ${JSON.stringify(fields)}`);
      },
    };
  }

  #collect(store: Store): void {
    const run = () => {
      collect(store).then(
        () => schedule(),
        (error: unknown) => {
          this.#parts.kernel.log(this.process.name, `collecting failed: ${String(error)}`);
          schedule();
        },
      );
    };
    const schedule = () => void this.#parts.kernel.after(COLLECT_EVERY_MS, this.process, "", run);
    schedule();
  }
}

/**
 * A request as the HTTP server of Node hands it on: what is asked of it is made when it is asked for. Making a whole
 * Request of each took a twentieth of a history.
 */
class ServerRequest {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  readonly signal: AbortSignal;
  readonly #text: string | undefined;
  #stream: ReadableStream | null = null;

  constructor({ url, method, headers, body }: HttpRequest, signal: AbortSignal) {
    this.url = url;
    this.method = method;
    this.headers = new Headers(headers);
    if (body !== undefined) this.headers.set("content-length", String(Buffer.byteLength(body)));
    this.signal = signal;
    this.#text = body;
  }

  get body(): ReadableStream | null {
    if (this.#text !== undefined) this.#stream ??= new Response(this.#text).body;
    return this.#stream;
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return new TextEncoder().encode(this.#text ?? "").buffer;
  }
}
