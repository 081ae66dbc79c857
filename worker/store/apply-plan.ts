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
import { assert } from "./assert.ts";
import { type NewRow, NOW, type RowChange } from "./commit-types.ts";
import { planEvents } from "./plan-events.ts";
import { PlanIndex } from "./plan-index.ts";
import { type ChunkFacts, chunkGuards, chunkRows } from "./plan-rows.ts";
import { readDropping, readEnding } from "./read-plan.ts";
import type { Store } from "./store.ts";

/** About 25 ms of database work each, so that polls and reports get their turn in between. */
export const CHANGES_A_CHUNK_MAX = 2_000;

export type Applied =
  | {
      readonly kind: "committed";
      readonly rev: number /** Deployments that failed and are to be rolled back, for the caller. */;
      readonly rollbacks: readonly Rollback[];
    }
  | { readonly kind: "unchanged" }
  | { readonly kind: "conflict"; readonly message: string /** Chunks before the refused one stand. */; readonly committedChunks: number };
export interface Rollback {
  readonly deployment: string;
  readonly appId: string;
  readonly revision: number;
}

/** Phases in which a cut leaves nothing half done; within one, by node, so that a chunk touches few nodes. */
const PHASE: Record<Change["kind"], number> = {
  end: 0,
  stop: 0,
  bindVolume: 1,
  resolver: 2,
  assign: 3,
  removeService: 4,
  deployment: 5,
  removeApp: 6,
};

export class PlanApplier {
  readonly #store: Store;
  readonly #chunkMax: number;
  /** What was last stored for each service, without its rev: the same explanation again is not written again. */
  #explained = new Map<string, string>();

  constructor(store: Store, chunkMax = CHANGES_A_CHUNK_MAX) {
    this.#store = store;
    this.#chunkMax = chunkMax;
  }

  /** `snapshot` is the one that the plan was made from, not advanced since. */
  async apply(snapshot: ClusterSnapshot, plan: ClusterPlan): Promise<Applied> {
    const explanations = this.#newExplanations(plan.explanations);
    if (plan.changes.length === 0) {
      await this.#explain(explanations);
      return { kind: "unchanged" };
    }
    const index = new PlanIndex(snapshot, plan);
    const chunks = chunksOf(plan.changes, this.#chunkMax);
    const moved = new Map<string, number>();
    let rev = plan.rev;
    for (const [number, chunk] of chunks.entries()) {
      const facts = await this.#facts(chunk);
      const changes = chunkRows(chunk, facts, index);
      const isLast = number === chunks.length - 1;
      const result = await this.#store.commit({
        atRev: rev,
        guards: chunkGuards(chunk, index, moved),
        changes: isLast ? [...changes, ...explanationRows(explanations, plan.changes)] : changes,
        events: planEvents(chunk, index),
      });
      if (result.kind === "conflict") return { kind: "conflict", message: result.message, committedChunks: number };
      assert(result.kind === "committed", "a plan has no operation id");
      rev = result.rev;
      for (const id of movedNodes(changes)) moved.set(id, rev);
    }
    for (const { key, text } of explanations) this.#explained.set(key, text);
    return { kind: "committed", rev, rollbacks: rollbacksOf(plan.changes) };
  }

  async #facts(chunk: readonly Change[]): Promise<ChunkFacts> {
    const ids = chunk.flatMap((change) => (change.kind === "end" ? [change.replica as string] : []));
    const apps = chunk.flatMap((change) => (change.kind === "removeApp" ? [change.appId as string] : []));
    return {
      ending: ids.length === 0 ? [] : await readEnding(this.#store, ids),
      dropping: apps.length === 0 ? [] : await readDropping(this.#store, apps),
    };
  }

  /** Explanations are answers to `why`, not state: they move no rev and ring nobody. */
  async #explain(explanations: readonly Explained[]): Promise<void> {
    if (explanations.length === 0) return;
    await this.#store.commit({ advance: "none", changes: explanationRows(explanations, []) });
    for (const { key, text } of explanations) this.#explained.set(key, text);
  }

  #newExplanations(explanations: readonly Explanation[]): Explained[] {
    return explanations.flatMap((explanation) => {
      const key = `${explanation.appId} ${explanation.service}`;
      const text = JSON.stringify({ ...explanation, atRev: 0 });
      return this.#explained.get(key) === text ? [] : [{ key, text, explanation }];
    });
  }
}

interface Explained {
  readonly key: string;
  readonly text: string;
  readonly explanation: Explanation;
}

/** None for what the same plan removes: nobody would clear it up. */
function explanationRows(explanations: readonly Explained[], changes: readonly Change[]): RowChange[] {
  const removed = new Set(
    changes.flatMap((change) =>
      change.kind === "removeApp" ? [change.appId as string] : change.kind === "removeService" ? [`${change.appId} ${change.service}`] : [],
    ),
  );
  const kept = explanations.filter(({ key, explanation }) => !removed.has(key) && !removed.has(explanation.appId));
  if (kept.length === 0) return [];
  const rows = kept.map(
    ({ explanation }): NewRow<"explanations"> => ({
      appId: explanation.appId,
      service: explanation.service,
      body: JSON.stringify(explanation),
      atMs: NOW,
    }),
  );
  return [{ op: "insert", table: "explanations", onConflict: "replace", rows }];
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

function rollbacksOf(changes: readonly Change[]): Rollback[] {
  return changes.flatMap((change) =>
    change.kind === "deployment" && change.rollbackTo !== null
      ? [{ deployment: change.id, appId: change.appId, revision: change.rollbackTo }]
      : [],
  );
}
