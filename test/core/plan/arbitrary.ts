/** Random worlds of related data: replicas stand on nodes of their world and run specs of their services. */
import fc from "fast-check";
import type { Constraint } from "../../../shared/model/app.ts";
import { mix32 } from "../../../shared/schedule/hash.ts";
import { REPLICA_STATES } from "../../../shared/wire/report.ts";
import { idOf, nodeId, type ReplicaRow, START_MS, type World, world } from "./world.ts";

const zone = fc.constantFrom("a", "b", "c");
const labels = fc.oneof(fc.constant({}), fc.record({ zone }), fc.record({ zone, size: fc.constantFrom("1", "5", "20") }));

const constraint = fc.oneof<fc.Arbitrary<Constraint>[]>(
  fc.record({
    key: fc.constantFrom("node.labels.zone", "site.labels.zone"),
    operator: fc.constantFrom("=", "!=", "in", "notIn"),
    values: fc.array(zone, { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ key: fc.constant("node.labels.size"), operator: fc.constantFrom("<", ">"), values: fc.constant<string[]>(["5"]) }),
  fc.record({
    key: fc.constantFrom("node.labels.zone", "node.labels.size"),
    operator: fc.constantFrom("exists", "notExists"),
    values: fc.constant([]),
  }),
);

export const nodeOptions = fc.record({
  site: fc.constantFrom("home", "shop"),
  labels,
  taints: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.constant([{ key: "gpu", value: "only" }]) }),
  availability: fc.oneof(
    { weight: 6, arbitrary: fc.constant("active" as const) },
    { weight: 1, arbitrary: fc.constant("cordoned" as const) },
  ),
  status: fc.oneof(
    { weight: 6, arbitrary: fc.constant("ready" as const) },
    { weight: 1, arbitrary: fc.constantFrom("unreachable" as const, "lost" as const) },
  ),
  reported: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  engineReachable: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  quarantined: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  cpuMillis: fc.integer({ min: 200, max: 2000 }),
  memoryMiB: fc.integer({ min: 256, max: 4096 }),
  devices: fc.oneof(
    { weight: 3, arbitrary: fc.constant({}) },
    { weight: 1, arbitrary: fc.record({ gpu: fc.integer({ min: 1, max: 2 }) }) },
  ),
});

const port = fc.record({
  port: fc.constantFrom(80, 443),
  protocol: fc.constant("tcp" as const),
  hostIp: fc.constantFrom("", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1", "::1"),
});

export const serviceOptions = fc.record({
  mode: fc.oneof({ weight: 4, arbitrary: fc.constant("replicated" as const) }, { weight: 1, arbitrary: fc.constant("global" as const) }),
  replicas: fc.integer({ min: 0, max: 6 }),
  image: fc.oneof({ weight: 3, arbitrary: fc.constant("sha256:1") }, { weight: 1, arbitrary: fc.constant("") }),
  removed: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  cpuMillis: fc.integer({ min: 0, max: 300 }),
  memoryMiB: fc.integer({ min: 0, max: 500 }),
  devices: fc.oneof({ weight: 6, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: fc.constant({ gpu: 1 }) }),
  constraints: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(constraint, { maxLength: 2 }) }),
  tolerations: fc.constantFrom([], [{ key: "gpu" }], [{ key: "gpu", value: "other" }]),
  strategy: fc.constantFrom("spread" as const, "binpack" as const),
  spreadBy: fc.constantFrom([], [], ["node.site"], ["node.site", "node.labels.zone"]),
  maxPerNode: fc.constantFrom(null, null, 1, 2),
  hostPorts: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.uniqueArray(port, { minLength: 1, maxLength: 2, selector: (p) => p.port }) },
  ),
  volumes: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.record({ readOnly: fc.boolean() }).map(({ readOnly }) => [{ name: "data", engineName: "berth_x", readOnly }]),
    },
  ),
  colocate: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  order: fc.constantFrom("auto" as const, "start-first" as const, "stop-first" as const),
  parallelism: fc.integer({ min: 1, max: 3 }),
  delayMs: fc.constantFrom(0, 0, 20_000),
  failureAction: fc.constantFrom("pause" as const, "rollback" as const),
});

const rowOptions = fc.record({
  slot: fc.integer({ min: 0, max: 7 }),
  node: fc.nat(),
  outdated: fc.boolean(),
  run: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  state: fc.oneof({ weight: 4, arbitrary: fc.constant("running" as const) }, { weight: 1, arbitrary: fc.constantFrom(...REPLICA_STATES) }),
  readyForMs: fc.option(fc.constantFrom(0, 5_000, 60_000)),
  restarts: fc.nat({ max: 4 }),
  assignedForMs: fc.constantFrom(0, 10_000, 31_000, 400_000),
  attempt: fc.nat({ max: 3 }),
});

