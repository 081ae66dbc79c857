/**
 * What is to be done about each slot of a service: rows to end or stop now, slots to fill, and slots still on the old
 * revision in the order in which they change over. Finding nodes comes later, for all services together.
 *
 * Invariants: a slot never gets a second replica beside a live one except by an update (start-first) or because its node
 * is lost; a row on a lost node is never stopped because it is lost; of two live replicas none is stopped before the
 * other is proven ready.
 */
import type { PlanReason } from "../plan/change.ts";
import type { ClusterIndex } from "../plan/cluster-index.ts";
import type { Draft } from "../plan/draft.ts";
import type { ServiceState } from "../plan/snapshot.ts";
import { REPLICA_STATES } from "../wire/report.ts";
import { backoffEndsMs } from "./backoff.ts";
import type { AppContext } from "./context.ts";
import type { Gate } from "./gate.ts";
import { type UpdateOrder, updateOrder } from "./order.ts";
import { isCurrentSpec, isMisplaced, type Slot, type SlotView, slotName, slotNumber, type Standard, wantedNumbers } from "./slots.ts";

export interface Fill {
  readonly number: number;
  readonly slot: string;
  readonly reason: PlanReason;
  readonly attempt: number;
  /** Rank of a node that just rejected it: another is preferred. */
  readonly except: number;
  /** Rows that end when it is placed. */
  readonly ends: readonly number[];
  /** The slot still has a row on a lost node: it is pending there, and does not hold up a deployment. */
  readonly dark: boolean;
}

export interface Work {
  readonly view: SlotView;
  readonly context: AppContext;
  readonly order: UpdateOrder;
  readonly standard: Standard;
  /** What its updates wait for. */
  readonly holds: readonly Gate[];
  readonly fills: Fill[];
  /** Slots on the old revision, in the order to take them. */
  readonly updates: Slot[];
  /** Slots that change over or are not healthy yet: they count against `parallelism`. */
  moving: number;
  /** Slots with an old replica beside a new one: they count against `maxSurge`. */
  surging: number;
  /** Slots without a ready replica, those of lost nodes aside: they count against `maxUnavailable`. */
  unavailable: number;
  /** Slots that run what is wanted, and those of them that are healthy. */
  current: number;
  healthy: number;
  /** Current replicas that are not healthy yet and have to be for the deployment to succeed. */
  pending: number;
  /** A stop, a back-off or the pause between batches is under way: slowness that is nobody's fault. */
  paused: boolean;
  /** When the last current replica became healthy; 0: none has. */
  lastHealthyMs: number;
}

export function decide(
  index: ClusterIndex,
  draft: Draft,
  input: { view: SlotView; context: AppContext; standard: Standard; gates: readonly Gate[] },
): Work {
  const { view, context, standard, gates } = input;
  const work: Work = {
    view,
    context,
    order: updateOrder(view.service.planning),
    standard,
    holds: gates.filter(({ holdsUpdates }) => holdsUpdates),
    fills: [],
    updates: [],
    moving: 0,
    surging: 0,
    unavailable: 0,
    current: 0,
    healthy: 0,
    pending: 0,
    paused: false,
    lastHealthyMs: 0,
  };
  const decider = new Decider(index, draft, work, gates);
  for (const number of wantedNumbers(view.wanted)) {
    const slot = view.bySlot.get(number);
    if (slot) decider.slot(slot);
    else decider.empty(number);
  }
  decider.unwanted();
  decider.sortUpdates();
  if (decider.gated > 0) for (const { sentence } of gates) draft.notes(view.service).waiting.add(sentence);
  return work;
}

class Decider {
  readonly index: ClusterIndex;
  readonly draft: Draft;
  readonly work: Work;
  readonly gates: readonly Gate[];
  gated = 0;
  readonly #emptyReason: PlanReason;

  constructor(index: ClusterIndex, draft: Draft, work: Work, gates: readonly Gate[]) {
    this.index = index;
    this.draft = draft;
    this.work = work;
    this.gates = gates;
    this.#emptyReason = emptyReason(work);
  }

