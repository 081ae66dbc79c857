/** The scheduler beside a scan of every node: same filters, same order of merit. Properties numbered as in docs/spec/planner.md. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { admits } from "../../../shared/model/constraint.ts";
import { Feasibility } from "../../../shared/schedule/feasibility.ts";
import { Fleet, LOAD_BUCKETS } from "../../../shared/schedule/fleet.ts";
import { NOWHERE, Seeker, SeekSpace } from "../../../shared/schedule/seeker.ts";
import type { ClusterSnapshot, NodeState, ServiceState } from "../../../shared/plan/snapshot.ts";
import { nodeOptions, serviceOptions } from "../plan/arbitrary.ts";
import { world } from "../plan/world.ts";

const fleets = fc.record({
  nodes: fc.array(nodeOptions, { minLength: 1, maxLength: 70 }),
  services: fc.array(serviceOptions, { minLength: 1, maxLength: 4 }),
  except: fc.nat(),
});

function snapshotOf({ nodes, services }: { nodes: readonly object[]; services: readonly object[] }): ClusterSnapshot {
  const made = world().site("shop", { zone: "b" });
  for (const [i, options] of nodes.entries()) made.node(`n${i}`, options);
  for (const [i, options] of services.entries()) made.service(`s${i}`, { ...options, mode: "replicated", volumes: [], colocate: false });
  return made.snapshot();
}

function attribute(snapshot: ClusterSnapshot, node: NodeState, key: string): string | undefined {
  if (key.startsWith("node.labels.")) return node.labels[key.slice(12)];
  if (key.startsWith("site.labels.")) return snapshot.sites.find(({ name }) => name === node.site)?.labels[key.slice(12)];
  return { "node.site": node.site, "node.name": node.name, "node.arch": node.arch }[key];
}

/** A host that has these addresses and no others. */
const ADDRESSES = ["10.0.0.1", "127.0.0.1", "::1"];
function boundBy(hostIp: string): string[] {
  if (hostIp === "") return ADDRESSES;
  if (hostIp === "0.0.0.0") return ADDRESSES.filter((address) => address.includes("."));
  if (hostIp === "::") return ADDRESSES.filter((address) => address.includes(":"));
  return [hostIp];
}

/** What a node is worth to the next slot, smaller first; null: it may not run there. Kept from the rules, not from the code. */
class Oracle {
  readonly free: Map<string, { cpu: number; memory: number; gpu: number; ports: { port: number; hostIp: string }[] }>;
  readonly own = new Map<string, number>();
  readonly snapshot: ClusterSnapshot;

  constructor(snapshot: ClusterSnapshot) {
    this.snapshot = snapshot;
    this.free = new Map(
      snapshot.nodes.map((node) => [node.id, { cpu: node.cpuMillis, memory: node.memoryMiB, gpu: node.devices.gpu ?? 0, ports: [] }]),
    );
  }

  may(service: ServiceState, node: NodeState): boolean {
    const { planning, reservation } = service;
    const free = this.free.get(node.id)!;
    return (
      node.status === "ready" &&
      node.availability === "active" &&
      !node.quarantined &&
      (node.engineReachable || !node.reported) &&
      node.taints.every((taint) =>
        planning.tolerations.some(({ key, value }) => key === taint.key && (value === undefined || value === taint.value)),
      ) &&
      planning.constraints.every((constraint) => admits(constraint, attribute(this.snapshot, node, constraint.key))) &&
      (this.own.get(node.id) ?? 0) < (planning.maxPerNode ?? Number.POSITIVE_INFINITY) &&
      planning.hostPorts.every((wanted) =>
        free.ports.every(
          (taken) => taken.port !== wanted.port || !boundBy(taken.hostIp).some((address) => boundBy(wanted.hostIp).includes(address)),
        ),
      ) &&
      free.cpu >= reservation.cpuMillis &&
      free.memory >= reservation.memoryMiB &&
      free.gpu >= (reservation.devices.gpu ?? 0)
    );
  }

  bucket(node: NodeState): number {
    const free = this.free.get(node.id)!;
    const load = Math.max(1 - free.cpu * (1 / node.cpuMillis), 1 - free.memory * (1 / node.memoryMiB));
    return Math.min(LOAD_BUCKETS - 1, Math.max(0, Math.floor(load * LOAD_BUCKETS)));
  }

  path(service: ServiceState, node: NodeState): string[] {
    return service.planning.spreadBy.map((_, level) =>
      service.planning.spreadBy
        .slice(0, level + 1)
        .map((key) => attribute(this.snapshot, node, key) ?? "\0")
        .join("/"),
    );
  }

