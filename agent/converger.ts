/**
 * The agent's loop over its engine: observe → nextSteps → execute, again after every step and every event. It is woken,
 * never instructed; woken for nothing it does nothing.
 *
 * Invariants. Nothing is touched before the engine was listed completely, nor while no manifest is in the ledger: an
 * empty memory must never look like an order to stop everything.
 */
import { factOf } from "../shared/converge/facts.ts";
import { asRunning, hasEnded, newRecord, type ReplicaRecord } from "../shared/converge/record.ts";
import { isAlive, keyOf, type NextSteps, nextSteps, type Step, type StepKind } from "../shared/converge/steps.ts";
import type { Desired, PulledImage, ReplicaView, Retry, World } from "../shared/converge/world.ts";
import type { AssignmentRef } from "../shared/wire/poll.ts";
import { pause } from "./pause.ts";
import { describeStepFailure, isAwaited, isFinal, retryDelayMs } from "./step-failure.ts";
import type { EngineInfo } from "./engine/engine.ts";
import { EngineWatch } from "./engine-watch.ts";
import { type ExecutorContext, type Executors, makeExecutors } from "./executors.ts";
import type { FactBook } from "./fact-book.ts";
import { hasBinds, runOf } from "./binds.ts";
import { imageKeyOf, pullReference } from "./images.ts";
import { Observed } from "./observed.ts";
import { judgeByPolicy, type ReadPolicy } from "./policy.ts";

/**
 * Engine calls at a time. The engine creates containers one after another whatever is asked (30 take 5.0 s with 1 or
 * 16 callers); four keep it busy and leave it free to answer a health probe or a log.
 */
const ENGINE_STEPS_MAX = 4;
/** Pulls wait for networks and stops for graces: they do not take the place of engine calls. */
const PULLS_MAX = 3;
const STOP_PATIENCE_MS = 2_000;
const QUEUED = { reason: "pullQueued", message: `waiting: ${PULLS_MAX} other images are being pulled` };
const CLASS_OF: Readonly<Record<StepKind, "engine" | "pull" | "free">> = {
  pull: "pull",
  createNetwork: "engine",
  createVolume: "engine",
  writeConfigs: "free",
  create: "engine",
  start: "engine",
  checkMounts: "engine",
  stop: "free",
  remove: "engine",
  conclude: "free",
  scheduleRestart: "free",
  forget: "free",
  removeNetwork: "engine",
  dropVolume: "engine",
  removeImage: "engine",
};

export interface ConvergerInput
  extends Omit<
    ExecutorContext,
    | "observed"
    | "engineInfo"
    | "refreshNetworks"
    | "refreshVolumes"
    | "touched"
    | "background"
    | "configsWritten"
    | "pulls"
    | "pullSignal"
    | "pullSignal"
  > {
  readonly facts: FactBook;
  /** File that a refusal names to the owner. */
  readonly policyFile: string;
  /** The engine came, went, or its volumes changed. */
  onEngineChange(): void;
}

export class Converger {
  readonly #input: ConvergerInput;
  readonly #observed: Observed;
  readonly #watch: EngineWatch;
  readonly #executors: Executors;
  readonly #context: ExecutorContext;
  readonly #busy = new Map<string, Promise<void>>();
  readonly #background = new Set<Promise<void>>();
  /** `awaited`: how many of the last failures in a row waited for something that may come. */
  readonly #retries = new Map<string, Retry & { readonly awaited: number }>();
  readonly #unusedSince = new Map<string, number>();
  /** Pulls under way, by image key. */
  readonly #pulls = new Map<string, AbortController>();
  readonly #refusals = new Map<string, { readonly policy: ReadPolicy; readonly desired: Desired }>();
  #running = { engine: 0, pull: 0 };
  #isScheduled = false;
  #isStopped = false;
  #cancelTimer: () => void = () => undefined;

