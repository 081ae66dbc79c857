/**
 * The part of the control plane that remembers: held polls, when each node was last heard, who waits for news. None of
 * it is durable and none of it is needed to be right: a shard that starts anew counts every node as seen now, and an
 * agent whose request it cannot place opens a new session.
 *
 * What changed in the database reaches it as a bare "something is newer" (`changed`); it then reads what is newer than
 * it knows. So it does not matter who committed, or how often it is told.
 */
import { errorText } from "../error-text.ts";
import type { NodeId } from "../../shared/model/name.ts";
import type { Clock, Log, Random } from "../ports.ts";
import { type ClusterFacts, readLink, readLinkChanges } from "../store/read-agents.ts";
import type { Store } from "../store/store.ts";
import { Doorbell, type HoldOutcome } from "./doorbell.ts";
import { EVICTION_TIMING, type EvictionTiming } from "./eviction.ts";
import { Link } from "./link.ts";
import { type Planning, PlannerLoop } from "./planner.ts";
import { EMBEDDED_TIMING, type PresenceTiming } from "./presence.ts";
import { PresenceLoop } from "./presence-loop.ts";
import { type Ticking, TickLoop } from "./tick-loop.ts";
import { type Mark, Watches } from "./watches.ts";

export type ShardTiming = PresenceTiming & EvictionTiming;

export interface ShardParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Null: this process does not plan (another one does, or a test). */
  readonly planning: Planning | null;
  /** Null: this process does not tick. */
  readonly ticking: Ticking | null;
  readonly timing?: Partial<ShardTiming>;
}

export class Shard {
  readonly #parts: ShardParts;
  readonly #timing: ShardTiming;
  readonly #links = new Map<string, Link>();
  readonly #doorbell: Doorbell;
  readonly #watches: Watches;
  readonly #presence: PresenceLoop;
  readonly #ticks: TickLoop | null;
  readonly #planner: PlannerLoop | null;
  #cluster: ClusterFacts | null = null;
  #refresh: Promise<void> | null = null;
  #isRefreshWanted = false;
  #isStopped = false;

