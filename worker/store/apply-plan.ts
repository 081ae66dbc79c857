/**
 * Commits a plan by compare-and-set, in chunks that are each a valid state: what ends or stops comes before what is
 * assigned, and what says that all is done comes last. Killed between two chunks, the next plan goes on from there.
 *
 * Each chunk is refused when another plan was committed since (of two planners one loses), or when a row that the plan
 * relied on has moved.
 */
import type { Change, ClusterPlan } from "../../shared/plan/change.ts";
import type { Explanation } from "../../shared/plan/explanation.ts";
import type { ClusterSnapshot } from "../../shared/plan/snapshot.ts";
import { obtain } from "../../shared/schedule/obtain.ts";
import { assert } from "./assert.ts";
import { type CommitResult, type Guard, type NewRow, NOW, type RowChange } from "./commit-types.ts";
import { planEvents } from "./plan-events.ts";
import { PlanIndex } from "./plan-index.ts";
import { type ChunkFacts, chunkGuards, chunkRows } from "./plan-rows.ts";
import { readDropping, readEnding } from "./read-plan.ts";
import type { Store } from "./store.ts";

/** About 25 ms of database work each, so that polls and reports get their turn in between. */
export const CHANGES_A_CHUNK_MAX = 2_000;

export type Applied =
  | { readonly kind: "committed"; readonly rev: number }
  | { readonly kind: "unchanged" }
  | {
      readonly kind: "conflict";
      readonly message: string;
      /** Chunks that stand: those before the refused one, and in a narrow plan those of other apps. */
      readonly committedChunks: number;
      /** Of the last chunk that stands. */
      readonly rev: number;
    };
/** Whole: in chunks as large as may be. Narrow: app by app where rows that it relied on have moved. */
export type PlanWidth = "whole" | "narrow";

/** Phases in which a cut leaves nothing half done; within one, by node, so that a chunk touches few nodes. */
const PHASE: Record<Change["kind"], number> = {
  end: 0,
  stop: 0,
  bindVolume: 1,
  resolver: 2,
  assign: 3,
  removeService: 4,
  canaries: 5,
  deployment: 5,
  removeApp: 6,
};

export class PlanApplier {
  readonly #store: Store;
  readonly #chunkMax: number;
  /** What is stored for each service, by app and name, without its rev: the same explanation again is not written again. */
  readonly #explained = new Map<string, Map<string, string>>();

  constructor(store: Store, chunkMax = CHANGES_A_CHUNK_MAX) {
    this.#store = store;
    this.#chunkMax = chunkMax;
  }

  /**
   * `snapshot` is the one that the plan was made from, not advanced since. `narrow` for a plan whose forerunners were
   * refused: see `#applyByApp`.
   */
  async apply(snapshot: ClusterSnapshot, plan: ClusterPlan, width: PlanWidth = "whole"): Promise<Applied> {
    const explanations = this.#newExplanations(plan);
    if (plan.changes.length === 0) {
      await this.#explain(explanations);
      return { kind: "unchanged" };
    }
    const progress: Progress = {
      index: new PlanIndex(snapshot, plan),
      rev: plan.rev,
      moved: new Map(),
      chunks: 0,
      refused: null,
    };
    if (width === "narrow") await this.#applyByApp(byApp(plan.changes, progress.index), progress);
    else await this.#applyChunks(plan.changes, progress, explanationRows(explanations));
    const { rev, refused, chunks } = progress;
    if (refused !== null) return { kind: "conflict", message: refused.message, committedChunks: chunks, rev };
    if (width === "narrow") await this.#explain(explanations);
    else this.#remember(explanations);
    return { kind: "committed", rev };
  }

