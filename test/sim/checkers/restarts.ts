/**
 * When what ended by itself is started again: after the wait that its ends in a row ask for, in true time, whatever the
 * machine's wall clock shows.
 */
import type { SimContainer } from "../engine.ts";
import type { Process } from "../kernel.ts";
import type { Machine } from "../machine.ts";
import type { World } from "../world.ts";
import { isHindered } from "./containers.ts";
import { readSealed } from "./ledger.ts";
import type { Findings } from "./findings.ts";
import { REPLICA_LABEL, SPEC_LABEL } from "./health.ts";
import type { Placement } from "./placement.ts";
import type { Rows } from "./rows.ts";
import type { Specs } from "./specs.ts";

const BACKOFF_MAX_MS = 300_000;
/** Clocks of machines run fast by less. */
const RATE_ERROR = 0.011;
/** A step of the agent, a look at the engine, a start. */
const STARTS_WITHIN_MS = 10_000;
/** After something kept the agent from it: a call that hangs until its limit, a pause between tries, a listing. */
const RECOVERS_WITHIN_MS = 180_000;
/** Exit codes of what somebody ended: TERM, KILL, a power cut. */
const ENDED_BY_OTHERS: ReadonlySet<number> = new Set([137, 143, 255]);

/** As an agent notes that a container could not be started. */
const CANNOT_RUN = 127;

/** One container's ends by itself. */
interface Ends {
  readonly machine: Machine;
  readonly container: SimContainer;
  /** Under which process of the agent and which boot they are counted. */
  process: Process | null;
  boot: string;
  /** In a row, seen by that process. */
  counted: number;
  /** In all. */
  total: number;
  atMs: number;
  /** It has been ended since by somebody else, who may have used up its wait. */
  isWaiting: boolean;
}

/** What keeps a machine's agent from its work, and when it last did. */
interface Hindrance {
  process: Process | null;
  boot: string;
  lastMs: number;
}

export class Restarts {
  readonly #world: World;
  readonly #rows: Rows;
  readonly #specs: Specs;
  readonly #findings: Findings;
  readonly #placement: Placement;
  readonly #ends = new Map<SimContainer, Ends>();
  readonly #hindrances = new Map<Machine, Hindrance>();
  /** How often each replica's container has ended by itself, was removed, or could not be started: what its policy counts. */
  readonly #ownEnds = new Map<string, number>();
  /** Under which process of its agent each container was started. */
  readonly #startedUnder = new WeakMap<SimContainer, Process>();
  /** Under which process of its agent each replica was last ended by others, if that had seen it start. */
  readonly #endedByOthers = new Map<string, Process>();
  /** What each ledger last said that its policy has counted. */
  readonly #noted = new Map<string, number>();

  constructor(parts: {
    readonly world: World;
    readonly rows: Rows;
    readonly specs: Specs;
    readonly findings: Findings;
    readonly placement: Placement;
  }) {
    this.#world = parts.world;
    this.#rows = parts.rows;
    this.#specs = parts.specs;
    this.#findings = parts.findings;
    this.#placement = parts.placement;
  }

  moved(machine: Machine, container: SimContainer): void {
    if (container.body.Labels[REPLICA_LABEL] === undefined) return;
    const { agentProcess } = machine;
    if (container.status === "running") {
      if (agentProcess !== null) this.#startedUnder.set(container, agentProcess);
      this.#started(container);
    }
    if (!machine.engine.containers.has(container.id)) this.#gone(container);
    else if (container.status === "exited") this.#ended(machine, container);
  }

