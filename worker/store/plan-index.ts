/** What applying a plan looks up in the snapshot that the plan was made from. */
import type { Change, ClusterPlan } from "../../shared/plan/change.ts";
import type { AppState, ClusterSnapshot, NodeState, ServiceState } from "../../shared/plan/snapshot.ts";
import { assert } from "./assert.ts";

export interface ReplicaPlace {
  readonly appId: string;
  readonly service: string;
  readonly slot: string;
  /** Rev of its row, to guard on. */
  readonly rev: number;
}

const UNKNOWN: ReplicaPlace = { appId: "", service: "", slot: "", rev: 0 };

export class PlanIndex {
  readonly nodes: ReadonlyMap<string, NodeState>;
  readonly apps: ReadonlyMap<string, AppState>;
  readonly #services: ReadonlyMap<string, ServiceState>;
  readonly #deployments: ReadonlyMap<string, number>;
  readonly #replicas: ReadonlyMap<string, ReplicaPlace>;
  readonly #darkNodes: ReadonlyMap<string, readonly string[]>;

  constructor(snapshot: ClusterSnapshot, plan: ClusterPlan) {
    this.nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
    this.apps = new Map(snapshot.apps.map((app) => [app.id, app]));
    this.#services = new Map(snapshot.services.map((service) => [`${service.appId} ${service.name}`, service]));
    this.#deployments = new Map(snapshot.deployments.map(({ id, rev }) => [id, rev]));
    this.#replicas = replicasOf(snapshot, plan.changes);
    this.#darkNodes = darkNodesOf(snapshot, plan.changes);
  }

  /** Of a change that names it: a plan changes only apps of its snapshot. */
  app(appId: string): AppState {
    const app = this.apps.get(appId);
    assert(app, `app ${appId} of a plan is not in its snapshot`);
    return app;
  }

  service(appId: string, name: string): ServiceState | undefined {
    return this.#services.get(`${appId} ${name}`);
  }

  deploymentRev(id: string): number | undefined {
    return this.#deployments.get(id);
  }

  /** Lost nodes that hold the slot of a replica that is placed because they are lost. */
  darkNodes({ appId, service, slot }: Slot): readonly string[] {
    return this.#darkNodes.get(slotKey(appId, service, slot)) ?? [];
  }

  /** Of a replica that the plan stops or ends. */
  replica(id: string): ReplicaPlace {
    return this.#replicas.get(id) ?? UNKNOWN;
  }
}

type Slot = Pick<Extract<Change, { readonly kind: "assign" }>, "appId" | "service" | "slot">;
const slotKey = (appId: string, service: string, slot: string): string => `${appId} ${service} ${slot}`;

/** One pass over the columns, and only when a node is lost. */
function darkNodesOf({ replicas, services, nodes }: ClusterSnapshot, changes: readonly Change[]): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const change of changes)
    if (change.kind === "assign" && change.reason === "nodeLost") found.set(slotKey(change.appId, change.service, change.slot), []);
  if (found.size === 0) return found;
  for (let row = 0; row < replicas.length; row++) {
    const node = nodes[replicas.node[row]!];
    const service = services[replicas.service[row]!];
    if (node?.status !== "lost" || service === undefined || replicas.run[row] === 0) continue;
    found.get(slotKey(service.appId, service.name, replicas.slot[row]!))?.push(node.id);
  }
  return found;
}

/** One pass over the columns, and only when something is stopped: most plans only assign. */
function replicasOf({ replicas, services }: ClusterSnapshot, changes: readonly Change[]): ReadonlyMap<string, ReplicaPlace> {
  const wanted = new Set<string>();
  for (const change of changes) if (change.kind === "stop" || change.kind === "end") wanted.add(change.replica);
  const places = new Map<string, ReplicaPlace>();
  if (wanted.size === 0) return places;
  for (let row = 0; row < replicas.length && places.size < wanted.size; row++) {
    const id = replicas.id[row]!;
    if (!wanted.has(id)) continue;
    const service = services[replicas.service[row]!];
    places.set(id, { appId: service?.appId ?? "", service: service?.name ?? "", slot: replicas.slot[row]!, rev: replicas.rev[row]! });
  }
  return places;
}
