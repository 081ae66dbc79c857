/**
 * The agent's picture of its engine: filled by a listing, kept fresh by events and by the results of our own calls. It
 * translates the engine's wall-clock times into the boot clock at the moment it sees them.
 */
import type { ObservedContainer } from "../shared/converge/world.ts";
import type { InspectedContainer } from "./engine/engine.ts";
import type { Clock } from "./ports.ts";

interface Seen {
  readonly observed: ObservedContainer;
  readonly inspected: InspectedContainer;
  /** Boot milliseconds when this run of it was first seen. */
  readonly runSeenMs: number;
}

/** A process that was asked to end does so within its grace; long after, an end is its own. */
const KILL_EXPLAINS_MS = 120_000;

export class Observed {
  readonly #clock: Clock;
  /** Containers that the engine signalled to end, and when. */
  readonly #killedMs = new Map<string, number>();
  readonly #containers = new Map<string, Seen>();
  readonly images = new Map<string, string>();
  networks: ReadonlySet<string> = new Set();
  ownNetworks: ReadonlySet<string> = new Set();
  volumes: ReadonlySet<string> = new Set();
  /** Names of volumes that this node made, in order. */
  ownVolumes: readonly string[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  container(id: string | null): ObservedContainer | null {
    return id === null ? null : (this.#containers.get(id)?.observed ?? null);
  }
  inspected(id: string): InspectedContainer | null {
    return this.#containers.get(id)?.inspected ?? null;
  }
  has(id: string): boolean {
    return this.#containers.has(id);
  }
  ids(): Iterable<string> {
    return this.#containers.keys();
  }

  forget(id: string): void {
    this.#containers.delete(id);
    this.#killedMs.delete(id);
  }

  /** The engine has signalled it to end: at somebody's word, or because it goes down itself. */
  noteKill(id: string): void {
    this.#killedMs.set(id, this.#clock.bootMs());
  }

  /** `engineGoneMs`: the engine has been away since then and is back; what it ran before and does not run now ended with it. */
  see(inspected: InspectedContainer, { engineGoneMs = null }: { readonly engineGoneMs?: number | null } = {}): void {
    const before = this.#containers.get(inspected.id);
    const isSameRun = before !== undefined && before.inspected.startedWallMs === inspected.startedWallMs;
    const readySinceMs = this.#readySince(inspected, isSameRun ? before : undefined);
    const isOver = inspected.status === "exited" || inspected.status === "dead";
    const observed: ObservedContainer = {
      id: inspected.id,
      status: inspected.status,
      health: inspected.status === "running" ? inspected.health : "none",
      readySinceMs,
      readyForMs: isOver ? this.#readyFor(inspected, isSameRun ? before : undefined) : 0,
      exitCode: inspected.exitCode,
      oomKilled: inspected.oomKilled,
      interrupted:
        isOver &&
        ((isSameRun && before.observed.interrupted) ||
          this.#wasKilled(inspected.id) ||
          (engineGoneMs !== null && before?.observed.status === "running" && before.runSeenMs <= engineGoneMs)),
      ports: inspected.ports,
    };
    this.#containers.set(inspected.id, { observed, inspected, runSeenMs: isSameRun ? before.runSeenMs : this.#clock.bootMs() });
    // Told already, or started again since.
    if (isOver || !isSameRun) this.#killedMs.delete(inspected.id);
  }

  #wasKilled(id: string): boolean {
    const killedMs = this.#killedMs.get(id);
    return killedMs !== undefined && this.#clock.bootMs() - killedMs <= KILL_EXPLAINS_MS;
  }

  #readySince(now: InspectedContainer, before: Seen | undefined): number | null {
    if (now.status !== "running" || now.health === "starting" || now.health === "unhealthy") return null;
    const known = before?.observed.readySinceMs ?? null;
    if (known !== null) return known;
    // Unhealthy or paused until now.
    if (before !== undefined && (before.observed.status === "running" || before.observed.status === "paused")) return this.#clock.bootMs();
    const sinceWallMs = now.health === "healthy" ? now.healthySinceWallMs : now.startedWallMs;
    return this.#clock.bootMs() - this.#wallAge(sinceWallMs);
  }

  #readyFor(now: InspectedContainer, before: Seen | undefined): number {
    const since = before?.observed.readySinceMs ?? null;
    if (since !== null) return Math.max(0, this.#clock.bootMs() - this.#wallAge(now.finishedWallMs) - since);
    if (before !== undefined) return before.observed.readyForMs;
    // Never seen alive by this process: the run's length is the best that is known.
    return now.health === "none" && now.startedWallMs !== null && now.finishedWallMs !== null
      ? Math.max(0, now.finishedWallMs - now.startedWallMs)
      : 0;
  }

  /** A wall clock that was set in between can make this wrong, but never negative. */
  #wallAge(atWallMs: number | null): number {
    return atWallMs === null ? 0 : Math.max(0, this.#clock.wallMs() - atWallMs);
  }
}
