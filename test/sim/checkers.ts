/**
 * What must hold, checked after every step in which something moved, against what is really so: the database's rows and
 * every simulated container. Numbers are those of docs/spec/invariants.md, which names the part that looks at each.
 */
import { Answers } from "./checkers/answers.ts";
import { Commits } from "./checkers/commits.ts";
import { Containers } from "./checkers/containers.ts";
import { Findings, type Violation } from "./checkers/findings.ts";
import { Health } from "./checkers/health.ts";
import { Placement } from "./checkers/placement.ts";
import { Presence } from "./checkers/presence.ts";
import { Reports } from "./checkers/reports.ts";
import { Rest } from "./checkers/rest.ts";
import { Restarts } from "./checkers/restarts.ts";
import { Rollouts } from "./checkers/rollouts.ts";
import { Rows } from "./checkers/rows.ts";
import { Specs } from "./checkers/specs.ts";
import type { WrittenBatch } from "./database.ts";
import type { SimContainer } from "./engine.ts";
import type { Isolate } from "./isolate.ts";
import type { Machine } from "./machine.ts";
import type { World } from "./world.ts";

export type { Violation } from "./checkers/findings.ts";

/** How often what only time brings about is looked at. */
const LOOK_EVERY_MS = 1_000;
/** I32. */
const CONVERGES_WITHIN_MS = 180_000;

/** What a process may log as an error: that its database refused, which is the simulation's doing. */
const OF_DATABASE =
  /SQLITE_(?:BUSY|FULL|READONLY|IOERR)|database is locked|database or disk is full|readonly database|disk I\/O error|fetch failed|STREAM_EXPIRED|stream has expired|TRANSACTION_CLOSED|has been rolled back/;

export class Checkers {
  readonly #world: World;
  readonly #findings: Findings;
  readonly #rows = new Rows();
  readonly #health: Health;
  readonly #placement: Placement;
  readonly #commits: Commits;
  readonly #reports: Reports;
  readonly #presence: Presence;
  readonly #rollouts: Rollouts;
  readonly #answers: Answers;
  readonly #containers: Containers;
  readonly #restarts: Restarts;
  readonly #rest: Rest;
  #isolate: Isolate | null = null;
  #clones = 0;
  #clockErrorMs = 0;
  #lookMs = 0;
  #mendedMs: number | null = null;

  constructor(world: World) {
    const findings = new Findings(world.kernel);
    const rows = this.#rows;
    const specs = new Specs(rows);
    const machineOf = (node: string): Machine | undefined => {
      const name = rows.get("nodes", node)?.name;
      return world.machines.find((machine) => machine.name === name);
    };
    this.#world = world;
    this.#findings = findings;
    this.#health = new Health(world.kernel);
    this.#placement = new Placement({ rows, specs, findings, machineOf });
    this.#commits = new Commits(rows, findings);
    this.#reports = new Reports(rows, findings, machineOf);
    this.#presence = new Presence(findings);
    this.#rollouts = new Rollouts({ rows, findings, health: this.#health, placement: this.#placement });
    this.#answers = new Answers({ rows, specs, findings });
    this.#containers = new Containers({ world, rows, specs, findings, placement: this.#placement });
    this.#restarts = new Restarts({ world, rows, specs, findings, placement: this.#placement });
    this.#rest = new Rest({ world, rows, findings });
  }

  get violations(): readonly Violation[] {
    return this.#findings.violations;
  }
  /** How often each was looked at. */
  get looked(): ReadonlyMap<string, number> {
    return this.#findings.looked;
  }

  /** From here on, with a cluster that has been made. */
  begin(): void {
    const { database, kernel, machines, ears } = this.#world;
    this.#rows.begin(database);
    this.#commits.begin();
    this.#placement.begin();
    this.#answers.begin();
    this.#containers.begin();
    database.onWrite = (written) => this.#wrote(written);
    ears.onAsked = (request) => this.#commits.asked(request);
    ears.onError = (text) => {
      if (!OF_DATABASE.test(text)) this.fail("crash", `the control plane said: ${text.slice(0, 900)}`);
    };
    ears.onAnswered = (request, answer, askedMs) => {
      this.#presence.answered(request, answer, askedMs);
      this.#answers.answered(request, answer, askedMs);
    };
    kernel.observe(() => this.#step());
    for (const machine of machines) this.watch(machine);
    this.#world.onMachine = (machine) => this.watch(machine);
  }

  watch(machine: Machine): void {
    const { engine, disk } = machine;
    this.#health.begin(machine);
    engine.onChange = (container) => this.#moved(machine, container);
    engine.onStopAsked = (container, how) => this.#containers.stopAsked(machine, container, how);
    disk.onWritten = (path) => {
      this.#containers.written(machine, path);
      this.#restarts.written(machine, path);
      this.#reports.written(machine, path);
    };
    machine.onSend = (request) => this.#reports.sent(machine, request);
  }

  fail(invariant: string, message: string): void {
    this.#findings.fail(invariant, message);
  }
  looks(invariant: string, times = 1): void {
    this.#findings.looks(invariant, times);
  }

  /** Nothing goes wrong from here on. */
  mended(): void {
    this.#mendedMs = this.#findings.nowMs;
  }

  #wrote(written: WrittenBatch): void {
    const batch = this.#rows.take(written);
    this.#commits.check(batch);
    this.#placement.check(batch);
    this.#reports.check(batch);
    this.#presence.check(batch);
    this.#rollouts.check(batch);
    this.#answers.check(batch);
    this.#containers.check(batch);
  }

  #moved(machine: Machine, container: SimContainer): void {
    this.#health.moved(container);
    this.#containers.moved(machine, container);
    this.#restarts.moved(machine, container);
  }

  #step(): void {
    const { machines, clones, isolate, database } = this.#world;
    for (const machine of machines) {
      const failure = machine.failures.shift();
      if (failure !== undefined) this.fail("crash", `the agent of ${machine.name} ended with ${failure}`);
    }
    if (isolate !== this.#isolate) {
      this.#isolate = isolate;
      if (isolate !== null) this.#presence.serves();
    }
    if (database.clockErrorMs !== this.#clockErrorMs) this.#placement.clockJumped();
    this.#clockErrorMs = database.clockErrorMs;
    if (isolate !== null && isolate.process.parked !== null) this.#presence.standsStill();
    else this.#presence.goesOn();
    // What a clone runs is nobody's promise, but it serves.
    for (; this.#clones < clones.length; this.#clones++)
      clones[this.#clones]!.engine.onChange = (container) => this.#health.moved(container);
    if (this.#findings.nowMs < this.#lookMs) return;
    this.#lookMs = this.#findings.nowMs + LOOK_EVERY_MS;
    this.#containers.look();
    this.#restarts.look();
    this.#rest.look();
    if (this.#mendedMs === null || this.#findings.nowMs < this.#mendedMs + CONVERGES_WITHIN_MS) return;
    this.#mendedMs = null;
    this.#rest.checkRunning();
  }

  /** After faults have stopped and everything had its time. */
  checkConverged(): void {
    this.#rest.checkRunning();
    this.#rest.checkRollbacks();
    this.#rest.checkBounds();
    this.#rest.checkSecrets();
    this.#commits.checkChain();
  }

  get revision(): number {
    return this.#rows.cluster.rev;
  }
}
