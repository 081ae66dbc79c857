/**
 * Which silent nodes may be called lost now. Losing a node moves its work; when many fall silent together the likely
 * cause is a link, ours or theirs, and moving everything would make it worse. First match wins:
 *
 * 1. every node of the cluster is dark, or was until less than `lostAfter` ago → none: it is our own link
 * 2. a site of two or more nodes is wholly dark while others are not → none before `siteLostAfter`, then as 3
 * 3. a site of four or more nodes has at least 55 % dark → one in 30 s
 * 4. else → all
 *
 * A site of one node cannot be told from its node and falls under 4.
 */
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
}

interface SiteMemory {
  darkSinceMs: number | null;
  evictedMs: number | null;
}

export class EvictionLimiter {
  readonly #timing: EvictionTiming;
  readonly #sites = new Map<string, SiteMemory>();
  /** Since when at least one node has been present; null: all are dark. */
  #brightSinceMs: number | null;

  constructor(timing: EvictionTiming, nowMs: number) {
    this.#timing = timing;
    this.#brightSinceMs = nowMs - timing.lostAfterMs;
  }

  /** The nodes to call lost now, and when a refused one is to be asked about again. */
  allow(nodes: readonly Silence[], nowMs: number): { readonly lost: ReadonlySet<string>; readonly againMs: number | null } {
    const bySite = Map.groupBy(nodes, (node) => node.site);
    const anyBright = nodes.some((node) => !node.dark);
    this.#brightSinceMs = anyBright ? (this.#brightSinceMs ?? nowMs) : null;
    for (const site of this.#sites.keys()) if (!bySite.has(site)) this.#sites.delete(site);

    const lost = new Set<string>();
    let againMs: number | null = null;
    const askAgainAt = (atMs: number) => {
      againMs = Math.min(againMs ?? atMs, atMs);
    };
    const clusterBlockedUntilMs = this.#clusterBlockedUntilMs(nodes.length);
    for (const [site, members] of bySite) {
      const memory = this.#memory(site, members, nowMs);
      const due = members.filter((node) => node.due);
      if (due.length === 0) continue;
      if (clusterBlockedUntilMs > nowMs) {
        if (clusterBlockedUntilMs !== Number.POSITIVE_INFINITY) askAgainAt(clusterBlockedUntilMs);
        continue;
      }
      const limited = this.#limit(members, memory, anyBright);
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

  /** A single node has nowhere to move its work from or to: nothing to protect. */
  #clusterBlockedUntilMs(nodes: number): number {
    if (nodes < 2) return 0;
    return this.#brightSinceMs === null ? Number.POSITIVE_INFINITY : this.#brightSinceMs + this.#timing.lostAfterMs;
  }

  #memory(site: string, members: readonly Silence[], nowMs: number): SiteMemory {
    const memory = this.#sites.get(site) ?? { darkSinceMs: null, evictedMs: null };
    memory.darkSinceMs = members.every((node) => node.dark) ? (memory.darkSinceMs ?? nowMs) : null;
    this.#sites.set(site, memory);
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
