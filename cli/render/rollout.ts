/**
 * The progress of a deployment, from what is seen of its replicas. A pure model: it is told what the API answered and
 * when, and gives the lines of the live block, or the lines that a log should get.
 */
import type { Replica } from "../../shared/api/resources.ts";
import { replicaName } from "./address.ts";
import { bar, seconds } from "./amount.ts";
import type { Style, StyleName } from "./style.ts";
import { spinner } from "./live.ts";
import { visible } from "./visible.ts";

/** What a replica is doing, in the words that are shown. */
export const PHASES = [
  "waiting for the node",
  "preparing",
  "pulling",
  "starting",
  "checking health",
  "ready",
  "failed",
  "stopping",
  "stopped",
] as const;
export type Phase = (typeof PHASES)[number];

export function phaseOf(replica: Replica): Phase {
  if (replica.state === "failed" || replica.state === "rejected") return "failed";
  if (replica.state === "stopped" || replica.state === "completed" || replica.ended !== null) return "stopped";
  if (replica.state === "stopping" || replica.desired === "stop") return "stopping";
  if (replica.state === "assigned") return "waiting for the node";
  if (replica.state === "preparing") return replica.pull === null ? "preparing" : "pulling";
  if (replica.state === "starting") return "starting";
  return replica.readySince === null ? "checking health" : "ready";
}

/** What keeps a replica from going on, in its node's words; empty: nothing. */
const obstacleOf = (replica: Replica): string =>
  replica.state === "preparing" && replica.message !== "" ? `${visible(replica.reason)}: ${visible(replica.message)}` : "";

interface Step {
  readonly phase: Phase;
  readonly beganMs: number;
}
interface Track {
  replica: Replica;
  readonly steps: Step[];
  firstMs: number;
  restarts: number;
  obstacle: string;
}

const PHASE_STYLES: Partial<Record<Phase, StyleName>> = { ready: "good", failed: "bad", stopping: "quiet", stopped: "quiet" };
const BAR_WIDTH = 20;

export class Rollout {
  readonly #tracks = new Map<string, Track>();
  readonly #before: ReadonlySet<string>;
  #news: string[] = [];

  /** `before`: replicas that were there already; of these only the ones that end are shown. */
  constructor(before: Iterable<string> = []) {
    this.#before = new Set(before);
  }