const appOptions = fc.record({
  services: fc.array(fc.tuple(serviceOptions, fc.array(rowOptions, { maxLength: 6 })), { minLength: 1, maxLength: 4 }),
  deploying: fc.constantFrom("no", "deploy", "scale", "failed", "scaleOfFailed", "deleting"),
  dependent: fc.boolean(),
});

/** Anything a database could hold, sensible or not. */
export const anyWorld: fc.Arbitrary<World> = fc
  .record({
    nodes: fc.array(nodeOptions, { maxLength: 8 }),
    apps: fc.array(appOptions, { minLength: 1, maxLength: 3 }),
    bound: fc.array(fc.nat(), { maxLength: 4 }),
  })
  .map(({ nodes, apps, bound }) => {
    const made = world().site("shop", { zone: "b" });
    for (const [i, options] of nodes.entries()) made.node(`n${i}`, options);
    apps.forEach(({ services, deploying, dependent }, a) => {
      const app = `app${a}`;
      made.app(app, { revision: 2, deleting: deploying === "deleting" });
      services.forEach(([options, rows], s) => {
        const name = `s${a}${s}`;
        const dependsOn = dependent && s > 0 ? [{ service: `s${a}${s - 1}`, condition: "healthy" as const, required: s % 2 === 0 }] : [];
        made.service(name, {
          ...options,
          spec: `${name}v2`,
          revision: s % 2 === 0 ? 2 : 1,
          dependsOn,
          ...(options.mode === "global" ? { colocate: false, replicas: 0 } : {}),
        });
        for (const [r, row] of rows.entries()) addRow(made, name, { row, number: r, nodes: nodes.length });
      });
      if (deploying === "deploy" || deploying === "scale" || deploying === "scaleOfFailed")
        made.deployment({ kind: deploying === "deploy" ? "deploy" : "scale", fromRevision: 1, startedMs: START_MS - 20_000 });
      if (deploying === "failed" || deploying === "scaleOfFailed") made.failed.push({ appId: made.apps[a]!.id, revision: 2 });
    });
    const withVolumes = made.services.filter((service) => service.planning.volumes.length > 0 && service.mode === "replicated");
    if (withVolumes.length > 0 && nodes.length > 0) {
      const seen = new Set<string>();
      for (const pick of bound) {
        const service = withVolumes[pick % withVolumes.length]!;
        const slot = pick % 3;
        if (pick % 4 === 1) made.drop(`n${pick % nodes.length}`, "berth_x");
        if (seen.has(`${service.name}/${slot}`)) continue;
        seen.add(`${service.name}/${slot}`);
        made.volumes.push({
          namespace: "default",
          app: made.appOf(service.appId).name,
          // Of a service that is gone: what it left is the next one's.
          service: pick % 5 === 0 ? `old-${service.name}` : service.name,
          slot: String(slot),
          volume: "data",
          nodeId: nodeId(pick % 7 === 0 ? "gone" : `n${pick % nodes.length}`),
        });
      }
    }
    return made;
  });

type RowOptions = typeof rowOptions extends fc.Arbitrary<infer T> ? T : never;

function addRow(made: World, service: string, { row, number, nodes }: { row: RowOptions; number: number; nodes: number }): void {
  const node = nodes === 0 || row.node % 11 === 0 ? "gone" : `n${row.node % nodes}`;
  const global = made.serviceOf(service).mode === "global";
  const running = row.state === "running" && row.run;
  const options: Partial<ReplicaRow> = {
    id: idOf("r", `${service}/${number}`),
    run: row.run,
    state: row.state,
    restarts: row.restarts,
    attempt: row.attempt,
    readySinceMs: running && row.readyForMs !== null ? START_MS - row.readyForMs : null,
    assignedMs: START_MS - row.assignedForMs,
    ...(row.outdated ? { spec: `${service}v1`, revision: 1, image: "sha256:0" } : {}),
  };
  made.replica(service, global ? nodeId(node) : row.slot, node, options);
}

/** A shuffle that depends on the seed alone. */
export function shuffler(seed: number): <T>(rows: readonly T[]) => readonly T[] {
  let state = seed;
  const below = (n: number) => {
    state = mix32(state + 0x9e3779b9);
    return state % n;
  };
  return (rows) => {
    const copy = [...rows];
    for (let i = copy.length - 1; i > 0; i -= 1) {
      const j = below(i + 1);
      [copy[i], copy[j]] = [copy[j]!, copy[i]!];
    }
    return copy;
  };
}