  empty(number: number): void {
    this.work.moving += 1;
    this.work.unavailable += 1;
    this.work.pending += 1;
    if (this.#isGated()) return;
    const { view, context } = this.work;
    const slot = slotName(view, number);
    // Data without a replica in a deployment of another spec: its previous replica was just verified gone. In an app's
    // first deployment it is what an earlier app of the name left.
    const { deployment } = context;
    const returns = deployment?.kind !== "scale" && deployment?.fromRevision !== null && this.index.volumeNode(view.service, slot) !== null;
    const reason = !returns ? this.#emptyReason : deployment === null ? "replace" : "update";
    this.#fill({ number, slot, reason, attempt: 0, except: -1, ends: [], dark: false });
  }

  slot(slot: Slot): void {
    const { current, old, removed, dark } = slot.rows;
    for (const row of removed) this.draft.end(row, "nodeRemoved");
    for (const row of slot.rows.leaving) if (this.index.isTerminal(row)) this.draft.end(row, "replace");
    this.#count(slot);
    if (current.length + old.length > 0 && this.#endedBesideLive(slot)) return;
    if (current.length > 0 && old.length > 0) this.#changing(slot);
    else if (current.length + old.length > 1) this.#surplus(slot, current.length > 0 ? current : old);
    else if (current.length === 1) this.#serving(slot, current[0]!);
    else if (old.length === 1) this.#outdated(slot);
    else this.#vacant(slot, dark.length > 0);
  }

  #count({ rows: { current, old, dark, finished } }: Slot): void {
    const { work } = this;
    if (current.length > 0) work.current += 1;
    if (current.some((row) => this.index.isHealthy(row, work.view.service))) work.healthy += 1;
    const isReady = (row: number) => this.index.isReady(row);
    if (dark.length + finished.length === 0 && !current.some(isReady) && !old.some(isReady)) work.unavailable += 1;
  }

  /** Rows of slots that are not wanted: the highest numbers go first because wanted ones are counted from 0. */
  unwanted(): void {
    const { service, unwanted } = this.work.view;
    const { slot } = this.index.snapshot.replicas;
    // A service that changed between replicated and global keeps its old slots until the new ones are healthy.
    const keepsForeign = this.work.order.order === "start-first" && (this.work.moving > 0 || this.work.context.halted);
    for (const row of unwanted) {
      if (
        keepsForeign &&
        slotNumber(slot[row]!) < 0 === (service.mode === "replicated") &&
        this.index.node(row) !== null &&
        !this.index.isTerminal(row)
      ) {
        if (!this.work.context.halted) this.work.pending += 1;
        continue;
      }
      if (this.index.node(row) === null) this.draft.end(row, "nodeRemoved");
      else if (this.index.isTerminal(row)) this.draft.end(row, "scale");
      else if (this.index.snapshot.replicas.run[row] === 1) this.draft.stop(row, service.mode === "global" ? "constraint" : "scale");
    }
  }

  /** Those that do not serve change over first: it costs nobody anything. */
  sortUpdates(): void {
    const serves = (slot: Slot) => slot.rows.old.some((row) => this.index.isReady(row));
    const ready = new Map(this.work.updates.map((slot) => [slot, serves(slot) ? 1 : 0]));
    this.work.updates.sort((a, b) => ready.get(a)! - ready.get(b)! || a.number - b.number);
  }

  /**
   * Terminal rows in a slot that is served. Whatever is not the outcome of an update goes; where the new replica ended
   * while the old one serves on, that decides the slot. True: it did.
   */
  #endedBesideLive(slot: Slot): boolean {
    const { current, old, rejected, finished } = slot.rows;
    const { service } = this.work.view;
    const ended = [...rejected, ...finished];
    if (ended.length === 0) return false;
    const { halted } = this.work.context;
    const isOutcome =
      ended.some((row) => isCurrentSpec(this.index, row, service)) &&
      current.length === 0 &&
      !halted &&
      this.work.order.order === "start-first";
    if (!isOutcome) {
      for (const row of ended) this.draft.end(row, halted ? "failedUpdate" : "replace");
      return false;
    }
    const isDone = finished.some((row) => REPLICA_STATES[this.index.snapshot.replicas.state[row]!] === "completed");
    // After the deployment was a success nothing goes back to the old one: it has returned with a lost node.
    if (isDone || (rejected.length === 0 && this.work.context.deployment === null)) {
      for (const row of old) this.draft.stop(row, "update");
      return true;
    }
    this.work.moving += 1;
    this.work.pending += 1;
    if (old.length + this.#stopping(slot).length > 1) {
      this.work.paused = true;
      this.draft.notes(service).waiting.add(`slot ${slot.name} changes over when its previous replica is verified stopped`);
    } else if (rejected.length > 0) this.#rejected(slot, { dark: false, reason: "update" });
    else this.draft.notes(service).waiting.add(`slot ${slot.name}: the new replica ended in failure, the old one serves on`);
    return true;
  }

