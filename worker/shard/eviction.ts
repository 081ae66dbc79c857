/**
 * Which silent nodes may be called lost now. Losing a node moves its work; when many fall silent together the likely
 * cause is a link, ours or theirs, and moving everything would make it worse. First match wins:
 *
 * 1. every node of the cluster is dark → none: it is our own link
 * 2. a site of two or more nodes is wholly dark while others are not → none before `siteLostAfter`, then as 3
 * 3. a site of four or more nodes has at least 55 % dark → one in 30 s
 * 4. else → all but those that may be about to return
 *
 * A site of one node cannot be told from its node and falls under 4.
 *
 * When a darkness of 1, 2 or 3 ends, and when this process starts or has stood still, agents do not all come back at once:
 * each waits out a pause that has grown with the time that it could not get through. A node that was not heard since is
 * given as long as the darkness was, at most the longest such pause, and `lostAfter`.
 */
import { PAUSE_MAX_MS } from "../../shared/converge/link.ts";
import type { ControlPlaneReturn } from "../../shared/plan/change.ts";

export interface EvictionTiming {
  readonly lostAfterMs: number;
  readonly siteLostAfterMs: number;
  readonly evictionEveryMs: number;
}

export const EVICTION_TIMING: EvictionTiming = { lostAfterMs: 8_000, siteLostAfterMs: 600_000, evictionEveryMs: 30_000 };

/** Below four nodes a share says nothing: 1 of 2 is 50 %, 2 of 3 is 67 %. */
const SHARE_NODES_MIN = 4;
const SHARE_DARK_PERCENT = 55;

export interface Silence {
  readonly id: string;
  readonly site: string;
  readonly dark: boolean;
  /** Dark for so long that it would be lost by itself, and not yet called so. */
  readonly due: boolean;
  /** When this process heard it last; null: never. */
  readonly heardMs: number | null;
}

/** The end of a darkness, and until when those that were not heard since are waited for. */
export type Return = Omit<ControlPlaneReturn, "heard">;

interface SiteMemory {
  darkSinceMs: number | null;
  evictedMs: number | null;
  /** Since when evictions at the site are limited. */
  limitedSinceMs: number | null;
  returned: Return;
}

const NEVER: Return = { atMs: Number.NEGATIVE_INFINITY, untilMs: Number.NEGATIVE_INFINITY };

export class EvictionLimiter {
  readonly #timing: EvictionTiming;
  readonly #sites = new Map<string, SiteMemory>();
  /** Since when all nodes are dark; null: one is present. */
  #darkSinceMs: number | null = null;
  #returned: Return = NEVER;

  /** Nobody knows how long the nodes had nobody to speak to. */
  constructor(timing: EvictionTiming, nowMs: number) {
    this.#timing = timing;
    this.returned(nowMs, Number.POSITIVE_INFINITY);
  }

  /** The last end of a darkness in which nobody could be heard. */
  get lastReturn(): Return {
    return this.#returned;
  }

  /** For `awayMs` nobody could be heard, and now they can. */
  returned(nowMs: number, awayMs: number): void {
    this.#returned = this.#returnAt(nowMs, awayMs, this.#returned);
  }

  /** One that begins while an earlier one is waited out goes on with it: who was in a pause may have got through in neither. */
  #returnAt(atMs: number, awayMs: number, earlier: Return): Return {
    const { lostAfterMs } = this.#timing;
    const carriedMs = atMs < earlier.untilMs ? earlier.untilMs - earlier.atMs - lostAfterMs : 0;
    return { atMs, untilMs: atMs + lostAfterMs + Math.min(carriedMs + awayMs, PAUSE_MAX_MS) };
  }

  /** The nodes to call lost now, and when a refused one is to be asked about again. */
  allow(nodes: readonly Silence[], nowMs: number): { readonly lost: ReadonlySet<string>; readonly againMs: number | null } {
    const bySite = Map.groupBy(nodes, (node) => node.site);
    const anyBright = nodes.some((node) => !node.dark);
    this.#lookAtAll(anyBright, nowMs);
    for (const site of this.#sites.keys()) if (!bySite.has(site)) this.#sites.delete(site);

    const lost = new Set<string>();
    let againMs: number | null = null;
    const askAgainAt = (atMs: number) => {
      againMs = Math.min(againMs ?? atMs, atMs);
    };
    for (const [site, members] of bySite) {
      const memory = this.#memory(site, members, nowMs);
      const limited = this.#limit(members, memory, anyBright);
      this.#lookAtLimit(memory, limited !== null, nowMs);
      // A single node has nowhere to move its work from or to: nothing to protect.
      const isAlone = nodes.length === 1;
      if (!anyBright && !isAlone) continue;
      const returns = isAlone ? [] : [this.#returned, memory.returned];
      const due = members.filter((node) => {
        const waitedFor = returns.filter(({ atMs, untilMs }) => nowMs < untilMs && (node.heardMs ?? Number.NEGATIVE_INFINITY) < atMs);
        if (node.due) for (const { untilMs } of waitedFor) askAgainAt(untilMs);
        return node.due && waitedFor.length === 0;
      });
      if (due.length === 0) continue;
      if (limited === null) {
        for (const node of due) lost.add(node.id);
        continue;
      }
      const fromMs = Math.max(limited, (memory.evictedMs ?? Number.NEGATIVE_INFINITY) + this.#timing.evictionEveryMs);
      if (nowMs < fromMs) {
        askAgainAt(fromMs);
        continue;
      }
      const [first] = due;
      if (first !== undefined) lost.add(first.id);
      memory.evictedMs = nowMs;
      if (due.length > 1) askAgainAt(nowMs + this.#timing.evictionEveryMs);
    }
    return { lost, againMs };
  }

  #lookAtAll(anyBright: boolean, nowMs: number): void {
    if (!anyBright) this.#darkSinceMs ??= nowMs;
    else if (this.#darkSinceMs !== null) {
      this.returned(nowMs, nowMs - this.#darkSinceMs);
      this.#darkSinceMs = null;
    }
  }

  #lookAtLimit(memory: SiteMemory, isLimited: boolean, nowMs: number): void {
    if (isLimited) memory.limitedSinceMs ??= nowMs;
    else if (memory.limitedSinceMs !== null) {
      memory.returned = this.#returnAt(nowMs, nowMs - memory.limitedSinceMs, memory.returned);
      memory.limitedSinceMs = null;
    }
  }

  #memory(site: string, members: readonly Silence[], nowMs: number): SiteMemory {
    const memory = this.#sites.get(site) ?? { darkSinceMs: null, evictedMs: null, limitedSinceMs: null, returned: NEVER };
    this.#sites.set(site, memory);
    if (members.every((node) => node.dark)) memory.darkSinceMs ??= nowMs;
    else if (memory.darkSinceMs !== null) {
      memory.returned = this.#returnAt(nowMs, nowMs - memory.darkSinceMs, memory.returned);
      memory.darkSinceMs = null;
    }
    return memory;
  }

  /** From when one eviction at a time is allowed; null: no limit. */
  #limit(members: readonly Silence[], memory: SiteMemory, anyBright: boolean): number | null {
    const dark = members.filter((node) => node.dark).length;
    if (anyBright && members.length >= 2 && memory.darkSinceMs !== null) return memory.darkSinceMs + this.#timing.siteLostAfterMs;
    if (members.length >= SHARE_NODES_MIN && dark * 100 >= SHARE_DARK_PERCENT * members.length) return 0;
    return null;
  }
}
