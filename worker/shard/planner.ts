/**
 * The planner's loop: look at the cluster, plan, commit by compare-and-set, look again when something rings or falls
 * due. Level-triggered: a ring carries nothing, and any number of rings while one plan runs are one more look.
 */
import { errorText } from "../error-text.ts";
import type { DeploymentId } from "../../shared/model/name.ts";
import type { ClusterPlan, ControlPlaneReturn, PlanInput } from "../../shared/plan/change.ts";
import type { ClusterSnapshot } from "../../shared/plan/snapshot.ts";
import type { Clock, Log, Random } from "../ports.ts";
import type { Applied, PlanWidth } from "../store/apply-plan.ts";

/** What the loop drives; see planning.ts. */
export interface Planning {
  /** Calls `take` with the newest snapshot and the cluster's time then; both are good until its promise ends. */
  use<Result>(take: (view: { readonly snapshot: ClusterSnapshot; readonly nowMs: number }) => Promise<Result>): Promise<Result>;
  plan(snapshot: ClusterSnapshot, input: PlanInput): ClusterPlan;
  /** What is wrong with a plan, a sentence each; a plan with any is not committed. */
  lint(snapshot: ClusterSnapshot, plan: ClusterPlan): readonly string[];
  apply(snapshot: ClusterSnapshot, plan: ClusterPlan, width: PlanWidth): Promise<Applied>;
  /** Makes a new revision of what ran before a deployment that failed. */
  rollBack(deployment: DeploymentId): Promise<void>;
}

export interface PlannerParts {
  readonly planning: Planning;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** A rev that is committed, by a plan or by whoever made the snapshot newer: also a commit that nobody here was told of. */
  readonly onRev: (rev: number) => void;
  /** On this process's clock. */
  readonly lastReturn: () => ControlPlaneReturn;
}

/** Two plans start at least this far apart: a burst of reports is one plan, not fifty. */
const APART_MS = 100;
const TRIES_MAX = 3;
/** After so many plans in a row that lost to other commits, the next ones are narrow: a busy app holds up itself alone. */
const CONFLICTS_WHOLE_MAX = 2;
/** After a failure: 1 s, doubling to 30 s. */
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** Until a rollback that could not be made is tried again, if nothing makes the planner look before. */
const ROLLBACK_RETRY_MS = 5_000;
/** The database's clock and this process's come apart by more than this: one of them was put on or back. */
const JUMP_MS = 5_000;
/** As long as nodes are waited for that return: docs/adr/0003-presence.md. */
const JUMP_GRACE_MS = 38_000;
/** The net below everything else: a ring that was lost costs at most this. */
const LOOK_MAX_MS = 60_000;

export class PlannerLoop {
  readonly #parts: PlannerParts;
  #state: "idle" | "running" | "runningAndRung" | "stopped" = "idle";
  #cancelTimer: (() => void) | null = null;
  #startedMs = Number.NEGATIVE_INFINITY;
  #failures = 0;
  /** Plans in a row that lost to other commits. */
  #conflicts = 0;
  #finished: Promise<void> = Promise.resolve();
  /** By how much the database's clock was ahead of this process's; null: nothing was planned yet. */
  #aheadMs: number | null = null;
  #jump: ControlPlaneReturn | null = null;

  constructor(parts: PlannerParts) {
    this.#parts = parts;
  }

