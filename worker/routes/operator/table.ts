/** Every route of the operator API: what the app serves, the OpenAPI document lists and the authorization tests walk. */
import { appRoutes } from "./apps.ts";
import { auditRoutes } from "./audit.ts";
import { clusterRoutes } from "./cluster.ts";
import { deploymentRoutes } from "./deployments.ts";
import { eventRoutes } from "./events.ts";
import { joinTokenRoutes } from "./join-tokens.ts";
import { logRoutes } from "./logs.ts";
import { namespaceRoutes } from "./namespaces.ts";
import { nodeRoutes } from "./nodes.ts";
import { registryRoutes } from "./registries.ts";
import { replicaRoutes } from "./replicas.ts";
import type { Route } from "./route.ts";
import { siteRoutes } from "./sites.ts";
import { tokenRoutes } from "./tokens.ts";

export const ROUTES: readonly Route[] = [
  ...clusterRoutes,
  ...namespaceRoutes,
  ...siteRoutes,
  ...nodeRoutes,
  ...joinTokenRoutes,
  ...tokenRoutes,
  ...registryRoutes,
  ...appRoutes,
  ...logRoutes,
  ...replicaRoutes,
  ...deploymentRoutes,
  ...eventRoutes,
  ...auditRoutes,
];
