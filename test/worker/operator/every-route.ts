/**
 * One sample request for each route, over a world where what it names exists, with what the documentation says of who may
 * send it. Written by hand beside docs/api-routes.md: reading it from the route table would test nothing.
 */
import type { Role } from "../../../shared/api/resources.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { id, replicaRow } from "../../store/rows.ts";
import { appSpec, OTHER, World, type WorldOptions } from "./world.ts";

export interface Sample {
  /** As in the route table. */
  readonly route: string;
  /** Path with everything filled in, for this namespace. */
  readonly path: (namespace: string, ids: Ids) => string;
  readonly least: Role;
  /** own: a token of one namespace reaches what is of that namespace, though the path does not name it. */
  readonly reach: "namespace" | "cluster" | "any" | "own";
  readonly body?: unknown;
  /** What has to be so before it changes anything. */
  readonly after?: { readonly method: string; readonly path: (namespace: string, ids: Ids) => string; readonly body?: unknown };
}

/** Of what a namespace has, by its name. */
export interface Ids {
  readonly deployment: string;
  readonly replica: string;
  readonly revision: number;
  readonly token: string;
  readonly joinToken: string;
}

const spec = appSpec("shop");
const ns = (rest: string) => (namespace: string) => `/v1/namespaces/${namespace}/${rest}`;
const plain = (path: string) => () => path;

/** Words to a deployment that runs. */
const VERBS = ["pause", "resume", "promote", "abort"].map(
  (verb): Sample => ({
    route: `POST /v1/namespaces/{namespace}/deployments/{deployment}/${verb}`,
    path: (namespace, ids) => `/v1/namespaces/${namespace}/deployments/${ids.deployment}/${verb}${verb === "promote" ? "?force=true" : ""}`,
    least: "deployer",
    reach: "namespace",
    ...(verb === "resume"
      ? { after: { method: "POST", path: (namespace, ids) => `/v1/namespaces/${namespace}/deployments/${ids.deployment}/pause` } }
      : {}),
  }),
);
const LOCK = { method: "PUT", path: (namespace: string) => `/v1/namespaces/${namespace}/apps/shop/lock`, body: { message: "the sale" } };

