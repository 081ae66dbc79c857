/**
 * Watches the links' silence and commits its edges: `unreachable`, `lost`, and back to `ready`. Nothing is written
 * while nothing changes. The timer is set to the next moment at which a silent node would change, so a loss is
 * committed when it is due and not at some tick after it.
 */
import { errorText } from "../error-text.ts";
import type { NodeStatus } from "../../shared/plan/snapshot.ts";
import type { Clock, Log } from "../ports.ts";
import { type Guard, type NewEvent, NOW } from "../store/commit-types.ts";
import type { Store } from "../store/store.ts";
import type { NodeId } from "../../shared/model/name.ts";
import type { ControlPlaneReturn } from "../../shared/plan/change.ts";
import { EvictionLimiter, type EvictionTiming } from "./eviction.ts";
import type { Link, LinkRow } from "./link.ts";
import { type PresenceTiming, presenceAt } from "./presence.ts";

/** That this process runs is noted so often, and before anything is concluded from silence. */
const BEAT_MS = 1_000;
/** A note this late means that the process was stopped or its host suspended: silence meanwhile proves nothing. */
const LATE_MS = 1_000;
/** After a standstill: requests that have waited meanwhile are read first, and say nothing of now. */
const WAITED_MS = 1_000;
/** From an answer to a poll until the report that it sets free is there. */
const NEWS_TAKE_MS = 2_000;
const RETRY_MS = 1_000;
/** Bounds one commit; 5,000 nodes that change together take ten. */
const EDGES_A_COMMIT_MAX = 500;
/** Each time at least one of the edges has ceased to be one; after so many in a row the next look begins anew. */
const TRIES_MAX = 5;
/** Looks at least this often, so that a link that was missed is found. */
const LOOK_MAX_MS = 60_000;

/** What a node's silence (column) makes of its committed status (row). A lost one returns by opening a session. */
const EDGE: Record<NodeStatus, Record<NodeStatus, NodeStatus | null>> = {
  ready: { ready: null, unreachable: "unreachable", lost: "lost" },
  unreachable: { ready: "ready", unreachable: null, lost: "lost" },
  lost: { ready: null, unreachable: null, lost: null },
};

interface Edge {
  readonly link: Link;
  /** The row that it was found in. */
  readonly from: LinkRow;
  readonly to: NodeStatus;
}

export interface PresenceParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly links: ReadonlyMap<string, Link>;
  readonly timing: PresenceTiming & EvictionTiming;
  /** Resolves when the links show what is committed now. */
  readonly refresh: () => Promise<void>;
  /** Called after edges were committed and the links show them. */
  readonly onEdges: () => void;
}

export class PresenceLoop {
  readonly #parts: PresenceParts;
  readonly #limiter: EvictionLimiter;
  #cancelTimer: (() => void) | null = null;
  #cancelBeat: (() => void) | null = null;
  #beatMs: number;
  #wokeMs = Number.NEGATIVE_INFINITY;
  #state: "idle" | "running" | "runningAndKicked" | "stopped" = "idle";

  constructor(parts: PresenceParts) {
    this.#parts = parts;
    this.#beatMs = parts.clock.nowMs();
    this.#limiter = new EvictionLimiter(parts.timing, this.#beatMs);
    this.#beat();
  }

  /** On this process's clock. An agent says what it has kept back as soon as an answer to a poll shows that it is heard. */
  lastReturn(): ControlPlaneReturn {
    this.#noticeStandstill();
    const newsMs = this.#parts.clock.nowMs() - this.#parts.timing.pollHoldMs - NEWS_TAKE_MS;
    const heard = new Set<NodeId>();
    for (const { row, steadySinceMs } of this.#parts.links.values())
      if (steadySinceMs !== null && steadySinceMs <= newsMs) heard.add(row.id);
    return { ...this.#limiter.lastReturn, heard };
  }

  /** A request of this node was proved just now. */
  heard(link: Link): void {
    this.#noticeStandstill();
    const nowMs = this.#parts.clock.nowMs();
    link.prove(nowMs, nowMs - this.#wokeMs >= WAITED_MS);
  }

  /** Look now: a node that was silent has spoken, or a new one is to be watched. */
  kick(): void {
    if (this.#state === "running") this.#state = "runningAndKicked";
    if (this.#state === "idle") void this.#run();
  }

  stop(): void {
    this.#state = "stopped";
    this.#cancelTimer?.();
    this.#cancelBeat?.();
  }

  async #run(): Promise<void> {
    this.#state = "running";
    let nextMs: number;
    try {
      nextMs = await this.#look();
    } catch (error) {
      this.#parts.log.error({ error: errorText(error) }, "presence could not be committed; trying again");
      nextMs = this.#parts.clock.nowMs() + RETRY_MS;
    }
    // `kick` and `stop` may have run meanwhile.
    const state = this.#state as "running" | "runningAndKicked" | "stopped";
    if (state === "stopped") return;
    this.#state = "idle";
    if (state === "runningAndKicked") nextMs = Math.min(nextMs, this.#parts.clock.nowMs() + RETRY_MS / 10);
    this.#schedule(nextMs);
  }

  #schedule(atMs: number): void {
    this.#cancelTimer?.();
    const nowMs = this.#parts.clock.nowMs();
    this.#cancelTimer = this.#parts.clock.after(Math.min(Math.max(atMs - nowMs, 0), LOOK_MAX_MS), () => {
      if (this.#state === "idle") void this.#run();
    });
  }

  #beat(): void {
    this.#cancelBeat = this.#parts.clock.after(BEAT_MS, () => {
      this.#noticeStandstill();
      this.#beat();
    });
  }

