/** One seed's history: a cluster, work on it, faults, a mending, and the look at what came of it. */
import { type Act, Acts } from "./acts.ts";
import { Checkers, type Violation } from "./checkers.ts";
import { FAULTS, Mischief } from "./faults.ts";
import { hasUnsound } from "./rest-exceptions.ts";
import { Fleet } from "./fleet.ts";
import { settleIn } from "./owners.ts";
import { Workload } from "./workload.ts";
import type { Wire } from "./network.ts";
import { World } from "./world.ts";

const FAULTY_MS = 14 * 60_000;
/** I32: three minutes; and one more in which nothing may move. */
const SETTLE_MS = 5 * 60_000;
const QUIET_MS = 60_000;
/** The others are undisturbed by what else the machine does. */
const REAL_JOSE_EVERY = 100;

export interface Outcome {
  readonly seed: string;
  /** The faults that were asked for; none: any. */
  readonly mix: readonly string[];
  readonly steps: number;
  readonly virtualMs: number;
  readonly digest: string;
  readonly violations: readonly Violation[];
  readonly faults: Readonly<Record<string, number>>;
  readonly looked: Readonly<Record<string, number>>;
  readonly counts: Readonly<Record<string, number>>;
  /** Faults and operators' requests. */
  readonly acts: readonly Act[];
  readonly trace: readonly string[];
}

export interface HistoryOptions {
  readonly seed: string;
  /** Default: all. */
  readonly faults?: readonly string[];
  /** Acts that are done at all. Default: all. */
  readonly only?: readonly string[];
  readonly traceLines?: number;
}

export async function playHistory({ seed, faults, only, traceLines = 0 }: HistoryOptions): Promise<Outcome> {
  const world = new World({ seed, traceLines, ...sizeOf(seed), jose: Number(seed) % REAL_JOSE_EVERY === 0 ? "real" : "stand-in" });
  const checkers = new Checkers(world);
  const acts = new Acts(only);
  const mischief = new Mischief(world, acts);
  const counts: Record<string, number> = {};
  let workload: Workload | null = null;
  let fleet: Fleet | null = null;
  try {
    await world.build();
    checkers.begin();
    settleIn(world);
    workload = new Workload(world, acts);
    fleet = new Fleet(world, acts);
    const endMs = world.nowMs + FAULTY_MS;
    void workload.run(endMs - 60_000, 35_000);
    void fleet.run(endMs - 180_000, 60_000);
    void mischief.run(endMs, 20_000, faults ?? Object.keys(FAULTS));
    await world.kernel.run(endMs);
    await world.play(() => mischief.heal(), 120_000);
    for (const error of mischief.errors) checkers.fail("sim", error);
    checkers.mended();
    await world.kernel.run(world.nowMs + SETTLE_MS);
    const rev = checkers.revision;
    await world.kernel.run(world.nowMs + QUIET_MS);
    checkers.checkConverged();
    checkers.looks("I25");
    if (checkers.revision !== rev && !hasUnsound(world.database, QUIET_MS))
      checkers.fail("I25", `nothing went wrong for ${SETTLE_MS + QUIET_MS} ms and rev still moved from ${rev} to ${checkers.revision}`);
    Object.assign(counts, countsOf(world, workload, fleet));
  } catch (error) {
    checkers.fail("sim", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return {
    seed,
    mix: faults ?? [],
    steps: world.kernel.steps,
    virtualMs: world.nowMs,
    digest: world.kernel.trace.digest(),
    violations: checkers.violations,
    faults: Object.fromEntries(mischief.injected),
    looked: Object.fromEntries(checkers.looked),
    counts,
    acts: acts.done,
    trace: world.kernel.trace.kept(),
  };
}

/** Small clusters are where counts are wrong by one; the larger a cluster, the longer it takes to play. */
const SIZES = [3, 3, 3, 4, 4, 4, 5, 5, 6, 7];

/** Three to seven machines at one to three sites, by the seed. */
function sizeOf(seed: string): { nodes: number; sites: number } {
  let sum = 0;
  for (const character of seed) sum = (sum * 31 + character.charCodeAt(0)) >>> 0;
  return { nodes: SIZES[sum % SIZES.length]!, sites: 1 + (Math.floor(sum / SIZES.length) % 3) };
}

function countsOf(world: World, workload: Workload, fleet: Fleet): Record<string, number> {
  const one = (sql: string): number => Number(world.database.look(sql)[0]?.n ?? 0);
  const onWires = (part: keyof Wire["injected"]): number => world.machines.reduce((sum, { wire }) => sum + wire.injected[part], 0);
  const ended = (state: string): number =>
    one(
      `select (select count(*) from observations where state = '${state}') + (select count(*) from ended_replicas where state = '${state}') as n`,
    );
  const clients = [workload.client, fleet.client];
  return {
    ...workload.done,
    ...fleet.done,
    askedTwice: clients.reduce((sum, { done }) => sum + done.askedTwice, 0),
    unanswered: clients.reduce((sum, { done }) => sum + done.unanswered, 0),
    refused: clients.reduce((sum, { done }) => sum + done.refused, 0),
    replicasCompleted: ended("completed"),
    replicasGivenUp: ended("failed"),
    replicasRejected: ended("rejected"),
    deploymentsSucceeded: one("select count(*) as n from deployments where state = 'succeeded'"),
    rolledBack: one("select count(*) as n from deployments where kind = 'rollback' and created_by = 'berth'"),
    deploymentsFailed: one("select count(*) as n from deployments where state = 'failed'"),
    writesBusy: world.database.injected.busy,
    acknowledgementsLost: world.database.injected.ackLost,
    writesLate: world.database.injected.late,
    writesRefused: world.database.injected.refused,
    streamsLost: world.database.injected.stolen,
    plansLost: world.database.injected.plansLost,
    repliesLost: onWires("replyLoss"),
    postsRepeated: onWires("repeated"),
    cutByProxies: onWires("cutByProxy"),
    webPages: onWires("html"),
    reportsHeld: onWires("held"),
    manifestsRepeated: onWires("manifests"),
    agentsOutdated: onWires("outdated"),
    nodesLost: one("select count(*) as n from events where type = 'lost'"),
    nodesReturned: one("select count(*) as n from events where type = 'ready' and object_kind = 'node'"),
  };
}