export const SAMPLES: readonly Sample[] = [
  ...VERBS,
  { route: "GET /v1/namespaces/{namespace}/apps/{app}/diff", path: ns("apps/shop/diff"), least: "viewer", reach: "namespace" },
  {
    route: "PUT /v1/namespaces/{namespace}/apps/{app}/lock",
    path: ns("apps/shop/lock"),
    least: "deployer",
    reach: "namespace",
    body: { message: "the sale" },
  },
  {
    route: "DELETE /v1/namespaces/{namespace}/apps/{app}/lock",
    path: ns("apps/shop/lock"),
    least: "deployer",
    reach: "namespace",
    after: LOCK,
  },
  { route: "GET /v1/cluster", path: plain("/v1/cluster"), least: "viewer", reach: "any" },
  { route: "GET /v1/whoami", path: plain("/v1/whoami"), least: "viewer", reach: "any" },
  { route: "GET /v1/namespaces", path: plain("/v1/namespaces"), least: "viewer", reach: "any" },
  { route: "POST /v1/namespaces", path: plain("/v1/namespaces"), least: "admin", reach: "cluster", body: { name: "fresh" } },
  { route: "DELETE /v1/namespaces/{namespace}", path: plain("/v1/namespaces/empty"), least: "admin", reach: "cluster" },
  { route: "GET /v1/sites", path: plain("/v1/sites"), least: "viewer", reach: "cluster" },
  { route: "POST /v1/sites", path: plain("/v1/sites"), least: "admin", reach: "cluster", body: { name: "berlin" } },
  { route: "PATCH /v1/sites/{site}", path: plain("/v1/sites/default"), least: "admin", reach: "cluster", body: { labels: { zone: "a" } } },
  { route: "DELETE /v1/sites/{site}", path: plain("/v1/sites/empty"), least: "admin", reach: "cluster" },
  { route: "GET /v1/nodes", path: plain("/v1/nodes"), least: "viewer", reach: "any" },
  { route: "GET /v1/nodes/{node}", path: plain("/v1/nodes/node-1"), least: "viewer", reach: "any" },
  {
    route: "PATCH /v1/nodes/{node}",
    path: plain("/v1/nodes/node-1"),
    least: "admin",
    reach: "cluster",
    body: { availability: "cordoned" },
  },
  { route: "DELETE /v1/nodes/{node}", path: plain("/v1/nodes/node-1?force=true"), least: "admin", reach: "cluster" },
  { route: "GET /v1/join-tokens", path: plain("/v1/join-tokens"), least: "admin", reach: "cluster" },
  { route: "POST /v1/join-tokens", path: plain("/v1/join-tokens"), least: "admin", reach: "cluster", body: { site: "default" } },
  { route: "DELETE /v1/join-tokens/{joinToken}", path: (_, ids) => `/v1/join-tokens/${ids.joinToken}`, least: "admin", reach: "cluster" },
  { route: "GET /v1/tokens", path: plain("/v1/tokens"), least: "admin", reach: "any" },
  {
    route: "POST /v1/tokens",
    path: plain("/v1/tokens"),
    least: "admin",
    reach: "own",
    body: { name: "ci", role: "deployer", namespace: "default" },
  },
  { route: "DELETE /v1/tokens/{token}", path: (_, ids) => `/v1/tokens/${ids.token}`, least: "admin", reach: "own" },
  { route: "GET /v1/namespaces/{namespace}/registries", path: ns("registries"), least: "deployer", reach: "namespace" },
  {
    route: "PUT /v1/namespaces/{namespace}/registries/{registry}",
    path: ns("registries/other.test"),
    least: "deployer",
    reach: "namespace",
    body: { username: "u", password: "p" },
  },
  {
    route: "DELETE /v1/namespaces/{namespace}/registries/{registry}",
    path: ns("registries/registry.test"),
    least: "deployer",
    reach: "namespace",
  },
  { route: "GET /v1/namespaces/{namespace}/apps", path: ns("apps"), least: "viewer", reach: "namespace" },
  { route: "GET /v1/namespaces/{namespace}/apps/{app}", path: ns("apps/shop"), least: "viewer", reach: "namespace" },
  {
    route: "PUT /v1/namespaces/{namespace}/apps/{app}",
    path: ns("apps/shop"),
    least: "deployer",
    reach: "namespace",
    body: { spec: { ...spec, services: { web: { replicas: 3, workload: { image: "registry.test/web:2" } } } } },
  },
  { route: "DELETE /v1/namespaces/{namespace}/apps/{app}", path: ns("apps/shop"), least: "deployer", reach: "namespace" },
  { route: "GET /v1/namespaces/{namespace}/apps/{app}/revisions", path: ns("apps/shop/revisions"), least: "viewer", reach: "namespace" },
  {
    route: "GET /v1/namespaces/{namespace}/apps/{app}/revisions/{revision}",
    path: (namespace, ids) => `/v1/namespaces/${namespace}/apps/shop/revisions/${ids.revision}`,
    least: "viewer",
    reach: "namespace",
  },
  {
    route: "POST /v1/namespaces/{namespace}/apps/{app}/rollback",
    path: ns("apps/shop/rollback"),
    least: "deployer",
    reach: "namespace",
    body: {},
  },
  {
    route: "PATCH /v1/namespaces/{namespace}/apps/{app}/services/{service}",
    path: ns("apps/shop/services/web"),
    least: "deployer",
    reach: "namespace",
    body: { replicas: 5 },
  },
  { route: "GET /v1/namespaces/{namespace}/apps/{app}/why", path: ns("apps/shop/why"), least: "viewer", reach: "namespace" },
  { route: "GET /v1/namespaces/{namespace}/apps/{app}/logs", path: ns("apps/shop/logs?slot=none"), least: "viewer", reach: "namespace" },
  { route: "GET /v1/namespaces/{namespace}/replicas", path: ns("replicas?ended=true"), least: "viewer", reach: "namespace" },
  {
    route: "GET /v1/namespaces/{namespace}/replicas/{replica}",
    path: (namespace, ids) => `/v1/namespaces/${namespace}/replicas/${ids.replica}`,
    least: "viewer",
    reach: "namespace",
  },
  { route: "GET /v1/namespaces/{namespace}/deployments", path: ns("deployments"), least: "viewer", reach: "namespace" },
  {
    route: "GET /v1/namespaces/{namespace}/deployments/{deployment}",
    path: (namespace, ids) => `/v1/namespaces/${namespace}/deployments/${ids.deployment}`,
    least: "viewer",
    reach: "namespace",
  },
  { route: "GET /v1/namespaces/{namespace}/events", path: ns("events"), least: "viewer", reach: "namespace" },
  { route: "GET /v1/audit", path: plain("/v1/audit"), least: "admin", reach: "cluster" },
  { route: "GET /v1/events", path: plain("/v1/events"), least: "viewer", reach: "any" },
];