  population(service: ServiceState, level: number, path: string): number {
    return this.snapshot.nodes.reduce(
      (sum, node) => sum + (this.path(service, node)[level] === path ? (this.own.get(node.id) ?? 0) : 0),
      0,
    );
  }

  /** The nodes among which only the tie-break chooses, given the domain that was chosen at each level. */
  best(service: ServiceState, chosen: NodeState | null, except: string): Set<string> {
    let candidates = this.snapshot.nodes.filter((node) => node.id !== except && this.may(service, node));
    service.planning.spreadBy.forEach((_, level) => {
      const least = Math.min(...candidates.map((node) => this.population(service, level, this.path(service, node)[level]!)));
      candidates = candidates.filter((node) => this.population(service, level, this.path(service, node)[level]!) === least);
      if (chosen) candidates = candidates.filter((node) => this.path(service, node)[level] === this.path(service, chosen)[level]);
    });
    const merit = (node: NodeState) =>
      service.planning.strategy === "binpack"
        ? LOAD_BUCKETS - this.bucket(node)
        : (this.own.get(node.id) ?? 0) * LOAD_BUCKETS * 2 + this.bucket(node);
    const least = Math.min(...candidates.map(merit));
    return new Set(candidates.filter((node) => merit(node) === least).map((node) => node.id));
  }

  take(service: ServiceState, node: NodeState): void {
    const free = this.free.get(node.id)!;
    free.cpu -= service.reservation.cpuMillis;
    free.memory -= service.reservation.memoryMiB;
    free.gpu -= service.reservation.devices.gpu ?? 0;
    free.ports.push(...service.planning.hostPorts);
    this.own.set(node.id, (this.own.get(node.id) ?? 0) + 1);
  }
}

describe("seeker", () => {
  test("P10 every slot gets a node that a scan of all nodes would choose, or none fits", () => {
    fc.assert(
      fc.property(fleets, ({ nodes, services, except }) => {
        const snapshot = snapshotOf({ nodes, services });
        const fleet = new Fleet(snapshot);
        const space = new SeekSpace(fleet, new Feasibility(fleet, snapshot));
        const oracle = new Oracle(snapshot);
        for (const service of snapshot.services) {
          oracle.own.clear();
          const seeker = new Seeker(space, { service, demand: Seeker.demandOf(service), present: [] });
          for (let slot = 0; slot < 12; slot += 1) {
            // Every third slot shuns a node, as after a rejection.
            const shunned = slot % 3 === 2 ? except % fleet.count : NOWHERE;
            const rank = seeker.find(String(slot), shunned);
            const node = rank === NOWHERE ? null : fleet.nodes[rank]!;
            const best = oracle.best(service, node, shunned === NOWHERE ? "" : fleet.nodes[shunned]!.id);
            expect(
              node === null ? best.size === 0 : best.has(node.id),
              `${service.name} slot ${slot} on ${node?.name}, best ${[...best]}`,
            ).toBe(true);
            if (node === null) continue;
            seeker.take(rank);
            oracle.take(service, node);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  test("P11 equal nodes get equal numbers, to within one", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 400 }), (nodes, replicas) => {
        const snapshot = world().nodes(nodes, { cpuMillis: 100_000, memoryMiB: 100_000 }).service("web").snapshot();
        const fleet = new Fleet(snapshot);
        const seeker = new Seeker(new SeekSpace(fleet, new Feasibility(fleet, snapshot)), {
          service: snapshot.services[0]!,
          demand: Seeker.demandOf(snapshot.services[0]!),
          present: [],
        });
        for (let slot = 0; slot < replicas; slot += 1) seeker.take(seeker.find(String(slot)));
        const counts = fleet.nodes.map((_, rank) => seeker.replicasOn(rank));
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 50 },
    );
  });

  test("P12 slots of many services that may go anywhere do not gather on one node", () => {
    const made = world().nodes(20, { cpuMillis: 1_000_000, memoryMiB: 1_000_000 });
    for (let i = 0; i < 400; i += 1) made.service(`s${i}`, { cpuMillis: 0, memoryMiB: 0 });
    const snapshot = made.snapshot();
    const fleet = new Fleet(snapshot);
    const space = new SeekSpace(fleet, new Feasibility(fleet, snapshot));
    const counts = new Map<number, number>();
    for (const service of snapshot.services) {
      const rank = new Seeker(space, { service, demand: Seeker.demandOf(service), present: [] }).find("0");
      counts.set(rank, (counts.get(rank) ?? 0) + 1);
    }
    // 20 on average; the hash of (slot, node) alone decides here.
    expect(Math.max(...counts.values())).toBeLessThan(45);
    expect(counts.size).toBe(20);
  });
});
