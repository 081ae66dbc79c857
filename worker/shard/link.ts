/** What the shard keeps of one node in memory; all of it can be made again from the node's row. */
import type { NodeId } from "../../shared/model/name.ts";
import type { NodeStatus } from "../../shared/plan/snapshot.ts";
import type { Presence } from "./presence.ts";
import { ReplayWindow } from "./replay.ts";

/** The columns of a node that the shard decides by. */
export interface LinkRow {
  readonly id: NodeId;
  readonly name: string;
  readonly site: string;
  readonly session: number;
  readonly generation: number;
  readonly status: NodeStatus;
  /** When it became so: of two edges to one status each has its own. */
  readonly statusMs: number;
  readonly quarantined: boolean;
  readonly rev: number;
}

/** Whoever polls without a pause is heard more often. */
const BREAK_MS = 8_000;

export class Link implements Presence {
  row: LinkRow;
  /** The operator removed the node; a poll that is still held ends with that answer. */
  isRemoved = false;
  /** Derived for `row.session` at the first request. */
  sessionKey: Uint8Array | null = null;
  replay = new ReplayWindow();
  seenMs: number;
  holdEndMs: number;
  returns = 0;
  /**
   * Since when it is heard without a break; null: not since this process started or stood still. Until then it counts as
   * seen at that time, and cannot return.
   */
  steadySinceMs: number | null = null;
  /** A poll of it has been held by this process before. */
  hasPolled = false;
  /** It was logged that this node holds a newer set than the database knows. */
  isBehindWarned = false;
  /** Last change of its status: quiet is counted from here. */
  #edgeMs: number;

  constructor(row: LinkRow, nowMs: number) {
    this.row = row;
    this.seenMs = nowMs;
    this.holdEndMs = nowMs;
    this.#edgeMs = nowMs;
  }

  /** Takes the row as it is in the database now. A new session starts with an unused window, and its node has just spoken. */
  update(row: LinkRow, nowMs: number): void {
    if (row.rev < this.row.rev) return;
    if (row.session !== this.row.session) {
      this.sessionKey = null;
      this.replay = new ReplayWindow();
      this.seenMs = nowMs;
    }
    if (row.status !== this.row.status) {
      if (this.row.status === "lost") this.returns += 1;
      this.#edgeMs = nowMs;
    }
    this.row = row;
  }

  /** `isFresh`: the request was sent just now, not while this process stood still. */
  prove(nowMs: number, isFresh: boolean): void {
    if (nowMs - this.seenMs > BREAK_MS) this.steadySinceMs = null;
    if (isFresh) this.steadySinceMs ??= nowMs;
    this.seenMs = nowMs;
  }

  get isHeard(): boolean {
    return this.steadySinceMs !== null;
  }

  forgetReturnsWhenQuiet(nowMs: number, quietMs: number): void {
    if (nowMs - this.#edgeMs >= quietMs) this.returns = 0;
  }

  /** The process stood still for `byMs`, or its clock jumped so far: what was not heard proves nothing. */
  forgive(nowMs: number, byMs: number): void {
    this.seenMs = nowMs;
    this.holdEndMs += byMs;
    this.#edgeMs += byMs;
    this.steadySinceMs = null;
  }
}