  /** Somebody has removed it, which its policy counts as well. */
  #gone(container: SimContainer): void {
    this.#ends.delete(container);
    this.#count(container.body.Labels[REPLICA_LABEL]!);
  }

  #ended(machine: Machine, container: SimContainer): void {
    const known = this.#ends.get(container);
    if (ENDED_BY_OTHERS.has(container.exitCode)) {
      if (known !== undefined) known.isWaiting = false;
      const { agentProcess: seenBy } = machine;
      if (seenBy !== null && seenBy === this.#startedUnder.get(container))
        this.#endedByOthers.set(container.body.Labels[REPLICA_LABEL]!, seenBy);
      return;
    }
    this.#count(container.body.Labels[REPLICA_LABEL]!);
    const { agentProcess: process, bootId: boot } = machine;
    const isInARow =
      known !== undefined && known.process === process && known.boot === boot && process !== null && !this.#wasWell(container);
    this.#ends.set(container, {
      machine,
      container,
      process,
      boot,
      counted: isInARow ? known.counted + 1 : 1,
      total: (known?.total ?? 0) + 1,
      atMs: this.#findings.nowMs,
      isWaiting: true,
    });
  }

  /** It has served: how long, its agent can only tell by the wall clock, so the wait may begin anew. */
  #wasWell({ startedMs, behaviour }: SimContainer): boolean {
    return behaviour.healthyAfterMs !== null && this.#findings.nowMs - startedMs >= behaviour.healthyAfterMs;
  }

  /** Never too early. */
  #started(container: SimContainer): void {
    const ends = this.#ends.get(container);
    if (ends === undefined || !ends.isWaiting) return;
    ends.isWaiting = false;
    if (ends.boot !== ends.machine.bootId) return;
    // Another process may know of fewer ends: the first wait is due in any case.
    const counted = ends.process === ends.machine.agentProcess ? ends.counted : 1;
    const leastMs = this.#waitMs(container, counted) * (1 - RATE_ERROR);
    const waitedMs = Math.ceil(this.#findings.nowMs - ends.atMs);
    this.#findings.expect(
      "I41",
      waitedMs >= leastMs,
      () => `${container.name} on ${ends.machine.name} was started ${waitedMs} ms after its end ${counted} in a row`,
    );
  }

  /** What others have ended uses up nothing of a policy. */
  #notes(
    machine: Machine,
    {
      exitCode,
      memory: { windowRestarts },
      ref: { replica },
    }: {
      readonly exitCode: number | null;
      readonly memory: { readonly windowRestarts: number };
      readonly ref: { readonly replica: string };
    },
  ): void {
    const noted = `${machine.name} ${replica}`;
    const former = this.#noted.get(noted) ?? 0;
    this.#noted.set(noted, windowRestarts);
    if (exitCode === CANNOT_RUN && windowRestarts > former) this.#count(replica);
    // Who has not seen how it ended counts it as its own end.
    if (windowRestarts <= former || machine.agentProcess === null || this.#endedByOthers.get(replica) !== machine.agentProcess) return;
    const ownEnds = this.#ownEnds.get(replica) ?? 0;
    this.#findings.expect(
      "I41",
      windowRestarts <= ownEnds,
      () => `${machine.name} has counted ${windowRestarts} ends of ${replica}, which ended ${ownEnds} times by itself`,
    );
  }

  #count(replica: string): void {
    this.#ownEnds.set(replica, (this.#ownEnds.get(replica) ?? 0) + 1);
  }

  /** What the ledger says of when it is started again is a moment of this boot's clock, no further away than the longest wait. */
  written(machine: Machine, path: string): void {
    if (!path.startsWith("replicas/")) return;
    const record = readSealed(machine, path) as {
      readonly restartAtMs: number | null;
      readonly bootId: string;
      readonly exitCode: number | null;
      readonly memory: { readonly windowRestarts: number };
      readonly ref: { readonly replica: string };
    };
    this.#notes(machine, record);
    // Of an earlier boot's clock it says nothing any more.
    if (record.restartAtMs === null || record.bootId !== machine.bootId) return;
    const inMs = record.restartAtMs - machine.bootMs();
    this.#findings.expect(
      "I41",
      inMs <= BACKOFF_MAX_MS,
      () => `${machine.name} has noted that ${record.ref.replica} is started again in ${Math.round(inMs / 1000)} s`,
    );
  }

  /** Each second: never much too late, unless something keeps the agent from it. */
  look(): void {
    const { nowMs } = this.#findings;
    for (const machine of this.#world.machines) this.#hinder(machine);
    for (const ends of this.#ends.values()) {
      const { machine, container, atMs } = ends;
      if (!ends.isWaiting || !this.#isWanted(container)) continue;
      this.#findings.looks("I41");
      const waitMs = this.#waitMs(container, ends.total) * (1 + RATE_ERROR);
      const hinderedMs = this.#hindrances.get(machine)!.lastMs;
      const isFree = hinderedMs < atMs - RECOVERS_WITHIN_MS;
      const dueMs = waitMs + (isFree ? atMs + STARTS_WITHIN_MS : Math.max(atMs, hinderedMs) + RECOVERS_WITHIN_MS);
      if (nowMs <= dueMs) continue;
      this.#findings.fail(
        "I41",
        `${container.name} on ${machine.name} ended ${Math.round((nowMs - atMs) / 1000)} s ago and was not started again`,
      );
      ends.isWaiting = false;
    }
  }

  #hinder(machine: Machine): void {
    const { agentProcess: process, bootId: boot } = machine;
    const known = this.#hindrances.get(machine);
    // Where there are no processes to be had, starts fail, and are tried again after longer and longer pauses.
    const isWell = !isHindered(machine) && machine.engine.faults.starved === 0;
    if (known !== undefined && known.process === process && known.boot === boot && isWell) return;
    this.#hindrances.set(machine, { process, boot, lastMs: this.#findings.nowMs });
  }

  #isWanted({ body }: SimContainer): boolean {
    const row = this.#rows.get("replicas", body.Labels[REPLICA_LABEL]!);
    if (row?.desired !== "run" || this.#placement.isTerminal(row.id)) return false;
    const { condition, attemptsMax } = this.#specs.of(row.spec).restart;
    return condition === "always" && attemptsMax === undefined;
  }

  #waitMs({ body }: SimContainer, ends: number): number {
    const { delayMs } = this.#specs.of(body.Labels[SPEC_LABEL] ?? "").restart;
    return Math.min(BACKOFF_MAX_MS, delayMs * 2 ** Math.min(ends - 1, 30));
  }
}