  constructor(input: ConvergerInput) {
    this.#input = input;
    this.#observed = new Observed(input.clock);
    this.#watch = new EngineWatch({
      ...input,
      observed: this.#observed,
      isBusy: (replica) => this.#busy.has(keyOf.replica(replica)),
      onChange: () => this.wake(),
      // First what is known of each replica without the engine: the first report of a session names them all.
      onEngineChange: () => {
        this.wake();
        input.onEngineChange();
      },
    });
    this.#context = {
      ...input,
      observed: this.#observed,
      engineInfo: () => this.#watch.info,
      refreshNetworks: () => this.#watch.refreshNetworks(),
      refreshVolumes: () => this.#watch.refreshVolumes(),
      configsWritten: new Set(),
      pulls: new Map(),
      pullSignal: (imageKey) => {
        const pull = new AbortController();
        this.#pulls.set(imageKey, pull);
        return AbortSignal.any([this.#input.signal, pull.signal]);
      },
      touched: () => this.wake(),
      background: (work, what) => this.#keep(work, what),
    };
    this.#executors = makeExecutors(this.#context);
  }

  get engine(): { readonly reachable: boolean; readonly message: string; readonly info: EngineInfo | null } {
    return this.#watch.state;
  }
  get volumes(): readonly string[] {
    return this.#observed.ownVolumes;
  }

  /** Runs until `signal`; containers go on running. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#watch.run(signal);
    this.#isStopped = true;
    this.#cancelTimer();
    // What is under way is let finish, within reason: cut off, it would be found and gone on with at the next start.
    const under = Promise.allSettled([...this.#busy.values(), ...this.#background]);
    const done = new AbortController();
    await Promise.race([under.then(() => done.abort()), pause(this.#input.clock, STOP_PATIENCE_MS, done.signal)]);
  }

  /** Something may have changed: look again, once, after what is running now. */
  wake(): void {
    if (this.#isScheduled || this.#isStopped) return;
    this.#isScheduled = true;
    Promise.resolve().then(() => {
      this.#isScheduled = false;
      if (!this.#isStopped) this.#look();
    });
  }

  /** A new manifest: what an operator has mended is tried now and not after the wait of the last failure. */
  accepted(): void {
    this.#retries.clear();
    const wanted = new Set(this.#input.ledger.assignments().map(imageKeyOf));
    // A pull that crawls or hangs for what is no longer wanted would keep its place from what is.
    for (const [imageKey, pull] of this.#pulls) if (!wanted.has(imageKey)) pull.abort();
    this.wake();
  }

  /** What runs here has been looked at, or is known not to be knowable now. */
  get isKnown(): boolean {
    return this.#watch.isListed || this.#watch.hasFailed;
  }

  /** Until no replica of ours has a container: for a node that was removed. */
  get isEmpty(): boolean {
    return this.#watch.isListed && this.#input.ledger.records.size === 0;
  }

  #look(): void {
    const { ledger, clock } = this.#input;
    if (ledger.accepted === null || !this.#watch.isListed) {
      this.#describe(this.#views(), null);
      return;
    }
    this.#rememberNew();
    this.#rememberStarts();
    const views = this.#views();
    const world = this.#world(views);
    const next = nextSteps(world);
    for (const step of next.steps) this.#begin(step);
    this.#describe(views, next);
    this.#cancelTimer();
    if (next.wakeAtMs !== null) this.#cancelTimer = clock.after(Math.max(1, next.wakeAtMs - clock.bootMs()), () => this.wake());
  }

  /** Every assignment has a record from the moment that it is seen. */
  #rememberNew(): void {
    const { ledger, host } = this.#input;
    for (const ref of ledger.assignments()) {
      const known = ledger.record(ref.replica);
      if (known === undefined) ledger.rememberRecord(newRecord(ref, host.bootId));
      // Its image was resolved meanwhile; all else of an assignment never changes.
      else if (known.ref.image !== ref.image) ledger.rememberRecord({ ...known, ref });
    }
  }

  /** What their containers show and the ledger does not: the word of a start may be lost with the process, or it was somebody else's. */
  #rememberStarts(): void {
    const { ledger, host } = this.#input;
    for (const record of ledger.records.values()) {
      const container = this.#observed.container(record.containerId);
      if (container === null || hasEnded(record)) continue;
      const isKnown = record.hasStarted && (!isAlive(container) || (record.restartAtMs === null && record.bootId === host.bootId));
      if (isKnown || !(isAlive(container) || container.status === "exited")) continue;
      const seen = isAlive(container) ? asRunning(record, host.bootId) : { ...record, hasStarted: true };
      this.#keep(ledger.putRecord(seen), `writing the record of ${record.ref.replica}`);
    }
  }

  #views(): Map<string, ReplicaView> {
    const { ledger, facts } = this.#input;
    const desired = new Map(ledger.assignments().map((ref) => [ref.replica as string, ref]));
    const views = new Map<string, ReplicaView>();
    for (const [id, record] of ledger.records) {
      const ref = desired.get(id);
      const wanted = ref === undefined ? null : this.#desire(ref);
      views.set(id, {
        desired: wanted,
        record,
        container: this.#observed.container(record.containerId),
        isAcknowledged: ledger.isAbandoned || facts.isAcknowledged(id, record.state),
        configsWritten:
          this.#context.configsWritten.has(id) ||
          !(wanted?.kind === "allowed" && wanted.spec.workload.mounts.some((mount) => mount.kind === "config")),
        areMountsChecked:
          !(wanted?.kind === "allowed" && hasBinds(wanted.spec)) || record.mountsCheckedOf === this.#runOf(record.containerId),
      });
    }
    for (const id of this.#refusals.keys()) if (!desired.has(id)) this.#refusals.delete(id);
    return views;
  }

  #runOf(containerId: string | null): string | null {
    const inspected = containerId === null ? null : this.#observed.inspected(containerId);
    return inspected === null ? null : runOf(inspected, this.#input.host.bootId);
  }

  /** Judged once for each policy: a manifest's assignment never changes but for its image. */
  #desire(ref: AssignmentRef): Desired {
    const policy = this.#input.policy();
    const known = this.#refusals.get(ref.replica);
    if (known !== undefined && known.policy === policy && known.desired.ref === ref) return known.desired;
    const desired = this.#judge(ref, policy);
    this.#refusals.set(ref.replica, { policy, desired });
    return desired;
  }

  #judge(ref: AssignmentRef, policy: ReadPolicy): Desired {
    const spec = this.#input.ledger.spec(ref.spec);
    if (typeof spec === "string") return { kind: "refused", ref, refusal: { reason: "spec", message: spec } };
    const allowed = { kind: "allowed", ref, spec, imageKey: imageKeyOf(ref), hold: null } as const;
    // Nobody knows what the owner wants now: a typo must neither end what runs nor let in what is new.
    if (policy.problem !== null) return { ...allowed, hold: { reason: "policyUnreadable", message: policy.problem } };
    const refusal = judgeByPolicy({ ref, spec, policy: policy.policy, file: this.#input.policyFile });
    return refusal === null ? allowed : { kind: "refused", ref, refusal };
  }

  #world(views: ReadonlyMap<string, ReplicaView>): World {
    const { clock, host, ledger } = this.#input;
    return {
      nowMs: clock.bootMs(),
      bootId: host.bootId,
      replicas: views,
      images: this.#observed.images,
      networks: this.#observed.networks,
      volumes: this.#observed.volumes,
      ownVolumes: new Set(this.#observed.ownVolumes),
      ownNetworks: this.#observed.ownNetworks,
      dropVolumes: ledger.accepted?.manifest.dropVolumes ?? [],
      pulled: this.#pulledImages(views),
      busy: new Set(this.#busy.keys()),
      retries: this.#retries,
      isManifestConfirmed: ledger.isConfirmed,
    };
  }

  #pulledImages(views: ReadonlyMap<string, ReplicaView>): PulledImage[] {
    const nowMs = this.#input.clock.bootMs();
    /** Ids and references: of a pull that was cut off only the reference is known. */
    const needed = new Set<string>();
    for (const { desired, container, record } of views.values()) {
      if (record.imageId !== null && (desired !== null || container !== null)) needed.add(record.imageId);
      if (desired?.kind === "allowed") needed.add(pullReference(desired.ref.image));
      const image = desired?.kind === "allowed" ? this.#observed.images.get(desired.imageKey) : undefined;
      if (image !== undefined) needed.add(image);
    }
    return this.#input.ledger.pulled.map(({ reference, imageId }) => {
      if (needed.has(reference) || (imageId !== null && needed.has(imageId))) this.#unusedSince.delete(reference);
      else if (!this.#unusedSince.has(reference)) this.#unusedSince.set(reference, nowMs);
      return { reference, imageId, unusedSinceMs: this.#unusedSince.get(reference) ?? null };
    });
  }

  #begin(step: Step): void {
    const kind = CLASS_OF[step.kind];
    if (kind === "engine" && this.#running.engine >= ENGINE_STEPS_MAX) return;
    if (kind === "pull" && this.#running.pull >= PULLS_MAX) return;
    if (kind !== "free") this.#running[kind]++;
    const work = this.#execute(step).finally(() => {
      if (kind !== "free") this.#running[kind]--;
      if (step.kind === "pull") this.#pulls.delete(step.imageKey);
      this.#busy.delete(step.key);
      this.wake();
    });
    this.#busy.set(step.key, work);
  }

  async #execute(step: Step): Promise<void> {
    const { clock, log } = this.#input;
    const replica = "replica" in step ? step.replica : undefined;
    log.debug({ step: step.kind, key: step.key }, "step");
    try {
      // The mapped type of the executors proves that each kind has one; indexing by a union cannot show it.
      await (this.#executors[step.kind] as (step: Step) => Promise<void>)(step);
      // It is a part of making the container: what failed in that is still to be tried again.
      if (step.kind !== "writeConfigs") this.#retries.delete(step.key);
    } catch (error) {
      if (this.#isStopped || (step.kind === "pull" && this.#pulls.get(step.imageKey)?.signal.aborted === true)) return;
      const former = this.#retries.get(step.key);
      const count = (former?.count ?? 0) + 1;
      const awaited = isAwaited(error) ? (former?.awaited ?? 0) + 1 : 0;
      const { reason, message, isAwaiting } = describeStepFailure(step.kind, error, count);
      const atMs = clock.bootMs() + retryDelayMs(step.kind, { count, isAwaiting });
      this.#retries.set(step.key, { count, awaited, reason, message, atMs });
      // What is waited for is said once, not each second.
      const level = isAwaiting && former?.message === message ? "debug" : "warn";
      log[level]({ step: step.kind, key: step.key, count, error: message }, "a step failed");
      if (isFinal(step.kind, error, awaited) && replica !== undefined) await this.#reject(replica, message);
    }
    if (replica !== undefined) await this.#watch.settle(this.#input.ledger.record(replica)?.containerId ?? null);
  }

  async #reject(replica: string, message: string): Promise<void> {
    const record = this.#input.ledger.record(replica);
    if (record === undefined) return;
    await this.#input.ledger
      .concludeRecord({ ...record, state: "rejected", reason: "engineRefused", message: message.slice(0, 2048) })
      .catch((error: unknown) => {
        this.#input.log.error({ replica, error: String(error) }, "a rejection could not be written");
      });
  }

  #describe(views: ReadonlyMap<string, ReplicaView>, next: NextSteps | null): void {
    const { facts, clock } = this.#input;
    const seenMs = this.#watch.state.reachable ? clock.bootMs() : this.#watch.lastSeenMs;
    for (const [id, view] of views) {
      if (view.record.state === "assigned" && view.desired === null && view.container === null && next === null) continue;
      const imageKey = view.desired?.kind === "allowed" ? view.desired.imageKey : "";
      const isPreparing = next !== null && view.container === null;
      const fact = factOf({
        view,
        waiting: next?.waiting.get(id) ?? (this.#isQueued(view) ? QUEUED : undefined),
        isPreparing,
        isManifestConfirmed: this.#input.ledger.isConfirmed,
        pull: this.#context.pulls.get(imageKey) ?? null,
      });
      facts.put(fact, { readySinceMs: view.container?.readySinceMs ?? null, seenMs });
      // Forward only, from one look to the next.
      if (fact.state !== view.record.state && !isTerminal(fact.state))
        this.#input.ledger.rememberRecord({ ...(this.#input.ledger.record(id) ?? view.record), state: fact.state });
    }
    for (const id of facts.replicas()) if (!views.has(id)) facts.remove(id);
  }

  /** Its image is to be pulled, and all places are taken. */
  #isQueued({ desired, container }: ReplicaView): boolean {
    if (desired?.kind !== "allowed" || container !== null || this.#running.pull < PULLS_MAX) return false;
    return !this.#observed.images.has(desired.imageKey) && !this.#pulls.has(desired.imageKey);
  }

  #keep(work: Promise<void>, what: string): void {
    const kept = work
      .catch((error: unknown) => this.#input.log.error({ error: String(error) }, `${what} failed`))
      .finally(() => this.#background.delete(kept));
    this.#background.add(kept);
  }
}

const isTerminal = (state: ReplicaRecord["state"]): boolean =>
  state === "completed" || state === "stopped" || state === "failed" || state === "rejected";
