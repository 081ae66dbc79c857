/**
 * The planner: what has to change in the cluster now, when to look again, and why. Pure, level-triggered and idempotent:
 * it may run at any time and twice at once, since whoever commits second finds the rev moved.
 *
 * Invariants (each has its property in docs/spec/planner.md):
 *   the order of a snapshot's rows never changes the plan; a converged snapshot gives no changes;
 *   no node is given more than it has free, and no host port twice;
 *   a slot's volumes are only ever used on the node that holds them.
 *
 * First each app decides alone what it wants (shared/rollout); then nodes are found for all of them together, in a fixed
 * order; then deployments are judged by what came of it.
 */
import type { AppId } from "../model/name.ts";
import type { AppContext } from "../rollout/context.ts";
import { standardOf, wantedSlots } from "../rollout/context.ts";
import { decide, triesCanaries, type Work } from "../rollout/decide.ts";
import { type Gate, gates } from "../rollout/gate.ts";
import { groupHome, isSplit } from "../rollout/group.ts";
import { findFailure, type Failure, lastProgressMs } from "../rollout/outcome.ts";
import { isCurrentSpec, isQuiet, type SlotView, viewSlots, wantedCount } from "../rollout/slots.ts";
import type { ClusterPlan, PlanInput } from "./change.ts";
import { ClusterIndex } from "./cluster-index.ts";
import { Draft } from "./draft.ts";
import { Placing } from "./placing.ts";
import { chooseResolvers } from "./resolvers.ts";
import type { AppState, ClusterSnapshot, DeploymentState } from "./snapshot.ts";

/** An app with a running deployment, and what this plan does for it. */
interface Deploying {
  readonly deployment: DeploymentState;
  readonly works: Work[];
  readonly gated: ReadonlyMap<string, readonly Gate[]>;
  readonly failure: Failure | null;
  /** It scales an app that failed: nothing is updated, by it or because of it. */
  readonly halted: boolean;
  /** Rows of removed services that are still to be verified gone, on nodes that are not lost. */
  readonly leftovers: number;
}

export function planCluster(snapshot: ClusterSnapshot, input: PlanInput): ClusterPlan {
  const index = new ClusterIndex(snapshot, input);
  const draft = new Draft(index);
  const planner = new Planner(index, draft);
  for (const row of index.orphans) planner.remove(row);
  for (const app of snapshot.apps) planner.app(app);
  planner.appless();
  const works = planner.works.sort(byName);
  const placing = new Placing(index, draft, input.idSeed);
  placing.fillAll(works);
  placing.updateAll(works);
  chooseResolvers(index, draft, placing);
  for (const deploying of planner.deploying) judge(index, draft, placing, deploying);
  const moreKnownMs = index.moreKnownMs;
  if (moreKnownMs !== null) draft.wakeAt(moreKnownMs);
  return draft.plan();
}

function byName(a: Work, b: Work): number {
  const left = a.view.service;
  const right = b.view.service;
  if (left.appId !== right.appId) return left.appId < right.appId ? -1 : 1;
  return left.name < right.name ? -1 : 1;
}

class Planner {
  readonly works: Work[] = [];
  readonly deploying: Deploying[] = [];
  readonly #index: ClusterIndex;
  readonly #draft: Draft;
  readonly #seen: Int32Array;
  #stamp = 0;

  constructor(index: ClusterIndex, draft: Draft) {
    this.#index = index;
    this.#draft = draft;
    this.#seen = new Int32Array(index.snapshot.services.reduce((max, service) => Math.max(max, service.replicas), 0));
  }