  /** Before anything is concluded from times, and before new ones are kept. */
  #noticeStandstill(): void {
    const nowMs = this.#parts.clock.nowMs();
    const lateMs = nowMs - this.#beatMs - BEAT_MS;
    this.#beatMs = nowMs;
    if (lateMs < LATE_MS && lateMs > -BEAT_MS - LATE_MS) return;
    this.#parts.log.warn({ lateMs }, "this process stood still or its clock jumped; silence is counted from now");
    this.#wokeMs = nowMs;
    for (const link of this.#parts.links.values()) link.forgive(nowMs, lateMs);
    this.#limiter.returned(nowMs, Math.abs(lateMs));
  }

  /** Commits the edges that are due; answers when to look next. */
  async #look(): Promise<number> {
    this.#noticeStandstill();
    const nowMs = this.#parts.clock.nowMs();
    const { edges, nextMs } = this.#findEdges(nowMs);
    for (let from = 0; from < edges.length; from += EDGES_A_COMMIT_MAX) await this.#commit(edges.slice(from, from + EDGES_A_COMMIT_MAX));
    return nextMs;
  }

  #findEdges(nowMs: number): { readonly edges: Edge[]; readonly nextMs: number } {
    const { timing, links } = this.#parts;
    let nextMs = Number.POSITIVE_INFINITY;
    const wanted: Edge[] = [];
    const silences = [];
    for (const link of links.values()) {
      if (link.row.session === 0) continue; // has never connected: nothing runs there
      link.forgetReturnsWhenQuiet(nowMs, timing.quietMs);
      const presence = presenceAt(link, nowMs, timing);
      if (presence.nextMs !== null) nextMs = Math.min(nextMs, presence.nextMs);
      const edge = EDGE[link.row.status][presence.status];
      const to = edge === "ready" && !link.isHeard ? null : edge;
      if (to !== null) wanted.push({ link, from: link.row, to });
      const isDark = presence.status !== "ready" || (!link.isHeard && link.row.status !== "ready");
      const heardMs = link.isHeard ? link.seenMs : null;
      silences.push({ id: link.row.id, site: link.row.site, dark: isDark, due: to === "lost", heardMs });
    }
    const { lost, againMs } = this.#limiter.allow(silences, nowMs);
    if (againMs !== null) nextMs = Math.min(nextMs, againMs);
    const edges = wanted.flatMap((edge): Edge[] => {
      if (edge.to !== "lost" || lost.has(edge.link.row.id)) return [edge];
      return edge.from.status === "ready" ? [{ ...edge, to: "unreachable" }] : [];
    });
    return { edges, nextMs };
  }

  /**
   * Only what is still so when it is sent, and only while each row has the session and status that it was found with and has had them since: a
   * node that has spoken meanwhile, here or to another process, is not called silent, and one that is gone is let be.
   */
  async #commit(found: readonly Edge[]): Promise<void> {
    const { store, log, refresh, onEdges } = this.#parts;
    for (let attempt = 1; ; attempt++) {
      this.#noticeStandstill();
      const edges = found.filter((edge) => this.#holds(edge));
      if (edges.length === 0) return;
      const rows = edges.map(({ from, to }) => ({ id: from.id, status: to, statusMs: NOW }) as const);
      const result = await store.commit({
        guards: edges.map(guardOf),
        changes: [{ op: "update", table: "nodes", rows }],
        events: edges.map(eventOf),
      });
      await refresh();
      if (result.kind === "committed") {
        for (const { from, to } of edges) log.info({ node: from.id, name: from.name, from: from.status, to }, "node status");
        onEdges();
        return;
      }
      if (attempt === TRIES_MAX) throw new Error(`edges of presence were refused ${attempt} times: ${JSON.stringify(result)}`);
    }
  }

  #holds({ link, from, to }: Edge): boolean {
    if (link.isRemoved || link.row.session !== from.session || link.row.status !== from.status) return false;
    const { status } = presenceAt(link, this.#parts.clock.nowMs(), this.#parts.timing);
    return (status === "ready") === (to === "ready");
  }
}

/** With the time of its status: a write that was given up may come late, when the node has been silent and back. */
const guardOf = ({ from: { id, session, status, statusMs } }: Edge): Guard => ({
  table: "nodes",
  key: { id },
  equals: { session, status, statusMs },
});

const EVENT: Record<NodeStatus, { readonly level: NewEvent["level"]; readonly text: string }> = {
  ready: { level: "info", text: "answers again" },
  unreachable: { level: "warning", text: "has missed a poll" },
  lost: { level: "error", text: "has been silent for too long; its replicas may be placed elsewhere" },
};

function eventOf({ from, to }: Edge): NewEvent {
  const { level, text } = EVENT[to];
  return {
    namespace: null,
    objectKind: "node",
    objectId: from.id,
    app: null,
    type: to,
    level,
    message: `node ${from.name} ${text}`,
  };
}
