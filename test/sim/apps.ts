/** The apps that operators of a simulated world ask for, as their clients send them. */
import type { AppSpecInput } from "../../shared/model/app.ts";
import type { Prng } from "./prng.ts";

type ServiceInput = AppSpecInput["services"][string];

export const REGISTRY = "registry.test";
export const HEALTHCHECK: NonNullable<ServiceInput["workload"]["healthcheck"]> = { test: ["CMD", "true"], intervalMs: 1_000, retries: 3 };

/** The label that operators give to some nodes, and that `picky` apps ask for. */
export const DISK_LABEL = "disk";
export const DISK = "ssd";
/** The taint that `web` apps tolerate, and no others. */
export const TAINT = "busy";

export const KINDS = ["web", "web", "port", "data", "everywhere", "pair", "pair", "once", "tries", "tries", "picky", "bold"] as const;
export type AppKind = (typeof KINDS)[number];

/** What an owner of a machine may forbid. */
export const BOLD_WISHES = ["privileged", "capability", "hostNetwork", "bind"] as const;
export type BoldWish = (typeof BOLD_WISHES)[number];

export interface AppShape {
  readonly namespace: string;
  readonly name: string;
  readonly kind: AppKind;
  readonly rollsBack: boolean;
  readonly parallelism: number;
  readonly maxPerNode: number | undefined;
  readonly order: "auto" | "start-first" | "stop-first";
  readonly spreads: boolean;
  readonly wish: BoldWish;
  /** First of its host ports. */
  readonly port: number;
  replicas: number;
  /** The second service of a pair is part of it now. */
  hasBack: boolean;
}

export function newShape(random: Prng, { namespace, name, kind }: Pick<AppShape, "namespace" | "name" | "kind">): AppShape {
  return {
    namespace,
    name,
    kind,
    rollsBack: random.chance(0.5),
    parallelism: random.pick([1, 1, 2, 3]),
    maxPerNode: random.chance(0.3) ? 2 : undefined,
    order: random.pick(["auto", "auto", "start-first", "stop-first"]),
    spreads: random.chance(0.3),
    wish: random.pick(BOLD_WISHES),
    port: 8_000 + random.int(0, 3) * 2,
    replicas: random.int(1, 4),
    hasBack: true,
  };
}

export function specOf(app: AppShape, image: string): AppSpecInput {
  const { name, kind, replicas } = app;
  const update: ServiceInput["update"] = {
    minHealthyMs: 2_000,
    healthyDeadlineMs: 40_000,
    progressDeadlineMs: 40_000,
    failureAction: app.rollsBack ? "rollback" : "pause",
    parallelism: app.parallelism,
  };
  const workload: ServiceInput["workload"] = { image, healthcheck: HEALTHCHECK, stopGraceMs: 3_000 };
  switch (kind) {
    case "web": {
      const placement: ServiceInput["placement"] = {
        tolerations: [{ key: TAINT }],
        strategy: app.spreads ? "spread" : "binpack",
        ...(app.spreads ? { spreadBy: ["node.site"] } : {}),
        ...(app.maxPerNode === undefined ? {} : { maxPerNode: app.maxPerNode }),
      };
      return { name, services: { web: { replicas, workload, placement, update: { ...update, order: app.order } } } };
    }
    case "port": {
      const ports = [...portsOf(app), { target: 82, protocol: "udp" as const }];
      return { name, services: { web: { replicas: 2, workload: { ...workload, ports }, update } } };
    }
    case "data": {
      const mounts = [{ kind: "volume" as const, volume: "data", target: "/data" }];
      return { name, services: { db: { replicas: 1, workload: { ...workload, mounts }, update } }, volumes: { data: {} } };
    }
    // Ends by itself, well or not, and that is that.
    case "once":
      return { name, services: { web: { replicas: 2, workload: { ...workload, restart: { condition: "no" } }, update } } };
    // Started again so often, and then given up. Some hold ports meanwhile, and no longer.
    case "tries": {
      const restart = { condition: "on-failure" as const, attemptsMax: 2, delayMs: 500 };
      const ports = app.rollsBack ? portsOf(app) : [];
      return { name, services: { web: { replicas, workload: { ...workload, restart, ports }, update } } };
    }
    case "everywhere":
      return { name, services: { agent: { mode: "global", workload, update } } };
    case "pair": {
      const front: ServiceInput = { replicas: 2, workload, update };
      if (!app.hasBack) return { name, services: { front } };
      return {
        name,
        services: { front: { ...front, dependsOn: { back: { condition: "healthy" } } }, back: { replicas: 1, workload, update } },
      };
    }
    case "picky": {
      const constraints = [{ key: `node.labels.${DISK_LABEL}`, operator: "=" as const, values: [DISK] }];
      return { name, services: { web: { replicas, workload, placement: { constraints }, update } } };
    }
    case "bold":
      return { name, services: { web: { replicas: 2, workload: { ...workload, ...askFor(app.wish) }, update } } };
  }
}

const portsOf = ({ port }: AppShape) => [
  { target: 80, published: port },
  { target: 81, published: port + 1 },
];

function askFor(wish: BoldWish): Partial<ServiceInput["workload"]> {
  switch (wish) {
    case "privileged":
      return { privileged: true };
    case "capability":
      return { capAdd: ["SYS_ADMIN"] };
    case "hostNetwork":
      return { networkMode: "host" };
    case "bind":
      return { mounts: [{ kind: "bind", source: "/srv", target: "/outside" }] };
  }
}
