/**
 * When a node counts as silent and as lost. Pure: local milliseconds in, a status and the time to look again out.
 *
 *            last proof        hold ends   +slack              lost
 *   ─────────────┼─────────────────┼──────────┼─────────────────┼────────
 *                └──── pollHold ───┘ unreachable
 *                └───────────────── lostAfter ──────────────────┘
 *
 * - A node proves that it lives by a request whose proof verifies. A held connection proves nothing: a host that was cut
 *   off leaves it open.
 * - `unreachable`: the poll that had to follow the hold has not come within the slack.
 * - `lost`: `lostAfter` since the last proof, and not before `unreachable`. With a hold of 5 s a cut is noticed 3 to 8 s
 *   after it happened, and a living node has 3 s to come back after each answer.
 * - Each return from `lost` doubles `lostAfter` up to 5 min, until the node has been quiet for 10 min.
 */
import type { NodeStatus } from "../../shared/plan/snapshot.ts";

export interface PresenceTiming {
  readonly pollHoldMs: number;
  /**
   * Holds are cut short by chance, so that agents which came together do not stay together: the first of each agent that
   * this process hears by anything up to this share, which spreads a herd over the whole hold at once.
   */
  readonly jitterFirst: number;
  /** The same for its later ones. */
  readonly jitter: number;
  /** A round trip, a TLS handshake and a busy agent between an answer and the next poll. */
  readonly missedSlackMs: number;
  readonly lostAfterMs: number;
  readonly lostAfterMaxMs: number;
  readonly quietMs: number;
}

export const EMBEDDED_TIMING: PresenceTiming = {
  pollHoldMs: 5_000,
  jitterFirst: 0.9,
  jitter: 0.1,
  missedSlackMs: 1_500,
  lostAfterMs: 8_000,
  lostAfterMaxMs: 300_000,
  quietMs: 600_000,
};

export interface Presence {
  /** Last proved request. */
  readonly seenMs: number;
  /** When the hold of its last poll ends or ended; a moment in the past when none is held. */
  readonly holdEndMs: number;
  /** Returns from `lost` since it was last quiet. */
  readonly returns: number;
}

export function lostAfterMs(returns: number, timing: PresenceTiming): number {
  return Math.min(timing.lostAfterMaxMs, timing.lostAfterMs * 2 ** Math.min(returns, 20));
}

/** What the node's silence makes of it at `nowMs`, and when that changes next if it stays silent (null: never). */
export function presenceAt(
  presence: Presence,
  nowMs: number,
  timing: PresenceTiming,
): { readonly status: NodeStatus; readonly nextMs: number | null } {
  const unreachableAtMs = Math.max(presence.seenMs, presence.holdEndMs) + timing.missedSlackMs;
  const lostAtMs = Math.max(presence.seenMs + lostAfterMs(presence.returns, timing), unreachableAtMs);
  if (nowMs >= lostAtMs) return { status: "lost", nextMs: null };
  if (nowMs >= unreachableAtMs) return { status: "unreachable", nextMs: lostAtMs };
  return { status: "ready", nextMs: unreachableAtMs };
}
