/**
 * Keeps a report within what the control plane takes in one request. What there is no room for is told by the reports
 * that follow, so it stays unacknowledged.
 */
import { ReplicaFact, TERMINAL_STATES } from "../../shared/wire/report.ts";

/**
 * Of BODY_BYTES_MAX = 1,000,000 in the control plane, which also bounds others' requests. A fact without its details is at
 * most 700 bytes (its reason, 64 characters of 3 bytes, its container's id and numbers of 16 digits), so 1,000 of them,
 * all that a node is given, take 700,000.
 */
export const REPORT_BYTES_MAX = 900_000;

/** Bytes that are still free in a report. */
export class Room {
  #bytes: number;

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** False, and nothing is taken, where there is no room. */
  take(bytes: number): boolean {
    if (bytes > this.#bytes) return false;
    this.#bytes -= bytes;
    return true;
  }

  takes(value: unknown): boolean {
    return this.take(sizeOf(value));
  }
}

/** With the comma that follows it. */
const sizeOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value)) + 1;

const withoutDetails = (fact: ReplicaFact): ReplicaFact => ({ ...fact, message: "", ports: [], logTail: [] });

/**
 * As the control plane would take it. A report with one fact that breaks the schema is refused whole, and with it all else
 * that the node says: such a fact goes without what an engine or a workload can make too long.
 */
const sound = (fact: ReplicaFact): ReplicaFact => (ReplicaFact.safeParse(fact).success ? fact : withoutDetails(fact));

export interface Fitted {
  readonly facts: readonly ReplicaFact[];
  /** Replicas that are not told of in full. */
  readonly left: ReadonlySet<string>;
}

/**
 * All facts, the details of the oldest left out where they would not fit. Those that have ended keep theirs first: an end
 * that was told is final, so its log lines are told with it or never. Null: there is no room for so many facts.
 */
export function fitAll(facts: readonly ReplicaFact[], room: Room): Fitted | null {
  const fitted = facts.map(withoutDetails);
  const sizes = fitted.map(sizeOf);
  if (!room.take(sizes.reduce((sum, size) => sum + size, 0))) return null;
  const left = new Set<string>();
  const order = facts.map((fact, index) => ({ fact, index, isOver: TERMINAL_STATES.has(fact.state) }));
  order.sort((a, b) => Number(b.isOver) - Number(a.isOver) || a.fact.ageMs - b.fact.ageMs);
  for (const { fact, index } of order) {
    // The first that does not fit ends it: a report is not filled up with what is older.
    if (left.size === 0 && room.take(sizeOf(fact) - sizes[index]!)) fitted[index] = sound(fact);
    else left.add(fact.replica);
  }
  return { facts: fitted, left };
}

/** The first facts, as many as fit, each in full. */
export function fitSome(facts: readonly ReplicaFact[], room: Room): Fitted {
  const end = facts.findIndex((fact) => !room.takes(fact));
  if (end === -1) return { facts: facts.map(sound), left: new Set() };
  return { facts: facts.slice(0, end).map(sound), left: new Set(facts.slice(end).map(({ replica }) => replica)) };
}
