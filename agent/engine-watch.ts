/**
 * Keeps the picture of the engine fresh: its event stream first, then a complete listing, so that nothing falls between
 * the two; a listing every 30 s and after each gap besides, because events can be lost (F7) and an engine can hang (F6).
 */
import { newRecord, type ReplicaRecord } from "../shared/converge/record.ts";
import { networkName } from "../shared/converge/names.ts";
import { AssignmentRef } from "../shared/wire/poll.ts";
import { containerProof, type NodeKeys } from "./crypto.ts";
import { describeEngineProblem } from "./engine/detect.ts";
import { type Engine, EngineError, type EngineEvent, type EngineInfo, type ListedContainer } from "./engine/engine.ts";
import { LABEL_APP, LABEL_NAMESPACE, LABEL_NODE, LABEL_PROOF, LABEL_REPLICA, LABEL_SPEC } from "./engine/labels.ts";
import type { Ledger } from "./ledger.ts";
import type { Observed } from "./observed.ts";
import { pause } from "./pause.ts";
import type { Clock, Host, Log } from "./ports.ts";

const LIST_EVERY_MS = 30_000;
const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 5_000;
/** Inspections at a time while listing: an engine answers one in about 2 ms. */
const INSPECTIONS_MAX = 8;
/** INT, QUIT, KILL, TERM, and the real-time signal that some init programs end by; others, as HUP, are a conversation. */
const ENDING_SIGNALS: ReadonlySet<string> = new Set(["2", "3", "9", "15", "37"]);
const CONTAINER_ACTIONS = /^(?:start|die|oom|destroy|pause|unpause|rename|health_status.*)$/;

export interface EngineWatchInput {
  readonly engine: Engine;
  readonly ledger: Ledger;
  readonly observed: Observed;
  readonly clock: Clock;
  readonly host: Host;
  readonly log: Log;
  readonly keys: NodeKeys;
  readonly node: string;
  isBusy(replica: string): boolean;
  onChange(): void;
  onEngineChange(): void;
}

export interface EngineState {
  readonly reachable: boolean;
  readonly message: string;
  readonly info: EngineInfo | null;
}

export class EngineWatch {
  readonly #input: EngineWatchInput;
  /** Containers with an event while their replica was busy: looked at when it no longer is. */
  readonly #unsettled = new Set<string>();
  readonly #inspecting = new Map<string, { again: boolean }>();
  #state: EngineState = { reachable: false, message: "not asked yet", info: null };
  #isListed = false;
  #hasFailed = false;
  #lastSeenMs = 0;
  #listing: Promise<void> | null = null;

  constructor(input: EngineWatchInput) {
    this.#input = input;
  }