  /** New beside old: the old one goes when the new one is healthy; after a failure the new one goes. */
  #changing(slot: Slot): void {
    const { current, old } = slot.rows;
    const { service } = this.work.view;
    if (this.work.context.halted) {
      if (!this.#settled([...current, ...old])) return;
      const keepNew = !old.some((row) => this.index.isReady(row)) && current.some((row) => this.index.isReady(row));
      for (const row of keepNew ? old : current) this.draft.stop(row, keepNew ? "update" : "failedUpdate");
      return;
    }
    const healthy = current.filter((row) => this.index.isHealthy(row, service));
    if (healthy.length > 0) {
      this.#sawHealthy(healthy);
      if (triesCanaries(service, this.work.context)) {
        this.work.surging += 1;
        return;
      }
      for (const row of old) this.draft.stop(row, this.#outdatedReason(row));
      if (current.length > 1) this.#surplus(slot, current);
      return;
    }
    this.work.surging += 1;
    this.#notYet(slot, current);
  }

  /**
   * Two live replicas of one kind: a lost node came back beside its replacement, or a deployment was superseded while it
   * had two. Kept is what has been ready longest, once it is known what runs. Where all are outdated none is worth
   * waiting for: without a ready one the oldest is kept, as it is when the newest has had its time and none became ready.
   * Two wait for that at most: a node that comes and goes must not leave one more behind each time.
   */
  #surplus(slot: Slot, rows: readonly number[]): void {
    const { readySinceMs, assignedMs, id, spec } = this.index.snapshot.replicas;
    const { service } = this.work.view;
    const outdated = slot.rows.current.length === 0;
    const byAge = rows.toSorted((a, b) => assignedMs[a]! - assignedMs[b]! || (id[a]! < id[b]! ? -1 : 1));
    const candidates = byAge.filter((row) => this.index.isProven(row)).sort((a, b) => readySinceMs[a]! - readySinceMs[b]!);
    const isTied = service.planning.colocate && this.work.context.home >= 0;
    const newest = byAge[byAge.length - 1]!;
    const untilMs = assignedMs[newest]! + service.planning.healthyDeadlineMs;
    const isLate = this.index.nowMs >= untilMs;
    const anyway = outdated || (candidates.length === 0 && isLate) ? byAge[0] : undefined;
    // One that is ready elsewhere than its group waits for the other as long, and no longer.
    const best = isTied && !outdated ? (this.#atHome(candidates) ?? (isLate ? candidates[0] : undefined)) : candidates[0];
    const keeper = best ?? anyway;
    const isSettled = this.#settled(rows);
    if (keeper === undefined || !isSettled) {
      if (isSettled) for (const row of byAge.slice(1, -1)) this.draft.stop(row, "nodeReturned");
      if (untilMs > this.index.nowMs) this.draft.wakeAt(untilMs);
      this.draft
        .notes(service)
        .waiting.add(`slot ${slot.name} runs twice since a lost node returned; one is ended when it is known which is ready`);
      this.#notYet(slot, rows);
      return;
    }
    for (const row of rows) if (row !== keeper) this.draft.stop(row, spec[row] === spec[keeper] ? "nodeReturned" : "update");
    if (outdated) this.#outdated(slot);
    else this.#serving(slot, keeper);
  }

  /** Colocated services keep the replica on the node they share. */
  #atHome(rows: readonly number[]): number | undefined {
    return rows.find((row) => this.index.rankOfRow(row) === this.work.context.home);
  }