  app(app: AppState): void {
    const services = this.#index.servicesOf.get(app.id) ?? [];
    const { services: states } = this.#index.snapshot;
    const staying = app.deleting ? [] : services.filter((s) => !states[s]!.removed);
    const removed = app.deleting ? services : services.filter((s) => states[s]!.removed);
    const leftovers = removed.reduce((count, s) => count + this.#removeService(s), 0);
    if (app.deleting && removed.every((s) => this.#isGone(s))) this.#draft.removeApp(app.id);
    const deployment = app.deleting ? null : (this.#index.deployments.get(app.id) ?? null);
    const colocated = staying.filter((s) => states[s]!.planning.colocate);
    if (deployment === null && staying.every((s) => this.#isQuiet(s)) && !isSplit(this.#index, colocated)) return;
    this.#rollOut(app, { staying, deployment, leftovers });
  }

  /** Services whose app row is missing: nothing wants them. */
  appless(): void {
    for (const [appId, services] of this.#index.servicesOf)
      if (!this.#index.apps.has(appId as AppId)) for (const s of services) this.#removeService(s);
  }

  remove(row: number): void {
    if (this.#index.node(row) === null) this.#draft.end(row, "nodeRemoved");
    else if (this.#index.isTerminal(row)) this.#draft.end(row, "removed");
    else if (this.#index.snapshot.replicas.run[row] === 1) this.#draft.stop(row, "removed");
  }

  #isQuiet(s: number): boolean {
    this.#stamp += 1;
    return isQuiet(this.#index, s, this.#seen, this.#stamp);
  }

  #removeService(s: number): number {
    const { appId, name } = this.#index.snapshot.services[s]!;
    let left = 0;
    for (const row of this.#index.rowsOf(s)) {
      this.remove(row);
      const node = this.#index.snapshot.replicas.node[row]!;
      if (node >= 0 && this.#index.lost[node] === 0 && !this.#index.isTerminal(row)) left += 1;
    }
    if (this.#isGone(s)) this.#draft.removeService(appId, name);
    return left;
  }

  /** No row but such as this plan ends. */
  #isGone(s: number): boolean {
    return this.#index.rowsOf(s).every((row) => this.#index.node(row) === null || this.#index.isTerminal(row));
  }

  #rollOut(
    app: AppState,
    { staying, deployment, leftovers }: { staying: readonly number[]; deployment: DeploymentState | null; leftovers: number },
  ): void {
    const { services } = this.#index.snapshot;
    const home = groupHome(
      this.#index,
      staying.filter((s) => services[s]!.planning.colocate),
    );
    const halted = this.#index.failedRevisions.get(app.id) === app.revision;
    const context: AppContext = { app, deployment, halted, home: home.rank, homeIsBound: home.bound, follows: home.follows, mayMove: true };
    const views = staying.map((s) =>
      viewSlots(this.#index, s, standardOf(this.#index, services[s]!, context), wantedSlots(this.#index, s, context)),
    );
    const failure = deployment === null || deployment.paused ? null : findFailure(this.#index, this.#draft, views, { deployment, halted });
    // A deployment found failed just now stops changing things just now.
    const isHalted = failure !== null || halted;
    const isOutdated = ({ bySlot, service }: SlotView) =>
      [...bySlot.values()].some(({ rows }) => rows.old.some((row) => !isCurrentSpec(this.#index, row, service)));
    const mayMove = !isHalted || !views.some((view) => view.service.planning.colocate && isOutdated(view));
    const effective: AppContext = { ...context, halted: isHalted, mayMove };
    // Whoever only follows its group takes no revision that failed.
    const onlyFollows = (view: SlotView) => context.follows && view.service.planning.colocate && !isOutdated(view);
    const viewOf = new Map(views.map((view) => [view.service.name, view]));
    const gated = new Map<string, readonly Gate[]>();
    const works = views.map((view) => {
      const open = deployment === null || isHalted ? [] : gates(view.service.planning.dependsOn, (name) => viewOf.get(name), deployment);
      if (open.length > 0) gated.set(view.service.name, open);
      return decide(this.#index, this.#draft, {
        view,
        context: onlyFollows(view) ? { ...effective, halted: false } : effective,
        standard: standardOf(this.#index, view.service, context),
        gates: open,
      });
    });
    this.works.push(...works);
    if (deployment) this.deploying.push({ deployment, works, gated, failure, halted, leftovers });
  }
}

function judge(index: ClusterIndex, draft: Draft, placing: Placing, deploying: Deploying): void {
  const { deployment, works, gated, failure, halted, leftovers } = deploying;
  if (failure) {
    fail(draft, deploying, failure);
    return;
  }
  if (tellCanaries(draft, deploying)) return;
  const placedAny = works.some((work) => placing.placedOf(work.view.service).ranks.length > 0);
  const toDo = (work: Work) => work.pending + (halted ? 0 : work.updates.length);
  const unfinished = works.find((work) => toDo(work) > placing.placedOf(work.view.service).away.size);
  if (!unfinished && !placedAny && leftovers === 0) {
    const { slots, away } = countSlots(works, placing);
    // Nothing of it runs anywhere: it is neither done nor wrong until a node is back.
    if (away > 0 && away === slots) return;
    draft.finish({
      id: deployment.id,
      appId: deployment.appId,
      state: "succeeded",
      message: halted ? SCALED : success(works, placing),
      rollbackTo: null,
    });
    return;
  }
  if (deployment.paused) return;
  if (placedAny || index.isFromBefore(deployment.startedMs) || works.some((work) => work.paused || isComingBack(index, work))) return;
  const deadlineMs =
    lastProgressMs(
      index,
      works.map((work) => work.view.s),
      deployment,
    ) + Math.max(0, ...works.map((work) => work.view.service.planning.progressDeadlineMs));
  if (deadlineMs > index.nowMs) {
    draft.wakeAt(deadlineMs);
    return;
  }
  const refused = works.find((work) => placing.placedOf(work.view.service).refusal !== null);
  const culprit = refused ?? unfinished;
  if (!culprit) return;
  const { service } = culprit.view;
  const refusal = placing.placedOf(service).refusal;
  const message = refusal
    ? `${service.name} slot ${refusal.slot} cannot be placed: ${refusal.message}`
    : `${service.name}: ${gated.get(service.name)?.[0]?.sentence ?? "its replicas are not healthy and nothing moves any more"}`;
  fail(draft, deploying, { service, message });
}

/** True while all its canaries are healthy: it waits for an operator, and no deadline runs. */
function tellCanaries(draft: Draft, { deployment, works }: Deploying): boolean {
  const hasOld = ({ updates, surging }: Work) => updates.length + surging > 0;
  const trying = works.filter((work) => triesCanaries(work.view.service, work.context) && hasOld(work));
  const wanted = (work: Work) => Math.min(work.view.service.planning.canaries, work.current + work.updates.length);
  const areHealthy = trying.length > 0 && trying.every((work) => work.healthy >= wanted(work));
  if (areHealthy !== deployment.canariesHealthy && !deployment.promoted) {
    const healthy = trying.map((work) => `${work.healthy} of ${work.view.service.name}`).join(", ");
    const message = areHealthy ? `canaries are healthy: ${healthy}; it waits to be promoted` : "canaries are not healthy any more";
    draft.canaries({ id: deployment.id, appId: deployment.appId, areHealthy, message });
  }
  return areHealthy;
}

const SCALED = "the count is as asked; nothing was updated, because the deployment before it failed";

function fail(draft: Draft, { deployment, halted }: Deploying, { service, message }: Failure): void {
  // A rollback that fails is not rolled back: the two revisions would take turns for ever. Nor is a scale that changed
  // counts alone: what the deployment before it left was to stay.
  const rollsBack = service.planning.failureAction === "rollback" && deployment.kind !== "rollback" && !halted;
  draft.finish({
    id: deployment.id,
    appId: deployment.appId,
    state: "failed",
    message,
    rollbackTo: rollsBack ? deployment.fromRevision : null,
  });
}

/** Something of it is on a node that has come back and not said yet what it runs. */
function isComingBack(index: ClusterIndex, { view }: Work): boolean {
  const { node } = index.snapshot.replicas;
  return index.rowsOf(view.s).some((row) => node[row]! >= 0 && index.lost[node[row]!] === 0 && !index.isKnown(row));
}

/** Wanted slots, and those of them that wait for a lost node. */
function countSlots(works: readonly Work[], placing: Placing): { readonly slots: number; readonly away: number } {
  let slots = 0;
  let away = 0;
  for (const { view } of works) {
    slots += wantedCount(view.wanted);
    const waiting = new Set(placing.placedOf(view.service).away);
    for (const { name, rows } of view.bySlot.values())
      if (rows.dark.length > 0 && rows.current.length + rows.finished.length === 0) waiting.add(name);
    away += waiting.size;
  }
  return { slots, away };
}

function success(works: readonly Work[], placing: Placing): string {
  const { slots, away } = countSlots(works, placing);
  const healthy = `${slots - away} of ${slots} ${slots === 1 ? "replica is" : "replicas are"} healthy or completed`;
  return away === 0
    ? healthy
    : `${healthy}, ${away} ${away === 1 ? "waits" : "wait"} for a lost node and ${away === 1 ? "takes" : "take"} this revision when it returns`;
}