export const methodOf = (sample: Sample): string => sample.route.split(" ")[0]!;
export const isMutation = (sample: Sample): boolean => methodOf(sample) !== "GET";

/** The app `shop` twice over (two revisions each), in `default` and in `tenant-b`, with everything a sample names. */
export async function furnishedWorld(options: WorldOptions = {}): Promise<{ world: World; ids: Readonly<Record<string, Ids>> }> {
  const world = await World.start(options);
  await world.node(1);
  await world.plane.commit({
    changes: [
      { op: "insert", table: "namespaces", rows: [{ name: "empty", createdMs: NOW }] },
      { op: "insert", table: "sites", rows: [{ name: "empty", labels: {}, createdMs: NOW }] },
    ],
  });
  const ids: Record<string, Ids> = {};
  for (const [number, namespace] of ["default", OTHER].entries()) ids[namespace] = await furnish(world, namespace, number + 1);
  return { world, ids };
}

async function furnish(world: World, namespace: string, number: number): Promise<Ids> {
  await world.deploy(spec, { namespace });
  const { body } = await world.deploy(
    { ...spec, services: { web: { replicas: 2, workload: { image: "registry.test/web:1" } } } },
    { namespace },
  );
  const registry = await world.call("PUT", `/v1/namespaces/${namespace}/registries/registry.test`, {
    body: { username: "u", password: `secret-of-${namespace}` },
  });
  const joinToken = await world.call<{ id: string }>("POST", "/v1/join-tokens", { body: { site: "default" } });
  const token = await world.call<{ id: string }>("POST", "/v1/tokens", { body: { name: `spare-${namespace}`, role: "viewer", namespace } });
  if (registry.status !== 200 || joinToken.status !== 201 || token.status !== 201)
    throw new Error(`furnishing ${namespace}: ${registry.text} ${joinToken.text} ${token.text}`);
  const app = await world.get<{ id: string }>(`/v1/namespaces/${namespace}/apps/shop`);
  const replica = id("r", number);
  await world.plane.commit({
    changes: [
      {
        op: "insert",
        table: "replicas",
        rows: [replicaRow(number, { appId: app.body.id, slot: "0", revision: body.deployment!.revision })],
      },
      {
        op: "insert",
        table: "endedReplicas",
        rows: [
          {
            id: id("r", 100 + number),
            appId: app.body.id,
            service: "web",
            slot: "0",
            nodeId: id("n", 1),
            revision: 2,
            state: "failed",
            reason: "exited",
            message: `ended in ${namespace}`,
            exitCode: 1,
            logTail: [],
            endedMs: 5,
          },
        ],
      },
    ],
  });
  await world.context.shard.refresh();
  return {
    deployment: body.deployment!.id,
    replica,
    revision: body.deployment!.revision,
    token: token.body.id,
    joinToken: joinToken.body.id,
  };
}
