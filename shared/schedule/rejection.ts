/** Why nodes were passed over, in the order of PLACEMENT_FILTERS and in sentences with numbers. */
import { phrase } from "../model/constraint.ts";
import type { PlacementFilter } from "../plan/explanation.ts";
import type { HostPort, ServiceState } from "../plan/snapshot.ts";
import { andInto, andNotInto, type Bits, bitsFor, countBits, hasBit, setBit } from "./bits.ts";
import { type Demand, NODE_REPLICAS_MAX } from "./fleet.ts";
import type { SeekSpace } from "./seeker.ts";

export interface Rejection {
  readonly filter: PlacementFilter;
  readonly nodes: number;
  readonly message: string;
}

export interface Survey {
  readonly nodes: number;
  readonly feasible: number;
  readonly rejected: Rejection[];
}

/** The one node a slot is tied to. */
export interface Tie {
  readonly rank: number;
  readonly filter: "volume" | "colocate";
}

interface Test {
  readonly filter: PlacementFilter;
  /** Nodes that pass; null: all do. */
  readonly passing: Bits | null;
  /** After "3 of 5 nodes ": plural, and singular where it differs. */
  readonly plural: string;
  readonly singular?: string;
}

/** Counts every node once, at the first filter that rejects it. `space.perNode` has to hold this service's counts. */
export function surveyNodes(
  space: SeekSpace,
  service: ServiceState,
  demand: Demand,
  tie: Tie | null,
  reserved: Bits | null = null,
): Survey {
  const total = space.fleet.count;
  const left = space.everywhere.slice();
  const rejected: Rejection[] = [];
  let remaining = total;
  for (const { filter, passing, plural, singular } of tests(space, service, demand, tie, reserved)) {
    if (remaining === 0) break;
    if (passing === null) continue;
    andInto(left, passing);
    const after = countBits(left);
    const nodes = remaining - after;
    remaining = after;
    if (nodes > 0)
      rejected.push({
        filter,
        nodes,
        message: `${nodes} of ${total} ${total === 1 ? "node" : "nodes"} ${nodes === 1 ? (singular ?? plural) : plural}`,
      });
  }
  return { nodes: total, feasible: remaining, rejected };
}

/** First filter that rejects this node, with what is wrong in the singular ("lacks 512 MiB of memory"); null: it fits. */
export function refusalOf(
  space: SeekSpace,
  service: ServiceState,
  demand: Demand,
  rank: number,
): { filter: PlacementFilter; fault: string } | null {
  for (const { filter, passing, plural, singular } of tests(space, service, demand, null, null)) {
    if (passing !== null && !hasBit(passing, rank)) return { filter, fault: singular ?? plural };
  }
  return null;
}

/** One sentence for a slot that fits nowhere. */
export function summary({ nodes, rejected }: Survey): string {
  if (nodes === 0) return "the cluster has no nodes";
  const [first, ...others] = [...rejected].sort((a, b) => b.nodes - a.nodes);
  if (!first) return "a node fits, but not beside what this plan places there";
  return [first.message, ...others.map((other) => other.message.replace(/ of \d+ nodes?/, ""))].join(", ");
}