  get state(): EngineState {
    return this.#state;
  }
  get info(): EngineInfo {
    if (this.#state.info === null) throw new EngineError("unreachable", this.#state.message);
    return this.#state.info;
  }
  get isListed(): boolean {
    return this.#isListed;
  }
  /** It was asked and did not answer, at least once. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }
  get lastSeenMs(): number {
    return this.#lastSeenMs;
  }

  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    let goneMs: number | null = null;
    while (!signal.aborted) {
      try {
        await this.#watchOnce(signal, goneMs, () => {
          failures = 0;
          goneMs = null;
        });
      } catch (error) {
        if (signal.aborted) return;
        this.#unreachable(error);
      }
      if (signal.aborted) return;
      failures++;
      goneMs ??= this.#input.clock.bootMs();
      await pause(this.#input.clock, Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** Math.min(failures - 1, 10)), signal);
    }
  }

  /** `goneMs`: since when it has been away; null: it was not. */
  async #watchOnce(signal: AbortSignal, goneMs: number | null, onWell: () => void): Promise<void> {
    const { engine } = this.#input;
    const info = await engine.info();
    const problem = describeEngineProblem(info);
    if (problem !== null) throw new EngineError("failed", problem);
    // It counts as reachable once it was listed: until then what was seen before it went may be told of.
    this.#setState({ ...this.#state, info });
    const ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);
    let relisting: Promise<void> = Promise.resolve();
    try {
      await engine.events({
        signal: both,
        onOpen: () => {
          relisting = this.#listUntil(both, goneMs, onWell).catch((error: unknown) => {
            if (!both.aborted) this.#unreachable(error);
            ended.abort();
          });
        },
        onEvent: (event) => this.#onEvent(event),
      });
    } catch (error) {
      if (!ended.signal.aborted) throw error;
    } finally {
      ended.abort();
      await relisting;
    }
  }

  async #listUntil(signal: AbortSignal, goneMs: number | null, onWell: () => void): Promise<void> {
    let isFirst = true;
    while (!signal.aborted) {
      await this.relist({ inspectAll: isFirst, goneMs: isFirst ? goneMs : null });
      if (isFirst) onWell();
      isFirst = false;
      await pause(this.#input.clock, LIST_EVERY_MS, signal);
    }
  }

  /** Everything that is ours, as it is now. Rejects when the engine does not say. */
  relist(how: { readonly inspectAll: boolean; readonly goneMs: number | null }): Promise<void> {
    this.#listing ??= this.#list(how).finally(() => {
      this.#listing = null;
    });
    return this.#listing;
  }

  async #list({ inspectAll, goneMs }: { readonly inspectAll: boolean; readonly goneMs: number | null }): Promise<void> {
    const { engine, observed, ledger } = this.#input;
    const listed = await engine.listByLabel(LABEL_REPLICA);
    const present = new Map(listed.map((item) => [item.id, item]));
    this.#adopt(listed);
    const ours = new Set([...ledger.records.values()].flatMap(({ containerId }) => (containerId === null ? [] : [containerId])));
    for (const id of observed.ids()) if (!ours.has(id) || (!present.has(id) && !this.#isBusyContainer(id))) observed.forget(id);
    const stale = [...ours].filter((id) => {
      const item = present.get(id);
      return item !== undefined && (inspectAll || observed.container(id)?.status !== item.status);
    });
    for (let start = 0; start < stale.length; start += INSPECTIONS_MAX) {
      await Promise.all(stale.slice(start, start + INSPECTIONS_MAX).map((id) => this.#inspect(id, goneMs)));
    }
    await this.refreshNetworks();
    await this.refreshVolumes();
    this.#lastSeenMs = this.#input.clock.bootMs();
    this.#setState({ ...this.#state, reachable: true, message: "" });
    const wasListed = this.#isListed;
    this.#isListed = true;
    this.#input.onChange();
    if (!wasListed) this.#input.onEngineChange();
  }

  /**
   * A container is ours by the ledger, or by a proof that only this node's key makes: it was created and its id never
   * reached the disk, or the disk lost it. Labels alone make nothing ours.
   */
  #adopt(listed: readonly ListedContainer[]): void {
    const { ledger, keys, log } = this.#input;
    const present = new Set(listed.map(({ id }) => id));
    const owned = new Set([...ledger.records.values()].map(({ containerId }) => containerId));
    for (const item of listed) {
      const replica = item.labels[LABEL_REPLICA] ?? "";
      const spec = item.labels[LABEL_SPEC] ?? "";
      if (owned.has(item.id) || item.labels[LABEL_PROOF] !== containerProof(keys, replica, spec)) continue;
      const record = ledger.record(replica) ?? this.#recordOf(item, spec);
      // It has a container already, which is there: this one is a copy that somebody made.
      if (record === null || (record.containerId !== null && present.has(record.containerId)) || record.ref.spec !== spec) continue;
      log.info({ replica, container: item.id.slice(0, 12) }, "adopted a container of ours that the ledger did not name");
      const adopted: ReplicaRecord = { ...record, containerId: item.id, hasStarted: record.hasStarted || item.status !== "created" };
      ledger
        .putRecord(adopted)
        .catch((error: unknown) => log.error({ replica, error: String(error) }, "an adopted container could not be written down"));
    }
  }

  /** By the manifest, or put together from the labels that the proof vouches for: it is then stopped in an orderly way. */
  #recordOf(item: ListedContainer, spec: string): ReplicaRecord | null {
    const { ledger, host } = this.#input;
    const replica = item.labels[LABEL_REPLICA];
    const assigned = ledger.accepted?.manifest.assignments.find((assignment) => assignment.replica === replica);
    if (assigned !== undefined) return newRecord(assigned, host.bootId);
    const ref = AssignmentRef.safeParse({
      replica,
      namespace: item.labels[LABEL_NAMESPACE],
      app: item.labels[LABEL_APP],
      service: item.labels["berth.service"],
      slot: item.labels["berth.slot"],
      revision: Number(item.labels["berth.revision"]),
      spec,
      image: { reference: "unknown", digest: null, imageId: null, resolve: false },
    });
    return ref.success ? newRecord(ref.data, host.bootId) : null;
  }

  async refreshNetworks(): Promise<void> {
    const { engine, observed, node } = this.#input;
    const list = await engine.networks();
    const ours = list.filter(
      ({ name, labels }) => labels[LABEL_NODE] === node && name === networkName(labels[LABEL_NAMESPACE] ?? "", labels[LABEL_APP] ?? ""),
    );
    observed.networks = new Set(list.map(({ name }) => name));
    observed.ownNetworks = new Set(ours.map(({ name }) => name));
  }

  async refreshVolumes(): Promise<void> {
    const { engine, observed, node } = this.#input;
    const list = await engine.volumes();
    observed.volumes = new Set(list.map(({ name }) => name));
    const before = observed.ownVolumes.join(" ");
    observed.ownVolumes = list
      .filter(({ labels }) => labels[LABEL_APP] !== undefined && labels[LABEL_NODE] === node)
      .map(({ name }) => name)
      .sort();
    if (observed.ownVolumes.join(" ") !== before) this.#input.onEngineChange();
  }

  #onEvent(event: EngineEvent): void {
    const { observed } = this.#input;
    if (event.type === "image") {
      // Which names it had is no longer known: each is asked for again when it is needed.
      if (event.action === "delete" || event.action === "untag") observed.images.clear();
      return;
    }
    if (event.type === "network") {
      if (event.action === "destroy") this.#later(() => this.refreshNetworks());
      return;
    }
    if (event.type === "volume") {
      if (event.action !== "rename") this.#later(() => this.refreshVolumes());
      return;
    }
    const replica = this.#replicaOf(event.id);
    if (replica === null) return;
    if (event.action === "kill" && ENDING_SIGNALS.has(event.signal ?? "")) observed.noteKill(event.id);
    if (!CONTAINER_ACTIONS.test(event.action)) return;
    // The step that is under way looks by itself after what it does; what comes after that look must not be lost.
    if (this.#input.isBusy(replica)) {
      if (event.action !== "start") this.#unsettled.add(event.id);
      return;
    }
    this.#later(() => this.#inspect(event.id, null));
  }

  /** A step on this container is over. */
  async settle(containerId: string | null): Promise<void> {
    if (containerId === null || !this.#unsettled.delete(containerId)) return;
    await this.#inspect(containerId, null).catch((error: unknown) =>
      this.#input.log.debug({ error: String(error) }, "could not look again"),
    );
  }

  #later(look: () => Promise<void>): void {
    look().then(
      () => this.#input.onChange(),
      (error: unknown) => this.#input.log.debug({ error: String(error) }, "could not look; the next listing will"),
    );
  }

  async #inspect(id: string, engineGoneMs: number | null): Promise<void> {
    const running = this.#inspecting.get(id);
    if (running !== undefined) {
      running.again = true;
      return;
    }
    const mine = { again: true };
    this.#inspecting.set(id, mine);
    try {
      while (mine.again) {
        mine.again = false;
        const inspected = await this.#input.engine.inspect(id);
        if (inspected === null) this.#input.observed.forget(id);
        else this.#input.observed.see(inspected, { engineGoneMs });
      }
    } finally {
      this.#inspecting.delete(id);
    }
  }

  #replicaOf(containerId: string): string | null {
    for (const [replica, record] of this.#input.ledger.records) if (record.containerId === containerId) return replica;
    return null;
  }

  #isBusyContainer(containerId: string): boolean {
    const replica = this.#replicaOf(containerId);
    return replica !== null && this.#input.isBusy(replica);
  }

  #unreachable(error: unknown): void {
    this.#hasFailed = true;
    const message = error instanceof Error ? error.message : String(error);
    if (this.#state.reachable) this.#input.log.warn({ error: message }, "the container engine is not reachable");
    this.#setState({ reachable: false, message: message.slice(0, 512), info: this.#state.info });
  }

  #setState(state: EngineState): void {
    const before = this.#state;
    this.#state = state;
    if (before.reachable !== state.reachable || before.message !== state.message) this.#input.onEngineChange();
  }
}