  ring(): void {
    if (this.#state === "running") this.#state = "runningAndRung";
    // After a failure the wait is not cut short: whatever failed would fail at once again.
    if (this.#state === "idle" && this.#failures === 0) this.#schedule(0);
  }

  /** Resolves when a plan that is being made has ended. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    this.#cancelTimer?.();
    await this.#finished;
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer?.();
    const apartMs = this.#startedMs + APART_MS - this.#parts.clock.nowMs();
    const waitMs = Math.max(delayMs, apartMs);
    const start = () => {
      if (this.#state === "idle") this.#finished = this.#run();
    };
    this.#cancelTimer = null;
    if (waitMs <= 0) start();
    else this.#cancelTimer = this.#parts.clock.after(waitMs, start);
  }

  async #run(): Promise<void> {
    this.#state = "running";
    this.#startedMs = this.#parts.clock.nowMs();
    let delayMs: number;
    try {
      delayMs = await this.#planOnce();
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (this.#failures - 1));
      this.#parts.log.error({ error: errorText(error), retryMs: delayMs }, "planning failed");
    }
    // `ring` and `stop` may have run meanwhile.
    const state = this.#state as "running" | "runningAndRung" | "stopped";
    if (state === "stopped") return;
    this.#state = "idle";
    this.#schedule(state === "runningAndRung" && this.#failures === 0 ? 0 : delayMs);
  }

  /** One plan, tried again while others commit first; answers when to look again. */
  async #planOnce(): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      const { result, waitMs, rollbacks } = await this.#parts.planning.use((view) => this.#planFrom(view));
      this.#conflicts = result.kind === "conflict" ? this.#conflicts + 1 : 0;
      if (result.kind === "committed" || (result.kind === "conflict" && result.committedChunks > 0)) this.#parts.onRev(result.rev);
      const retryMs = await this.#rollBack(rollbacks);
      if (result.kind === "unchanged") return Math.min(waitMs, retryMs);
      // What this plan changed may allow the next step, and a deployment that it failed may owe a rollback; a converged
      // cluster answers `unchanged`.
      if (result.kind === "committed") return Math.min(waitMs, APART_MS);
      if (attempt === TRIES_MAX) {
        this.#parts.log.warn({ attempt, message: result.message }, "a plan lost to other commits; trying again later");
        return APART_MS;
      }
    }
  }

  /** What was timed by a clock that jumped has had less time than it seems, or nobody knows how much: it is given some. */
  #jumped(aheadMs: number): ControlPlaneReturn | null {
    const nowMs = this.#parts.clock.nowMs();
    if (this.#aheadMs !== null && Math.abs(aheadMs - this.#aheadMs) > JUMP_MS)
      this.#jump = { atMs: nowMs, untilMs: nowMs + JUMP_GRACE_MS, heard: new Set() };
    this.#aheadMs = aheadMs;
    return this.#jump !== null && nowMs < this.#jump.untilMs ? this.#jump : null;
  }

  async #planFrom({
    snapshot,
    nowMs,
  }: {
    readonly snapshot: ClusterSnapshot;
    readonly nowMs: number;
  }): Promise<{ result: Applied; waitMs: number; rollbacks: readonly DeploymentId[] }> {
    const { planning, clock, random, onRev, lastReturn } = this.#parts;
    onRev(snapshot.rev);
    const aheadMs = nowMs - clock.nowMs();
    const { atMs, untilMs, heard } = this.#jumped(aheadMs) ?? lastReturn();
    const plan = planning.plan(snapshot, {
      nowMs,
      idSeed: hex(random.bytes(8)),
      returned: { atMs: atMs + aheadMs, untilMs: untilMs + aheadMs, heard },
    });
    const violations = planning.lint(snapshot, plan);
    if (violations.length > 0)
      throw new Error(`a plan at rev ${plan.rev} breaks its own rules and was not committed: ${violations.slice(0, 5).join("; ")}`);
    const waitMs = plan.wakeAtMs === null ? LOOK_MAX_MS : Math.min(LOOK_MAX_MS, Math.max(0, plan.wakeAtMs - nowMs));
    const width = this.#conflicts >= CONFLICTS_WHOLE_MAX ? "narrow" : "whole";
    return { result: await planning.apply(snapshot, plan, width), waitMs, rollbacks: snapshot.rollbacks };
  }

  /** What fails is owed in the next snapshot too; answers when to look for it at the latest. */
  async #rollBack(owed: readonly DeploymentId[]): Promise<number> {
    let retryMs = LOOK_MAX_MS;
    for (const deployment of owed) {
      try {
        await this.#parts.planning.rollBack(deployment);
      } catch (error) {
        retryMs = ROLLBACK_RETRY_MS;
        this.#parts.log.error({ deployment, error: errorText(error) }, "a failed deployment could not be rolled back yet");
      }
    }
    return retryMs;
  }
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