  /** What the API answered at `atMs`, a clock of the caller's. A replica that is no longer listed has ended. */
  observe(replicas: readonly Replica[], atMs: number): void {
    const seen = new Set<string>();
    for (const replica of replicas) {
      seen.add(replica.id);
      if (this.#before.has(replica.id) && replica.desired === "run" && !this.#tracks.has(replica.id)) continue;
      this.#see(replica, atMs);
    }
    for (const [id, track] of this.#tracks) {
      const last = track.steps.at(-1)?.phase;
      if (!seen.has(id) && last !== "failed" && last !== "stopped") this.#step(track, "stopped", atMs);
    }
  }

  #see(replica: Replica, atMs: number): void {
    const phase = phaseOf(replica);
    const known = this.#tracks.get(replica.id);
    if (known === undefined) {
      const track: Track = { replica, steps: [], firstMs: atMs, restarts: replica.restarts, obstacle: "" };
      this.#tracks.set(replica.id, track);
      this.#step(track, phase, atMs);
      this.#hinder(track);
      return;
    }
    known.replica = replica;
    if (replica.restarts > known.restarts) {
      known.restarts = replica.restarts;
      this.#news.push(
        `${visible(replicaName(replica))} on ${visible(replica.node.name)}: restarted (${replica.restarts})${replica.message === "" ? "" : `: ${visible(replica.message)}`}`,
      );
    }
    if (known.steps.at(-1)?.phase !== phase) this.#step(known, phase, atMs);
    this.#hinder(known);
  }

  #hinder(track: Track): void {
    const { replica, obstacle } = track;
    track.obstacle = obstacleOf(replica);
    if (track.obstacle !== "" && track.obstacle !== obstacle)
      this.#news.push(`${visible(replicaName(replica))} on ${visible(replica.node.name)}: ${track.obstacle}`);
  }

  #step(track: Track, phase: Phase, atMs: number): void {
    const took = track.steps.length === 0 ? "" : ` after ${seconds(atMs - track.firstMs)}`;
    track.steps.push({ phase, beganMs: atMs });
    const { replica } = track;
    const why = phase === "failed" && replica.message !== "" ? `: ${visible(replica.message)}` : "";
    this.#news.push(
      `${visible(replicaName(replica))} on ${visible(replica.node.name)}: ${phase}${phase === "ready" || phase === "failed" ? took : ""}${why}`,
    );
  }

  /** What happened since the last call, a line each: for output that is not a terminal. */
  takeNews(): string[] {
    const news = this.#news;
    this.#news = [];
    return news;
  }

  /** The live block: a line a replica. `isOver`: nothing moves any more, and what is not ready has failed. */
  lines(nowMs: number, style: Style, isOver = false): string[] {
    const tracks = [...this.#tracks.values()].filter((track) => track.steps.at(-1)?.phase !== "stopped");
    const name = (track: Track): string => visible(replicaName(track.replica));
    const nameWidth = Math.max(0, ...tracks.map((track) => name(track).length));
    const nodeWidth = Math.max(0, ...tracks.map((track) => track.replica.node.name.length));
    return tracks
      .sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }) || a.firstMs - b.firstMs)
      .map((track) => {
        const phase = track.steps.at(-1)?.phase ?? "waiting for the node";
        const isBad = phase === "failed" || (isOver && phase !== "ready" && phase !== "stopping");
        const mark = phase === "ready" ? style.good("✓") : isBad ? style.bad("✗") : isOver ? " " : style.accent(spinner(nowMs));
        return `${mark} ${name(track).padEnd(nameWidth)}  ${visible(track.replica.node.name).padEnd(nodeWidth)}  ${this.#stepsText(track, nowMs, style)}`;
      });
  }

  #stepsText(track: Track, nowMs: number, style: Style): string {
    // Of one that starts over and over the way here says nothing; the count does.
    const steps = track.restarts > 0 ? track.steps.slice(-1) : track.steps;
    const parts = steps.map((step, at) => {
      const next = steps[at + 1];
      const isLast = next === undefined;
      const name = PHASE_STYLES[step.phase];
      const text = name === undefined ? step.phase : style[name](step.phase);
      if (step.phase === "ready") return `${text} ${style.quiet(seconds(step.beganMs - track.firstMs))}`;
      if (step.phase === "failed") return `${text} ${visible(track.replica.message)}`;
      const took = seconds((next?.beganMs ?? nowMs) - step.beganMs);
      const { pull } = track.replica;
      const progress = isLast && step.phase === "pulling" && pull !== null ? ` ${bar(pull.currentBytes, pull.totalBytes, BAR_WIDTH)}` : "";
      // A step that took no time worth showing would only push the others off the line.
      return isLast || (next?.beganMs ?? 0) - step.beganMs >= 50 ? `${text}${progress} ${style.quiet(took)}` : "";
    });
    const restarted = track.restarts > 0 ? [style.warn(`restarted ${track.restarts}×`)] : [];
    const obstacle = track.obstacle === "" ? [] : [style.warn(track.obstacle)];
    return [...restarted, ...parts, ...obstacle].filter((part) => part !== "").join("  ");
  }

  /** What is waited for, a line each. */
  unready(): string[] {
    return [...this.#tracks.values()].flatMap(({ replica, steps, obstacle }) => {
      const phase = steps.at(-1)?.phase;
      if (phase === undefined || phase === "ready" || phase === "stopped") return [];
      return [`${visible(replicaName(replica))} on ${visible(replica.node.name)}: ${obstacle === "" ? phase : obstacle}`];
    });
  }

  get readyCount(): number {
    return [...this.#tracks.values()].filter((track) => track.steps.at(-1)?.phase === "ready").length;
  }

  /** Replicas that failed or never got healthy, the ones whose log lines explain most first. */
  troubled(): Replica[] {
    return [...this.#tracks.values()]
      .filter(
        (track) =>
          track.steps.some(({ phase }) => phase === "failed") ||
          // A failed deployment's own replicas are stopped at once where the old ones serve: it is over, and why is still to be told.
          (track.replica.exitCode !== null && !track.steps.some(({ phase }) => phase === "ready")) ||
          (track.steps.at(-1)?.phase !== "ready" && track.replica.desired === "run" && track.replica.ended === null),
      )
      .map((track) => track.replica)
      .sort((a, b) => b.logTail.length - a.logTail.length || b.restarts - a.restarts);
  }
}
