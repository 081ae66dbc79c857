/** What nodes have told: in which order it counts, that ends are final, and that what is told of an end is on disk. */
import type { HttpRequest } from "../../../agent/ports.ts";
import { REPLICA_STATES, type ReplicaState, TERMINAL_STATES } from "../../../shared/wire/report.ts";
import type { SimContainer } from "../engine.ts";
import type { Machine } from "../machine.ts";
import type { Findings } from "./findings.ts";
import { readSealed } from "./ledger.ts";
import { REPLICA_LABEL } from "./health.ts";
import type { Batch, ObservationRow, ReplicaRow, Rows } from "./rows.ts";

/** A container that was started longer ago is known to its agent, if the engine answers. */
const SEEN_WITHIN_MS = 5_000;
const isTerminal = (state: string): boolean => TERMINAL_STATES.has(state as ReplicaState);
const rankOf = (state: string): number => REPLICA_STATES.indexOf(state as ReplicaState);

export class Reports {
  readonly #findings: Findings;
  readonly #machineOf: (node: string) => Machine | undefined;
  readonly #rows: Rows;
  /** Machine and replica of each end that was told. */
  readonly #told = new Set<string>();
  /** Ends that have been on a disk: machine, replica and state. */
  readonly #stored = new Set<string>();

  constructor(rows: Rows, findings: Findings, machineOf: (node: string) => Machine | undefined) {
    this.#rows = rows;
    this.#findings = findings;
    this.#machineOf = machineOf;
  }

  check(batch: Batch): void {
    for (const { before, after } of batch.of("observations")) if (before !== null && after !== null) this.#seen(before, after);
    for (const { before, after } of batch.of("node_reports")) {
      if (before === null || after === null) continue;
      this.#findings.expect(
        "I15",
        after.session > before.session || (after.session === before.session && after.seq > before.seq),
        () => `report ${after.session}/${after.seq} of ${after.node_id} was applied after ${before.session}/${before.seq}`,
      );
    }
    const known = new Map(batch.of("observations").map(({ key, before }) => [key, before]));
    for (const { before, after } of batch.of("replicas"))
      if (before !== null && after === null) this.#ended(before, known.get(before.id) ?? null);
  }

  #seen(before: ObservationRow, after: ObservationRow): void {
    const { replica } = after;
    const isLater = after.session > before.session || (after.session === before.session && after.seq >= before.seq);
    this.#findings.expect(
      "I15",
      isLater,
      () => `an older report replaced a newer one of ${replica}: ${before.session}/${before.seq} → ${after.session}/${after.seq}`,
    );
    if (isTerminal(before.state) && after.state !== before.state)
      this.#findings.fail("I17", `replica ${replica} was ${before.state} and is ${after.state}`);
    if (after.session === before.session && rankOf(after.state) < rankOf(before.state))
      this.#findings.fail("I17", `replica ${replica} went back from ${before.state} to ${after.state}`);
  }

  /** Silence never ends a replica: only what its node says, or that its node was removed. */
  #ended(row: ReplicaRow, last: ObservationRow | null): void {
    this.#findings.looks("I17");
    const machine = this.#machineOf(row.node_id);
    if (machine === undefined || machine.wasCloned || (last !== null && isTerminal(last.state))) return;
    // A disk that was rolled back runs again what its agent has told the end of.
    if (this.#told.has(`${machine.name} ${row.id}`) || this.#runs(machine, row.id) === null) return;
    this.#findings.fail("I17", `replica ${row.id} was ended while it runs on ${machine.name} and nobody said that it stopped`);
  }

  /** What a complete report leaves out is not there. */
  #complete(machine: Machine, named: ReadonlySet<string>): void {
    for (const container of machine.engine.containers.values()) {
      const id = container.body.Labels[REPLICA_LABEL];
      if (id === undefined || container.status !== "running" || this.#findings.nowMs - container.startedMs < SEEN_WITHIN_MS) continue;
      this.#findings.expect(
        "I17",
        named.has(id) || !this.#isAssigned(machine, id),
        () => `${machine.name} tells of all that it runs, and not of ${container.name}, which runs`,
      );
    }
  }

  /** An agent that tells of an end would tell the same if it were killed now. */
  sent(machine: Machine, { url, body }: HttpRequest): void {
    if (body === undefined || !url.endsWith("/agent/v1/report")) return;
    const report = JSON.parse(body) as {
      readonly complete: boolean;
      readonly replicas: readonly { readonly replica: string; readonly state: string; readonly containerId?: string }[];
    };
    if (report.complete) this.#complete(machine, new Set(report.replicas.map(({ replica }) => replica)));
    for (const { replica, state, containerId } of report.replicas) {
      const stranger = machine.engine.strangers.get(containerId ?? "");
      this.#findings.expect(
        "I5",
        stranger === undefined,
        () => `${machine.name} tells of ${stranger?.name} as of ${replica}, and it is not berth's`,
      );
      if (!isTerminal(state)) continue;
      this.#told.add(`${machine.name} ${replica}`);
      const runs = this.#runs(machine, replica);
      this.#findings.expect("I17", runs === null, () => `${machine.name} tells that ${replica} is ${state} while ${runs?.name} runs`);
      // What was acknowledged is forgotten, and may be told once more by a report that was under way.
      if (this.#stored.has(`${machine.name} ${replica} ${state}`)) continue;
      const record = recordOf(machine, `replicas/${replica}.json`);
      this.#findings.expect(
        "I17",
        record?.state === state,
        () => `${machine.name} tells that ${replica} is ${state}, and its disk says ${record?.state ?? "nothing of it"}`,
      );
    }
  }

  /** Its container, if that runs. */
  #runs(machine: Machine, replica: string): SimContainer | null {
    for (const container of machine.engine.containers.values())
      if (container.body.Labels[REPLICA_LABEL] === replica && container.status === "running") return container;
    return null;
  }

  /** A file of an agent's ledger was written. */
  written(machine: Machine, path: string): void {
    const record = path.startsWith("replicas/") ? recordOf(machine, path) : null;
    if (record !== null && isTerminal(record.state)) this.#stored.add(`${machine.name} ${record.ref.replica} ${record.state}`);
  }

  #isAssigned(machine: Machine, replica: string): boolean {
    const row = this.#rows.get("replicas", replica);
    return row !== undefined && this.#machineOf(row.node_id) === machine;
  }
}

const recordOf = (machine: Machine, path: string) =>
  readSealed(machine, path) as { readonly state: string; readonly ref: { readonly replica: string } } | null;