  constructor(parts: ShardParts) {
    this.#parts = parts;
    this.#timing = { ...EMBEDDED_TIMING, ...EVICTION_TIMING, ...parts.timing };
    this.#doorbell = new Doorbell(parts.clock);
    this.#watches = new Watches(parts.clock);
    const { store, clock, random, log, planning, ticking } = parts;
    this.#presence = new PresenceLoop({
      store,
      clock,
      log,
      links: this.#links,
      timing: this.#timing,
      refresh: () => this.refresh(),
      onEdges: () => this.ring(),
    });
    this.#ticks = ticking === null ? null : new TickLoop({ clock, log, tick: ticking, isOverdue: () => this.#isNodeOverdue() });
    const onRev = (rev: number) => this.changed(rev);
    const lastReturn = () => this.#presence.lastReturn();
    this.#planner = planning === null ? null : new PlannerLoop({ planning, clock, random, log, onRev, lastReturn });
  }

  /** Reads the cluster and its nodes, then watches them. The cluster must have been made. */
  async start(): Promise<void> {
    await this.refresh();
    this.#presence.kick();
    this.ring();
  }

  /** Answers every held poll and watch, and stops every timer. A plan or tick that is under way is finished. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#presence.stop();
    this.#doorbell.stop();
    this.#watches.stop();
    await this.#ticks?.stop();
    await this.#planner?.stop();
  }

  /** Who this cluster is. Throws before `start`. */
  get cluster(): ClusterFacts {
    if (this.#cluster === null) throw new Error("the shard has not been started");
    return this.#cluster;
  }

  /** Plan soon: something that a decision depends on has changed. */
  ring(): void {
    this.#planner?.ring();
  }

  /** Something was committed, up to `rev`: wakes the nodes whose set moved and the watches that waited for it. */
  changed(rev: number): void {
    if (this.#cluster !== null && rev <= this.#cluster.rev) return;
    this.refresh().catch((error: unknown) => this.#parts.log.error({ error: errorText(error) }, "reading what changed failed"));
  }

  /** A report was applied that changed what is observed, up to `mark`: ends the watches that waited for it. Nothing is read. */
  observed(mark: number): void {
    this.#watches.reached({ rev: this.rev, observed: mark });
  }

  /** Resolves when what is committed now is known here. Any number of calls at once are at most two reads. */
  refresh(): Promise<void> {
    if (this.#refresh !== null) {
      this.#isRefreshWanted = true;
      return this.#refresh;
    }
    this.#refresh = this.#readUntilCurrent();
    return this.#refresh;
  }

  async #readUntilCurrent(): Promise<void> {
    try {
      do {
        this.#isRefreshWanted = false;
        await this.#readChanges();
      } while (this.#isRefreshWanted && !this.#isStopped);
    } finally {
      // In the same turn as the last look at the flag: a call after it starts a new read.
      this.#refresh = null;
    }
  }

  async #readChanges(): Promise<void> {
    const { cluster, observed, rows, removed, isAuditWaiting } = await readLinkChanges(this.#parts.store, this.#cluster?.rev ?? 0);
    const nowMs = this.#parts.clock.nowMs();
    this.#cluster = cluster;
    for (const id of removed) this.#forget(id);
    for (const row of rows) {
      const link = this.#links.get(row.id);
      if (link === undefined) {
        this.#links.set(row.id, new Link(row, nowMs));
        continue;
      }
      const before = link.row;
      link.update(row, nowMs);
      // A poll is rung for what it would answer differently: a newer set, another session, a lifted quarantine.
      if (before.generation !== row.generation || before.session !== row.session || before.quarantined !== row.quarantined)
        this.#doorbell.ring(row.id);
    }
    if (rows.length > 0 || removed.length > 0) this.#presence.kick();
    if (isAuditWaiting) this.#ticks?.auditWaits();
    else this.#ticks?.kick();
    this.#watches.reached({ rev: cluster.rev, observed });
  }

  /** A node is silent and not yet called lost: what follows from it is still to be decided. */
  #isNodeOverdue(): boolean {
    for (const { row } of this.#links.values()) if (row.status === "unreachable") return true;
    return false;
  }

  #forget(id: NodeId): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    link.isRemoved = true;
    this.#links.delete(id);
    this.#doorbell.ring(id);
  }

  /** What is known of a node in memory, without a read. */
  known(id: NodeId): Link | null {
    return this.#links.get(id) ?? null;
  }

  /** What is known of a node; null: there is none by this id. */
  async link(id: NodeId): Promise<Link | null> {
    const known = this.#links.get(id);
    if (known !== undefined) return known;
    const row = await readLink(this.#parts.store, id);
    if (row === null) return null;
    // Another request may have asked meanwhile: one link a node.
    const link = this.#links.get(id) ?? new Link(row, this.#parts.clock.nowMs());
    this.#links.set(id, link);
    return link;
  }

  /** Reads one node again: its request names a session that is newer than the one known here. */
  async reload(link: Link): Promise<void> {
    const row = await readLink(this.#parts.store, link.row.id);
    if (row === null) this.#forget(link.row.id);
    else link.update(row, this.#parts.clock.nowMs());
  }

  /** A request of this node was proved just now. */
  proved(link: Link): void {
    this.#presence.heard(link);
    if (link.row.status !== "ready") this.#presence.kick();
  }

  /** Holds a poll until its node has news or the hold is over. */
  async hold(link: Link, signal: AbortSignal | null): Promise<HoldOutcome> {
    const { clock, random } = this.#parts;
    const [high = 0, low = 0] = random.bytes(2);
    const jitter = link.hasPolled ? this.#timing.jitter : this.#timing.jitterFirst;
    link.hasPolled = true;
    const holdMs = Math.round(this.#timing.pollHoldMs * (1 - (jitter * (high * 256 + low)) / 65_536));
    link.holdEndMs = clock.nowMs() + holdMs;
    const outcome = await this.#doorbell.hold(link.row.id, holdMs, signal);
    // `replaced`: the hold that counts is the newer one's.
    if (outcome !== "replaced") link.holdEndMs = Math.min(link.holdEndMs, clock.nowMs());
    return outcome;
  }

  /** The node was told to come back within `ms`: it is not silent before that. */
  sentAway(link: Link, ms: number): void {
    link.holdEndMs = this.#parts.clock.nowMs() + ms;
  }

  /** Ends the held poll of one node, for news that is not in the database (a channel). */
  wake(id: string): void {
    this.#doorbell.ring(id);
  }

  /** How long ago the node last proved itself to this process; null: not since it started or stood still. */
  lastSeenAgoMs(id: string): number | null {
    const link = this.#links.get(id);
    return link?.isHeard ? Math.max(0, this.#parts.clock.nowMs() - link.seenMs) : null;
  }

  /** A poll that is held while it stops is answered; one that comes after it must not be, or it would come again at once. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  get heldPolls(): number {
    return this.#doorbell.held;
  }

  /** Newest rev that is known here. */
  get rev(): number {
    return this.#watches.rev;
  }

  /** For `?watch`: resolves once something newer is committed, or after `timeoutMs`, or when the caller goes away. */
  waitForNews(than: Mark, timeoutMs: number, signal: AbortSignal | null = null): Promise<void> {
    return this.#watches.waitFor(than, timeoutMs, signal);
  }
}
