/**
 * Finds nodes for what the rollouts ask for. Slots without a replica come before updates, so that a roll-out never takes
 * the room a lost replica needs; within each, apps and services in order of id and name.
 */
import type { NodeId } from "../model/name.ts";
import { type Fill, triesCanaries, type Work } from "../rollout/decide.ts";
import { hasBit } from "../schedule/bits.ts";
import type { Demand } from "../schedule/fleet.ts";
import { refusalOf, type Survey, summary, surveyNodes, type Tie } from "../schedule/rejection.ts";
import { obtain } from "../schedule/obtain.ts";
import { NOWHERE, Seeker } from "../schedule/seeker.ts";
import { isCurrentSpec, type Slot, wantedNumbers } from "../rollout/slots.ts";
import type { PlanReason } from "./change.ts";
import type { ClusterIndex } from "./cluster-index.ts";
import type { Draft } from "./draft.ts";
import { jointDemand, jointService } from "./joint.ts";
import { ReplicaIds } from "./replica-id.ts";
import type { HostPort, ServiceState } from "./snapshot.ts";

interface Refusal {
  readonly reason: string;
  readonly message: string;
  readonly rejected: Survey["rejected"];
}

/** A node that rejected a member of a group, and the member. */
interface Shunned {
  readonly rank: number;
  readonly attempt: number;
  readonly service: string;
  readonly slot: string;
}

/** What one service got in this plan. */
export interface Placed {
  /** Ranks of the nodes of slots filled or surged. */
  readonly ranks: number[];
  /** Node of the first. */
  first: NodeId | null;
  /** Slots that could only go to a node that is away: pending, and no deployment fails or waits because of them. */
  readonly away: Set<string>;
  /** Why a slot that does not wait for a lost node could not be placed or updated. */
  refusal: { slot: string; message: string } | null;
}

export class Placing {
  readonly #index: ClusterIndex;
  readonly #draft: Draft;
  readonly #idSeed: string;
  /** By app. */
  readonly #shunned = new Map<string, Shunned>();
  /** Homes chosen in this plan, by app. */
  readonly #homes = new Map<string, { rank: number; refusal: Refusal | null }>();
  readonly #placed = new Map<ServiceState, Placed>();
  /** By class of service. */
  readonly surveys = new Map<string, Survey>();

  constructor(index: ClusterIndex, draft: Draft, idSeed: string) {
    this.#index = index;
    this.#draft = draft;
    this.#idSeed = idSeed;
  }