  /**
   * Apps do not build on each other: what one of them frees is free when its node has said so. So a slice of several apps
   * that is refused is halved until the app is found whose rows move all the time, and the others go on without it.
   */
  async #applyByApp(apps: readonly (readonly Change[])[], progress: Progress): Promise<void> {
    const changes = apps.flat();
    if (apps.length === 1 || changes.length <= this.#chunkMax) {
      const before = progress.refused;
      progress.refused = null;
      await this.#applyChunks(changes, progress, []);
      const refused = progress.refused as Refused | null;
      progress.refused ??= before;
      if (refused === null || refused.what !== "guard" || apps.length === 1) return;
    }
    const half = Math.ceil(apps.length / 2);
    for (const part of [apps.slice(0, half), apps.slice(half)]) {
      if (progress.refused?.what === "rev") return;
      await this.#applyByApp(part, progress);
    }
  }

  /** In order, up to the first that is refused; `last` goes with the last. */
  async #applyChunks(plan: readonly Change[], progress: Progress, last: readonly RowChange[]): Promise<void> {
    const { index, moved } = progress;
    const chunks = chunksOf(plan, this.#chunkMax);
    for (const [number, chunk] of chunks.entries()) {
      const changes = chunkRows(chunk, await this.#facts(chunk), index);
      const result = await this.#store.commit({
        atRev: progress.rev,
        guards: chunkGuards(chunk, index, moved),
        changes: number === chunks.length - 1 ? [...changes, ...last] : changes,
        events: planEvents(chunk, index),
      });
      if (result.kind === "conflict") {
        progress.refused = result;
        return;
      }
      assert(result.kind === "committed", "a plan has no operation id");
      progress.rev = result.rev;
      progress.chunks += 1;
      for (const id of movedNodes(changes)) moved.set(id, result.rev);
      this.#forget(chunk);
    }
  }

  async #facts(chunk: readonly Change[]): Promise<ChunkFacts> {
    const ids = chunk.flatMap((change) => (change.kind === "end" ? [change.replica as string] : []));
    const apps = chunk.flatMap((change) => (change.kind === "removeApp" ? [change.appId as string] : []));
    return {
      ending: ids.length === 0 ? [] : await readEnding(this.#store, ids),
      dropping: apps.length === 0 ? [] : await readDropping(this.#store, apps),
    };
  }

  /** Explanations are answers to `why`, not state: they move no rev and ring nobody. Of what has gone meanwhile there are none. */
  async #explain(explanations: readonly Explained[]): Promise<void> {
    if (explanations.length === 0) return;
    const guards = explanations.map(
      ({ explanation: { appId, service: name } }): Guard => ({ table: "services", key: { appId, name }, equals: { name } }),
    );
    const { kind } = await this.#store.commit({ advance: "none", guards, changes: explanationRows(explanations) });
    if (kind === "committed") this.#remember(explanations);
  }

  /** None for what the same plan removes: nobody would clear it up. */
  #newExplanations({ explanations, changes }: ClusterPlan): Explained[] {
    const removed = new Set(
      changes.flatMap((change) =>
        change.kind === "removeApp"
          ? [change.appId as string]
          : change.kind === "removeService"
            ? [`${change.appId} ${change.service}`]
            : [],
      ),
    );
    return explanations.flatMap((explanation) => {
      const { appId, service } = explanation;
      const text = JSON.stringify({ ...explanation, atRev: 0 });
      const isKnown = this.#explained.get(appId)?.get(service) === text;
      return isKnown || removed.has(appId) || removed.has(`${appId} ${service}`) ? [] : [{ text, explanation }];
    });
  }

  #remember(explanations: readonly Explained[]): void {
    for (const { text, explanation } of explanations)
      obtain(this.#explained, explanation.appId, () => new Map<string, string>()).set(explanation.service, text);
  }

  /** Their rows went with them. */
  #forget(committed: readonly Change[]): void {
    for (const change of committed) {
      if (change.kind === "removeApp") this.#explained.delete(change.appId);
      if (change.kind === "removeService") this.#explained.get(change.appId)?.delete(change.service);
    }
  }
}

type Refused = Extract<CommitResult, { readonly kind: "conflict" }>;

/** How far a plan has got. */
interface Progress {
  readonly index: PlanIndex;
  rev: number;
  /** Revs of nodes that its own chunks have changed. */
  readonly moved: Map<string, number>;
  chunks: number;
  refused: Refused | null;
}

interface Explained {
  readonly text: string;
  readonly explanation: Explanation;
}

function explanationRows(explanations: readonly Explained[]): RowChange[] {
  if (explanations.length === 0) return [];
  const rows = explanations.map(
    ({ explanation }): NewRow<"explanations"> => ({
      appId: explanation.appId,
      service: explanation.service,
      body: JSON.stringify(explanation),
      atMs: NOW,
    }),
  );
  return [{ op: "insert", table: "explanations", onConflict: "replace", rows }];
}

/** The changes of each app, in the plan's order. */
function byApp(changes: readonly Change[], index: PlanIndex): Change[][] {
  return [...Map.groupBy(changes, (change) => ("appId" in change ? change.appId : index.replica(change.replica).appId)).values()];
}

function chunksOf(changes: readonly Change[], max: number): Change[][] {
  const node = (change: Change): string => ("nodeId" in change ? (change.nodeId ?? "") : "");
  const ordered = changes
    .map((change) => ({ change, phase: PHASE[change.kind], node: node(change) }))
    .sort((a, b) => a.phase - b.phase || (a.node < b.node ? -1 : a.node > b.node ? 1 : 0));
  const chunks: Change[][] = [];
  for (let from = 0; from < ordered.length; from += max) chunks.push(ordered.slice(from, from + max).map(({ change }) => change));
  return chunks;
}

/** Guarded rows that this chunk gave its own rev. */
function movedNodes(changes: readonly RowChange[]): string[] {
  return changes.flatMap((change) =>
    change.op === "update" && change.table === "nodes" ? change.rows.flatMap(({ id }) => (typeof id === "string" ? [id] : [])) : [],
  );
}
