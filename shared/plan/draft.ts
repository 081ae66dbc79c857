/** The plan while it is being made: changes by kind, the next time to look, and what to tell people. */
import { obtain } from "../schedule/obtain.ts";
import type { AppId } from "../model/name.ts";
import type { Change, ClusterPlan, PlanReason } from "./change.ts";
import type { ClusterIndex } from "./cluster-index.ts";
import type { Explanation, PlacementFilter } from "./explanation.ts";
import type { ServiceState } from "./snapshot.ts";

type Of<Kind extends Change["kind"]> = Extract<Change, { kind: Kind }>;
export type Rejection = { filter: PlacementFilter; nodes: number; message: string };

/** `placed` is bounded: an explanation is for people to read, and is stored. */
const PLACED_MAX = 200;

export class Notes {
  readonly service: ServiceState;
  readonly placed: Explanation["placed"] = [];
  placedTotal = 0;
  nodes = 0;
  feasible = 0;
  rejected: Rejection[] = [];
  readonly unplaced = new Map<string, { slots: string[]; reason: string; message: string; rejected: Rejection[] }>();
  readonly waiting = new Set<string>();

  constructor(service: ServiceState) {
    this.service = service;
  }

  get wantsPlaced(): boolean {
    return this.placed.length < PLACED_MAX;
  }

  cannotPlace(slot: string, why: { reason: string; message: string; rejected: Rejection[] }): void {
    const group = this.unplaced.get(why.message);
    if (group) group.slots.push(slot);
    else this.unplaced.set(why.message, { slots: [slot], ...why });
  }
}

export class Draft {
  readonly #index: ClusterIndex;
  readonly #ends: Of<"end">[] = [];
  readonly #stops: Of<"stop">[] = [];
  readonly #left = new Set<number>();
  readonly assigns: Of<"assign">[] = [];
  readonly #binds: Of<"bindVolume">[] = [];
  readonly #resolvers: Of<"resolver">[] = [];
  readonly #canaries: Of<"canaries">[] = [];
  readonly #deployments: Of<"deployment">[] = [];
  readonly #removals: (Of<"removeService"> | Of<"removeApp">)[] = [];
  readonly #notes = new Map<ServiceState, Notes>();
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(index: ClusterIndex) {
    this.#index = index;
  }

  /** Look again then. A time that has passed needs no wake-up: this plan has seen it. */
  wakeAt(ms: number): void {
    if (ms > this.#index.nowMs && ms < this.#wakeAtMs) this.#wakeAtMs = ms;
  }

  notes(service: ServiceState): Notes {
    return obtain(this.#notes, service, () => new Notes(service));
  }

  /** True when this plan ends or stops the row. */
  leaves(row: number): boolean {
    return this.#left.has(row);
  }

  end(row: number, reason: PlanReason): void {
    if (this.#left.has(row)) return;
    this.#left.add(row);
    this.#ends.push({ kind: "end", replica: this.#index.snapshot.replicas.id[row]!, nodeId: this.#index.node(row)?.id ?? null, reason });
  }

  /** Terminal rows end at once: there is nothing left to stop. */
  stop(row: number, reason: PlanReason): void {
    if (this.#left.has(row)) return;
    if (this.#index.isTerminal(row)) {
      this.end(row, reason);
      return;
    }
    this.#left.add(row);
    this.#stops.push({ kind: "stop", replica: this.#index.snapshot.replicas.id[row]!, nodeId: this.#index.node(row)!.id, reason });
  }

  assign(change: Omit<Of<"assign">, "kind">): void {
    this.assigns.push({ kind: "assign", ...change });
  }

  bindVolume(change: Omit<Of<"bindVolume">, "kind">): void {
    this.#binds.push({ kind: "bindVolume", ...change });
  }

  resolver(change: Omit<Of<"resolver">, "kind">): void {
    this.#resolvers.push({ kind: "resolver", ...change });
  }

  canaries(change: Omit<Of<"canaries">, "kind">): void {
    this.#canaries.push({ kind: "canaries", ...change });
  }

  finish(change: Omit<Of<"deployment">, "kind">): void {
    this.#deployments.push({ kind: "deployment", ...change });
  }

  removeService(appId: AppId, service: string): void {
    this.#removals.push({ kind: "removeService", appId, service });
  }

  removeApp(appId: AppId): void {
    this.#removals.push({ kind: "removeApp", appId });
  }

  /** Rows leave before others enter, so that every prefix of the changes is a valid state. */
  plan(): ClusterPlan {
    const byReplica = (a: { replica: string }, b: { replica: string }) => (a.replica < b.replica ? -1 : 1);
    const byApp = (a: { appId: string }, b: { appId: string }) => (a.appId < b.appId ? -1 : a.appId > b.appId ? 1 : 0);
    return {
      rev: this.#index.snapshot.rev,
      changes: [
        ...this.#ends.sort(byReplica),
        ...this.#stops.sort(byReplica),
        ...this.#binds,
        ...this.assigns,
        ...this.#resolvers,
        ...this.#removals.sort(byApp),
        ...this.#canaries.sort(byApp),
        ...this.#deployments.sort(byApp),
      ],
      wakeAtMs: Number.isFinite(this.#wakeAtMs) ? this.#wakeAtMs : null,
      explanations: this.#explanations(),
    };
  }

  #explanations(): Explanation[] {
    return [...this.#notes.values()]
      .sort((a, b) =>
        a.service.appId === b.service.appId ? (a.service.name < b.service.name ? -1 : 1) : a.service.appId < b.service.appId ? -1 : 1,
      )
      .map((notes) => ({
        appId: notes.service.appId,
        service: notes.service.name,
        atRev: this.#index.snapshot.rev,
        nodes: notes.nodes,
        feasible: notes.feasible,
        rejected: notes.rejected,
        placed: notes.placed,
        placedTotal: notes.placedTotal,
        unplaced: [...notes.unplaced.values()],
        waiting: [...notes.waiting].sort(),
      }));
  }
}