  placedOf(service: ServiceState): Placed {
    return obtain(this.#placed, service, () => ({ ranks: [], first: null, away: new Set(), refusal: null }));
  }

  fillAll(works: readonly Work[]): void {
    for (const work of works) this.#shun(work);
    for (const work of works) if (work.fills.length > 0) this.#chooseHome(work);
    for (const work of works)
      if (work.fills.length > 0) new ServicePlacing(this.#index, this.#draft, this, { work, idSeed: this.#idSeed }).fill();
  }

  /** What waits for nothing goes first: whether it could be placed decides about those that wait for it. */
  updateAll(works: readonly Work[]): void {
    const due = works.filter(({ updates }) => updates.length > 0);
    const isHeld = ({ holds }: Work) => holds.length > 0;
    for (const work of [...due.filter((one) => !isHeld(one)), ...due.filter(isHeld)]) this.#update(work, works);
  }

  /** Home of a colocated service's group and, where there is none, why. */
  homeOf(work: Work): { rank: number; refusal: Refusal | null } {
    return this.#homes.get(work.view.service.appId) ?? { rank: work.context.home, refusal: null };
  }

  /**
   * A node that rejected a member is left by the whole group, unless data ties it. Where the group is not there (the
   * member had gone ahead to a node that rejected it too), it is placed anew as well, since the home had rejected it before.
   */
  #shun({ view: { service }, context, fills }: Work): void {
    if (!service.planning.colocate || context.homeIsBound || !context.mayMove || this.#shunned.has(service.appId)) return;
    const rejected = fills.find(({ except, attempt }) => except >= 0 && (except === context.home || context.home < 0 || attempt > 1));
    if (rejected)
      this.#shunned.set(service.appId, { rank: rejected.except, attempt: rejected.attempt, service: service.name, slot: rejected.slot });
  }

  #update(work: Work, works: readonly Work[]): void {
    this.#chooseHome(work);
    const { service } = work.view;
    const notes = () => this.#draft.notes(service);
    const count = `${work.updates.length} of its slots ${work.updates.length === 1 ? "is" : "are"} on another revision or node than wanted`;
    if (work.context.halted) {
      notes().waiting.add(`the last deployment failed, so nothing is updated until the next deploy or rollback: ${count}`);
      return;
    }
    if (work.context.deployment?.paused) {
      notes().waiting.add(`the deployment is paused: ${count}`);
      return;
    }
    if (triesCanaries(service, work.context)) {
      this.#tryCanaries(work, count);
      return;
    }
    const hold = this.#holdOf(work, works);
    if (hold !== null) {
      notes().waiting.add(`${count}; ${hold}`);
      return;
    }
    const { parallelism, delayMs } = service.planning;
    const nextMs = work.lastHealthyMs + delayMs;
    if (work.lastHealthyMs > 0 && nextMs > this.#index.nowMs) {
      this.#draft.wakeAt(nextMs);
      work.paused = true;
      notes().waiting.add(`${count}; the next batch starts after a pause of ${delayMs / 1000} s`);
      return;
    }
    const moving = work.moving - this.placedOf(service).away.size;
    const budget = parallelism - moving;
    if (budget <= 0) {
      notes().waiting.add(`${count}; ${moving} changing over or not healthy yet, at most ${parallelism} at a time`);
      return;
    }
    new ServicePlacing(this.#index, this.#draft, this, { work, idSeed: this.#idSeed }).update(budget);
  }

  /** One that can be placed nowhere may need what those that wait for it hold: they do not wait then. */
  #holdOf({ view: { service }, holds }: Work, works: readonly Work[]): string | null {
    const stuck = (name: string) =>
      works.some(
        ({ view }) => view.service.appId === service.appId && view.service.name === name && this.placedOf(view.service).refusal !== null,
      );
    return holds.find((gate) => !stuck(gate.service))?.sentence ?? null;
  }

  /** All of them at once: they take nothing from anybody. */
  #tryCanaries(work: Work, count: string): void {
    const { service } = work.view;
    const left = service.planning.canaries - work.current;
    if (left > 0) new ServicePlacing(this.#index, this.#draft, this, { work, idSeed: this.#idSeed }).update(left);
    else this.#draft.notes(service).waiting.add(`${count}; ${work.current} run as canaries until the deployment is promoted`);
  }

  /** A colocated group without a node is placed as one, with room for every replica of every member. */
  #chooseHome(work: Work): void {
    const { service } = work.view;
    const shunned = this.#shunned.get(service.appId);
    if (!service.planning.colocate || this.#homes.has(service.appId) || (work.context.home >= 0 && !shunned)) return;
    const members = (this.#index.servicesOf.get(service.appId) ?? [])
      .map((s) => this.#index.snapshot.services[s]!)
      .filter((member) => member.planning.colocate && !member.removed);
    const joint = jointService(members);
    const demand = jointDemand(members);
    const seeker = new Seeker(this.#index.space, { service: joint, demand, present: [] });
    // Among equal nodes each try begins at another: it is not known which ones have rejected the member before the last.
    const elsewhere = shunned ? seeker.find(`group/${shunned.attempt}`, shunned.rank) : NOWHERE;
    const rank = elsewhere !== NOWHERE ? elsewhere : work.context.home >= 0 ? work.context.home : seeker.find("group");
    if (shunned) this.#tellMove(work, shunned, elsewhere);
    if (rank !== NOWHERE) {
      this.#homes.set(service.appId, { rank, refusal: null });
      return;
    }
    const survey = surveyNodes(this.#index.space, joint, demand, null);
    const names = members.map((member) => member.name).join(", ");
    this.#homes.set(service.appId, {
      rank,
      refusal: {
        reason: mainReason(survey),
        message: `${names} share one node and need ${demand.cpuMillis} millicores and ${demand.memoryMiB} MiB together: ${summary(survey)}`,
        rejected: survey.rejected,
      },
    });
  }

  #tellMove(work: Work, shunned: Shunned, to: number): void {
    const { nodes } = this.#index.fleet;
    const [from, place] = [nodes[shunned.rank]!.name, to === NOWHERE ? null : nodes[to]!.name];
    this.#draft
      .notes(work.view.service)
      .waiting.add(
        `${from} rejected ${shunned.service} slot ${shunned.slot}: ${place === null ? "no other node fits the app's services together, so it is tried again" : `the app's services move to ${place} together, the others when it runs there`}`,
      );
  }
}

/** Places one service's slots; lives for one pass over them. */
class ServicePlacing {
  readonly #index: ClusterIndex;
  readonly #draft: Draft;
  readonly #placing: Placing;
  readonly #work: Work;
  readonly #service: ServiceState;
  readonly #seeker: Seeker;
  readonly #ids: ReplicaIds;
  /** Free capacity only shrinks: what fitted nowhere once fits nowhere for the slots after it. */
  #nowhere: Refusal | null = null;
  /** Slots that may not begin to change over yet. */
  #held = 0;

  constructor(index: ClusterIndex, draft: Draft, placing: Placing, { work, idSeed }: { work: Work; idSeed: string }) {
    const { service, s } = work.view;
    this.#index = index;
    this.#draft = draft;
    this.#placing = placing;
    this.#work = work;
    this.#service = service;
    const present: number[] = [];
    for (const row of index.rowsOf(s)) if (!index.isTerminal(row) && index.rankOfRow(row) >= 0) present.push(index.rankOfRow(row));
    for (const rank of placing.placedOf(service).ranks) present.push(rank);
    this.#seeker = new Seeker(index.space, { service, demand: Seeker.demandOf(service), present });
    this.#ids = new ReplicaIds(idSeed, service.appId, service.name);
    this.#reserve();
    this.#note();
  }

  /**
   * Where one replica fits on a node, a slot without data must not take the node that another's data is on: that one
   * could then start nowhere.
   */
  #reserve(): void {
    const { mode, planning } = this.#service;
    const isAlone = planning.hostPorts.length > 0 || planning.maxPerNode === 1;
    if (mode === "global" || planning.volumes.length === 0 || !isAlone) return;
    for (const number of wantedNumbers(this.#work.view.wanted)) {
      const rank = this.#volumeRank(String(number));
      if (rank >= 0) this.#seeker.reserve(rank);
    }
  }

  fill(): void {
    for (const fill of this.#work.fills) this.#fillOne(fill);
  }

  update(budget: number): void {
    let left = budget;
    for (const slot of this.#work.updates) {
      if (left === 0) break;
      if (this.#updateOne(slot)) left -= 1;
    }
    if (this.#held > 0) this.#tellHeld();
  }

  #tellHeld(): void {
    const { surging, unavailable } = this.#work;
    const { maxSurge, maxUnavailable, parallelism } = this.#service.planning;
    this.#draft
      .notes(this.#service)
      .waiting.add(
        `${this.#held} of its slots wait: ${surging} of at most ${maxSurge} have two replicas, ${unavailable} of at most ${maxUnavailable ?? parallelism} have none that is ready`,
      );
  }

  #fillOne(fill: Fill): void {
    const { rank, refusal } = this.#nodeFor(fill.slot, fill.number, fill.except);
    if (refusal) {
      this.#refuse(fill.slot, refusal, fill.dark);
      return;
    }
    for (const row of fill.ends) this.#draft.end(row, fill.reason);
    this.#assign(fill.slot, rank, fill.reason, fill.attempt);
  }

  /** Starts the change-over of a slot; false: it cannot be done now. */
  #updateOne(slot: Slot): boolean {
    const { old, finished } = slot.rows;
    const leaving = [...old, ...finished];
    const reason: PlanReason = leaving.every((row) => isCurrentSpec(this.#index, row, this.#service)) ? "constraint" : "update";
    const { mayStopFirst } = this.#work.order;
    const isCanary = triesCanaries(this.#service, this.#work.context);
    const startsFirst = this.#work.order.order === "start-first";
    const { maxSurge, maxUnavailable, parallelism } = this.#service.planning;
    const maySurge = isCanary || (startsFirst && this.#work.surging < maxSurge);
    const serves = old.some((row) => this.#index.isReady(row));
    const unavailable = this.#work.unavailable - this.#placing.placedOf(this.#service).away.size;
    const mayStop = !isCanary && mayStopFirst && (!serves || unavailable < (maxUnavailable ?? parallelism));
    if (old.length > 0 && !maySurge && !(mayStop && (!startsFirst || maxUnavailable !== null))) {
      this.#held += 1;
      return false;
    }
    if (old.length === 0 || maySurge) {
      const { rank, refusal } = this.#nodeFor(slot.name, slot.number, NOWHERE);
      if (!refusal) {
        for (const row of finished) this.#draft.end(row, reason);
        this.#assign(slot.name, rank, reason, 0);
        if (old.length > 0) this.#work.surging += 1;
        return true;
      }
      if (old.length === 0 || !mayStop) {
        this.#refuse(slot.name, refusal, false);
        return false;
      }
    }
    const refusal = this.#reserveAfterStop(slot, old[0]!);
    if (refusal) {
      this.#refuse(slot.name, refusal, false);
      return false;
    }
    for (const row of leaving) this.#draft.stop(row, reason);
    if (serves) this.#work.unavailable += 1;
    this.#work.paused = true;
    return true;
  }

  /** The node for a slot: the one it is tied to, else the best one. */
  #nodeFor(slot: string, number: number, except: number): { rank: number; refusal: Refusal | null } {
    const tie = this.#tieOf(slot, number);
    if (tie === "none") return { rank: NOWHERE, refusal: this.#placing.homeOf(this.#work).refusal };
    if (tie) return this.#seeker.admits(tie.rank) ? { rank: tie.rank, refusal: null } : { rank: NOWHERE, refusal: this.#tiedRefusal(tie) };
    if (this.#nowhere) return { rank: NOWHERE, refusal: this.#nowhere };
    let rank = this.#seeker.find(slot, except);
    if (rank === NOWHERE && except !== NOWHERE) rank = this.#seeker.find(slot);
    if (rank !== NOWHERE) return { rank, refusal: null };
    const survey = surveyNodes(this.#index.space, this.#service, this.#seeker.demand, null, this.#seeker.reserved);
    this.#nowhere = { reason: mainReason(survey), message: summary(survey), rejected: survey.rejected };
    return { rank, refusal: this.#nowhere };
  }

  /** "none": it belongs to a group for which no node was found. */
  #tieOf(slot: string, number: number): Tie | null | "none" {
    if (this.#service.mode === "global") return { rank: number, filter: "colocate" };
    const volume = this.#volumeRank(slot);
    if (volume >= 0) return { rank: volume, filter: "volume" };
    if (!this.#service.planning.colocate) return null;
    const home = this.#placing.homeOf(this.#work);
    return home.rank >= 0 ? { rank: home.rank, filter: "colocate" } : "none";
  }

  #volumeRank(slot: string): number {
    if (this.#service.planning.volumes.length === 0) return NOWHERE;
    const id = this.#index.volumeNode(this.#service, slot);
    const n = id === null ? -1 : this.#index.nodeIndex(id);
    return n < 0 ? NOWHERE : this.#index.fleet.rankOf[n]!;
  }

  #tiedRefusal(tie: Tie): Refusal {
    const { space, fleet } = this.#index;
    const node = fleet.nodes[tie.rank]!;
    const refusal = refusalOf(space, this.#service, this.#seeker.demand, tie.rank);
    const fault =
      refusal?.filter === "ready" ? `is ${node.status}` : (refusal?.fault ?? "has no room left beside what this plan places there");
    const reason = refusal?.filter ?? "memory";
    const own = { filter: reason, nodes: 1, message: `${node.name} ${fault}` };
    if (this.#service.mode === "global") return { reason, message: `${node.name} ${fault}`, rejected: [own] };
    const why =
      tie.filter === "volume" ? `its data is on ${node.name}, which ${fault}` : `the app's services share ${node.name}, which ${fault}`;
    const others = {
      filter: tie.filter,
      nodes: fleet.count - 1,
      message: `${fleet.count - 1} of ${fleet.count} nodes are not ${node.name}`,
    };
    return { reason: tie.filter, message: `${why}: it waits for that node`, rejected: fleet.count > 1 ? [others, own] : [own] };
  }

  #refuse(slot: string, refusal: Refusal, dark: boolean): void {
    this.#draft.notes(this.#service).cannotPlace(slot, refusal);
    const placed = this.#placing.placedOf(this.#service);
    if (dark) return;
    if (this.#waitsForLostNode(slot)) placed.away.add(slot);
    else placed.refusal ??= { slot, message: refusal.message };
  }

  /** Pending on a node that is away: shown, but no deployment fails because of it. */
  #waitsForLostNode(slot: string): boolean {
    const volume = this.#volumeRank(slot);
    const rank = volume >= 0 ? volume : this.#service.planning.colocate ? this.#placing.homeOf(this.#work).rank : NOWHERE;
    return rank >= 0 && this.#index.fleet.nodes[rank]!.status !== "ready";
  }

  #assign(slot: string, rank: number, reason: PlanReason, attempt: number): void {
    const { appId, name, spec, revision, planning } = this.#service;
    const nodeId = this.#index.fleet.nodes[rank]!.id;
    const notes = this.#draft.notes(this.#service);
    const replica = this.#ids.next(slot, 0);
    if (notes.wantsPlaced)
      notes.placed.push({ slot, replica, node: this.#index.fleet.nodes[rank]!.name, reason, score: this.#seeker.score(rank) });
    notes.placedTotal += 1;
    this.#seeker.take(rank);
    if (planning.volumes.length > 0) this.#bind(slot, nodeId, reason);
    this.#draft.assign({ replica, appId, service: name, slot, nodeId, spec, revision, attempt, reason });
    const placed = this.#placing.placedOf(this.#service);
    placed.ranks.push(rank);
    placed.first ??= nodeId;
  }

  #bind(slot: string, nodeId: NodeId, reason: PlanReason): void {
    const { appId, name, planning } = this.#service;
    const bound = this.#index.volumeNode(this.#service, slot);
    if (bound !== null && this.#index.nodeIndex(bound) < 0) {
      this.#draft
        .notes(this.#service)
        .waiting.add(`slot ${slot} starts with empty volumes: its data was on ${bound}, which was removed from the cluster`);
    }
    if (bound === nodeId && reason === "initial") {
      const { name: node } = this.#index.snapshot.nodes[this.#index.nodeIndex(nodeId)]!;
      this.#draft.notes(this.#service).waiting.add(`slot ${slot} starts on ${node} with the data that was left there`);
    }
    for (const { name: volume, engineName } of planning.volumes) {
      if (this.#index.boundTo(this.#service, slot, volume) !== nodeId)
        this.#draft.bindVolume({ appId, service: name, slot, volume, engineName, nodeId });
    }
  }

  /**
   * Checks that the slot can start again once `row` has stopped, in its place or elsewhere, and sets that room aside in
   * this plan. What cannot be replaced is not stopped.
   */
  #reserveAfterStop(slot: Slot, row: number): Refusal | null {
    const tie = this.#tieOf(slot.name, slot.number);
    const rank = this.#index.rankOfRow(row);
    if (tie === "none") return this.#placing.homeOf(this.#work).refusal;
    if (tie === null || tie.rank === rank) {
      const extra = this.#extraInPlace(row, rank);
      if (extra) {
        this.#index.fleet.take(rank, extra);
        return null;
      }
    }
    const found = this.#nodeFor(slot.name, slot.number, NOWHERE);
    if (!found.refusal) this.#seeker.take(found.rank);
    return found.refusal;
  }

  /** What the new replica needs beyond what the old one leaves; null: the node would not take it. */
  #extraInPlace(row: number, rank: number): Demand | null {
    const { space, fleet, snapshot } = this.#index;
    const { demand } = this.#seeker;
    const { constraints, tolerations, volumes } = this.#service.planning;
    const { cpuMillis, memoryMiB, devices, hostPorts } = snapshot.replicas;
    const dropping = fleet.dropping(volumes);
    if (dropping && hasBit(dropping, rank)) return null;
    for (const bits of [
      fleet.ready,
      fleet.active,
      fleet.admitted,
      fleet.engine,
      space.feasibility.satisfying(constraints),
      space.feasibility.tolerating(tolerations),
    ])
      if (!hasBit(bits, rank)) return null;
    const same = (a: HostPort) => hostPorts[row]!.some((b) => a.port === b.port && a.protocol === b.protocol && a.hostIp === b.hostIp);
    const newPorts = demand.hostPorts.filter((port) => !same(port));
    if (fleet.isPortTakenBeside(rank, newPorts, hostPorts[row]!)) return null;
    const extra: Demand = {
      replicas: 0,
      cpuMillis: Math.max(0, demand.cpuMillis - cpuMillis[row]!),
      memoryMiB: Math.max(0, demand.memoryMiB - memoryMiB[row]!),
      devices: demand.devices.flatMap(([kind, count]) =>
        count > (devices[row]![kind] ?? 0) ? [[kind, count - (devices[row]![kind] ?? 0)] as const] : [],
      ),
      hostPorts: newPorts,
    };
    return fits(fleet, rank, extra) ? extra : null;
  }

  /** How the class stood when this plan first met it: one count serves all services with the same words and demand. */
  #note(): void {
    const notes = this.#draft.notes(this.#service);
    if (notes.nodes > 0) return;
    const count = () => surveyNodes(this.#index.space, this.#service, this.#seeker.demand, null);
    const { hostPorts, maxPerNode, volumes } = this.#service.planning;
    const isShared = hostPorts.length === 0 && maxPerNode === null && this.#index.fleet.dropping(volumes) === null;
    const survey = isShared ? obtain(this.#placing.surveys, this.#seeker.classKey, count) : count();
    notes.nodes = survey.nodes;
    notes.feasible = survey.feasible;
    notes.rejected = survey.rejected;
  }
}

/** As Fleet.fits, but nothing more needed of an overfull resource is no hindrance. */
function fits(fleet: ClusterIndex["fleet"], rank: number, { cpuMillis, memoryMiB, devices }: Demand): boolean {
  return (
    (cpuMillis === 0 || fleet.cpuFree[rank]! >= cpuMillis) &&
    (memoryMiB === 0 || fleet.memoryFree[rank]! >= memoryMiB) &&
    devices.every(([kind, count]) => fleet.devicesFree(rank, kind) >= count)
  );
}

/** The filter that rejected most nodes, in one word. */
function mainReason({ rejected }: Survey): string {
  return rejected.length === 0 ? "nodes" : rejected.reduce((a, b) => (b.nodes > a.nodes ? b : a)).filter;
}