function* tests(space: SeekSpace, service: ServiceState, demand: Demand, tie: Tie | null, reserved: Bits | null): Iterable<Test> {
  const { fleet, feasibility } = space;
  const { constraints, tolerations, maxPerNode, volumes } = service.planning;
  const tied = (filter: Tie["filter"]) => (tie?.filter === filter ? only(fleet.count, tie.rank) : null);
  const home = tie ? fleet.nodes[tie.rank]!.name : "";
  yield { filter: "ready", passing: fleet.ready, plural: "are not ready", singular: "is not ready" };
  yield { filter: "active", passing: fleet.active, plural: "are cordoned", singular: "is cordoned" };
  yield { filter: "admitted", passing: fleet.admitted, plural: "are quarantined", singular: "is quarantined" };
  yield {
    filter: "engine",
    passing: fleet.engine,
    plural: "do not reach their container engine",
    singular: "does not reach its container engine",
  };
  yield {
    filter: "volume",
    passing: tied("volume"),
    plural: `are not ${home}, which holds its volume`,
    singular: `is not ${home}, which holds its volume`,
  };
  const dropping = fleet.dropping(volumes);
  if (dropping) {
    const clear = space.everywhere.slice();
    andNotInto(clear, dropping);
    yield {
      filter: "volume",
      passing: clear,
      plural: "have yet to delete its volume as an earlier app left it",
      singular: "has yet to delete its volume as an earlier app left it",
    };
  }
  if (reserved) {
    const others = space.everywhere.slice();
    andNotInto(others, reserved);
    yield {
      filter: "volume",
      passing: others,
      plural: "are kept for its other slots, whose data they hold",
      singular: "is kept for another slot of it, whose data it holds",
    };
  }
  yield {
    filter: "taint",
    passing: feasibility.tolerating(tolerations),
    plural: "have a taint that it does not tolerate",
    singular: "has a taint that it does not tolerate",
  };
  const words = constraints.map(phrase).join(" and ");
  yield {
    filter: "constraint",
    passing: constraints.length === 0 ? null : feasibility.satisfying(constraints),
    plural: `do not satisfy ${words}`,
    singular: `does not satisfy ${words}`,
  };
  yield {
    filter: "colocate",
    passing: tied("colocate"),
    plural: `are not ${home}, where the app's other services run`,
    singular: `is not ${home}, where the app's other services run`,
  };
  if (maxPerNode !== null && service.mode !== "global") {
    const full = where(fleet.count, (rank) => space.perNode[rank]! < maxPerNode);
    yield {
      filter: "maxPerNode",
      passing: full,
      plural: `already run ${maxPerNode} of it, the most allowed on a node`,
      singular: `already runs ${maxPerNode} of it, the most allowed on a node`,
    };
  }
  const taken = fleet.portsTaken(demand.hostPorts);
  if (taken) {
    const free = space.everywhere.slice();
    andNotInto(free, taken);
    const ports = demand.hostPorts.map(portWords).join(" or ");
    yield { filter: "hostPort", passing: free, plural: `have host port ${ports} taken`, singular: `has host port ${ports} taken` };
  }
  for (const [kind, wanted] of demand.devices) {
    yield {
      filter: "device",
      passing: where(fleet.count, (rank) => fleet.devicesFree(rank, kind) >= wanted),
      plural: `lack ${wanted} ${kind}`,
      singular: `lacks ${wanted} ${kind}`,
    };
  }
  yield {
    filter: "replicas",
    passing: where(fleet.count, (rank) => fleet.replicasFree[rank]! >= demand.replicas),
    plural: `have no place left for ${demand.replicas} more among the ${NODE_REPLICAS_MAX} replicas that a node is given`,
    singular: `has no place left for ${demand.replicas} more among the ${NODE_REPLICAS_MAX} replicas that a node is given`,
  };
  yield {
    filter: "cpu",
    passing: where(fleet.count, (rank) => fleet.cpuFree[rank]! >= demand.cpuMillis),
    plural: `lack ${demand.cpuMillis} millicores of cpu`,
    singular: `lacks ${demand.cpuMillis} millicores of cpu`,
  };
  yield {
    filter: "memory",
    passing: where(fleet.count, (rank) => fleet.memoryFree[rank]! >= demand.memoryMiB),
    plural: `lack ${demand.memoryMiB} MiB of memory`,
    singular: `lacks ${demand.memoryMiB} MiB of memory`,
  };
}

const portWords = ({ port, protocol, hostIp }: HostPort) => `${hostIp === "" ? "" : `${hostIp}:`}${port}/${protocol}`;

function only(count: number, rank: number): Bits {
  const bits = bitsFor(count);
  setBit(bits, rank);
  return bits;
}

function where(count: number, test: (rank: number) => boolean): Bits {
  const bits = bitsFor(count);
  for (let rank = 0; rank < count; rank += 1) if (test(rank)) setBit(bits, rank);
  return bits;
}