  #serving(slot: Slot, row: number): void {
    if (this.index.isHealthy(row, this.work.view.service)) this.#sawHealthy([row]);
    else this.#notYet(slot, [row]);
  }

  #sawHealthy(rows: readonly number[]): void {
    for (const row of rows)
      this.work.lastHealthyMs = Math.max(this.work.lastHealthyMs, this.index.healthyAtMs(row, this.work.view.service));
  }

  /** Live, current, not healthy yet. A slot that is also on a lost node does not hold up the others. */
  #notYet(slot: Slot, rows: readonly number[]): void {
    const { view, context } = this.work;
    if (slot.rows.dark.length === 0) this.work.moving += 1;
    if (rows.some((row) => concerns(this.index, row, view.service, context))) this.work.pending += 1;
    for (const row of rows) if (this.index.isReady(row)) this.draft.wakeAt(this.index.healthyAtMs(row, view.service));
  }

  /** On the old revision. While a previous replica of the slot is still stopping, the next would be one too many. */
  #outdated(slot: Slot): void {
    const { current, old } = slot.rows;
    if (current.length + old.length + this.#stopping(slot).length <= 1) {
      this.work.updates.push(slot);
      return;
    }
    this.work.moving += 1;
    this.work.pending += 1;
    this.work.paused = true;
    this.draft.notes(this.work.view.service).waiting.add(`slot ${slot.name} changes over when its previous replica is verified stopped`);
  }

  /** Told to stop and not yet gone, on nodes that can say so. */
  #stopping(slot: Slot): readonly number[] {
    const { node } = this.index.snapshot.replicas;
    return slot.rows.leaving.filter((row) => !this.index.isTerminal(row) && this.index.lost[node[row]!] === 0);
  }

  /** No live replica. Ordered, first match wins. */
  #vacant(slot: Slot, dark: boolean): void {
    const { rejected, finished, removed } = slot.rows;
    const { service } = this.work.view;
    // Ended for good under its restart policy: it stays ended until there is something new to run.
    if (finished.length > 0) {
      this.#onlyOutcome(finished, rejected);
      const outdated = finished.every(
        (row) => !isCurrentSpec(this.index, row, service) || isMisplaced(this.index, row, this.work.standard),
      );
      if (outdated) this.#outdated(slot);
      return;
    }
    if (!dark) this.work.moving += 1;
    if (!dark && !(rejected.length > 0 && rejected.every((row) => !concerns(this.index, row, service, this.work.context))))
      this.work.pending += 1;
    // At most one on its way out per slot: a slot that is replaced faster than its replicas stop piles them up.
    const stopping = this.#stopping(slot);
    if (stopping.length > 0 && (this.work.order.order === "stop-first" || stopping.length > 1)) {
      this.draft.notes(service).waiting.add(`slot ${slot.name} starts when its previous replica is verified stopped`);
      this.work.paused = true;
      return;
    }
    if (rejected.length > 0) {
      this.#rejected(slot, { dark, reason: "replace" });
      return;
    }
    const base = { number: slot.number, slot: slot.name, attempt: 0, except: -1, ends: [], dark };
    if (dark) {
      if (service.mode === "replicated") this.#fill({ ...base, reason: "nodeLost" });
    } else if (removed.length > 0) this.#fill({ ...base, reason: "nodeRemoved" });
    else if (!this.#isGated()) this.#fill({ ...base, reason: stopping.length > 0 ? "update" : this.#emptyReason });
  }

  /** A slot that a lost node ran too, and that ended on both: it has ended once. Work that is done counts, then what is newest. */
  #onlyOutcome(finished: readonly number[], rejected: readonly number[]): void {
    const { state, assignedMs } = this.index.snapshot.replicas;
    const { service } = this.work.view;
    const rank = (row: number) => (isCurrentSpec(this.index, row, service) ? 2 : 0) + (REPLICA_STATES[state[row]!] === "completed" ? 1 : 0);
    const kept = finished.reduce((a, b) => (rank(b) > rank(a) || (rank(b) === rank(a) && assignedMs[b]! > assignedMs[a]!) ? b : a));
    for (const row of [...finished, ...rejected]) if (row !== kept) this.draft.end(row, "nodeReturned");
  }

  #rejected(slot: Slot, { dark, reason }: { dark: boolean; reason: PlanReason }): void {
    const { rejected } = slot.rows;
    const { assignedMs, attempt } = this.index.snapshot.replicas;
    const { service } = this.work.view;
    const current = rejected.filter((row) => isCurrentSpec(this.index, row, service));
    const ends = rejected;
    if (current.length === 0) {
      // Another spec may suit the node: no back-off.
      if (!this.#isGated()) this.#fill({ number: slot.number, slot: slot.name, reason: "update", attempt: 0, except: -1, ends, dark });
      return;
    }
    const last = current.reduce((a, b) => (assignedMs[b]! > assignedMs[a]! ? b : a));
    const dueMs = backoffEndsMs(assignedMs[last]!, attempt[last]!);
    if (dueMs > this.index.nowMs) {
      this.draft.wakeAt(dueMs);
      this.work.paused = true;
      this.draft
        .notes(service)
        .waiting.add(`slot ${slot.name} was rejected by ${this.index.node(last)!.name} and is placed again after a back-off`);
      return;
    }
    this.#fill({
      number: slot.number,
      slot: slot.name,
      reason,
      attempt: attempt[last]! + 1,
      except: this.index.rankOfRow(last),
      ends,
      dark,
    });
  }

  #outdatedReason(row: number): PlanReason {
    return isCurrentSpec(this.index, row, this.work.view.service) ? "constraint" : "update";
  }

  #fill(fill: Fill): void {
    this.work.fills.push(fill);
  }

  #isGated(): boolean {
    if (this.gates.length === 0) return false;
    this.gated += 1;
    return true;
  }

  /** What runs on these rows' nodes is known now. */
  #settled(rows: readonly number[]): boolean {
    return rows.every((row) => this.index.settled[this.index.snapshot.replicas.node[row]!] === 1 && this.index.isKnown(row));
  }
}

