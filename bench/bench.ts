/** What a benchmark is, and how one is measured: five timed runs after one to warm up; the median, and how far they lie apart. */

export interface Line {
  readonly name: string;
  readonly value: number;
  /** What contains "/s" is better when higher, everything else when lower. */
  readonly unit: string;
  readonly goal: number;
  /** Worse than this fails the run. */
  readonly floor?: number;
  /** The same measured on something comparable. */
  readonly peer?: number;
  /** What the machine or the engine allows at best. */
  readonly limit?: number;
  /** (largest − smallest) / median of the runs. */
  readonly spread?: number;
}

export interface Bench {
  /** Matched by `--only` as a prefix. */
  readonly name: string;
  readonly goal: number;
  readonly unit: string;
  run(report: (line: Line) => void): Promise<void>;
}

export const RUNS = 5;

export interface Measured {
  readonly median: number;
  readonly spread: number;
}

/**
 * `once` gives one measurement. It is repeated for WARM_MS first, so that what is timed is compiled code, and each of the
 * five runs is the median of what fits into SAMPLE_MS.
 */
export function measure(once: () => number): Measured {
  sample(once, WARM_MS);
  return measuredOf(Array.from({ length: RUNS }, () => sample(once, SAMPLE_MS)));
}

/** The same of two, in turn: what the machine does besides befalls both. */
export function measurePairs(first: () => number, second: () => number): [Measured, Measured] {
  sample(first, WARM_MS);
  sample(second, WARM_MS);
  const pairs = Array.from({ length: RUNS }, () => [sample(first, SAMPLE_MS), sample(second, SAMPLE_MS)] as const);
  return [measuredOf(pairs.map(([value]) => value)), measuredOf(pairs.map(([, value]) => value))];
}

function measuredOf(values: readonly number[]): Measured {
  const ordered = values.toSorted((a, b) => a - b);
  const median = ordered[ordered.length >> 1]!;
  return { median, spread: median === 0 ? 0 : (ordered.at(-1)! - ordered[0]!) / median };
}

const WARM_MS = 1500;
const SAMPLE_MS = 300;

function sample(once: () => number, forMs: number): number {
  const values: number[] = [];
  for (const startMs = performance.now(); performance.now() - startMs < forMs || values.length === 0; ) values.push(once());
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

/** Milliseconds that `act` takes. */
export function timeMs(act: () => void): number {
  const startMs = performance.now();
  act();
  return performance.now() - startMs;
}

/**
 * Milliseconds of this thread's processor that `act` takes: for work that never waits, where whatever else the machine
 * does should not count.
 */
export function threadMs(act: () => void): number {
  const before = process.threadCpuUsage();
  act();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

export function isAtLeastAsGood(value: number, than: number, unit: string): boolean {
  return unit.includes("/s") ? value >= than : value <= than;
}