/** Its new replicas run beside the old ones until the deployment is promoted. */
export function triesCanaries(service: ServiceState, { deployment, halted }: Pick<AppContext, "deployment" | "halted">): boolean {
  if (deployment === null || halted || deployment.promoted || deployment.fromRevision === null) return false;
  return service.planning.canaries > 0 && service.revision > deployment.fromRevision;
}

/**
 * Whether a deployment answers for the row: it made it, or the row's service has changed since the revision that the
 * deployment comes from and it may replace the row. A rollback answers for what it changed itself: work that is done once
 * stays as the failed deployment left it.
 */
export function concerns(
  index: ClusterIndex,
  row: number,
  service: ServiceState,
  { deployment, halted }: Pick<AppContext, "deployment" | "halted">,
): boolean {
  if (deployment === null) return false;
  const { kind, revision, fromRevision } = deployment;
  const hasChanged = kind === "rollback" ? service.revision === revision : service.revision > (fromRevision ?? 0);
  return (!halted && hasChanged) || index.snapshot.replicas.assignedMs[row]! >= deployment.startedMs;
}

/** Why a slot without any row is filled. */
function emptyReason({ view, context: { deployment } }: Work): PlanReason {
  const known = view.bySlot.size > 0 || view.unwanted.length > 0;
  if (deployment === null) return view.service.mode === "global" && known ? "scale" : known ? "replace" : "initial";
  if (deployment.kind === "scale" || (known && view.service.revision !== deployment.revision)) return "scale";
  return deployment.fromRevision === null || !known ? "initial" : "update";
}
