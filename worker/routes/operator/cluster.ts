import { ClusterInfo, WhoAmI } from "../../../shared/api/resources.ts";
import { thumbprint } from "../../keys.ts";
import { isoTime } from "../../stamp.ts";
import { readClusterInfo } from "../../store/read-cluster.ts";
import { VERSION } from "../../version.ts";
import { read, type Route } from "./route.ts";

const tag = "Cluster";

export const clusterRoutes: readonly Route[] = [
  read({
    path: "/v1/cluster",
    tag,
    summary: "The cluster and how much is in it",
    role: "viewer",
    scope: "any",
    answer: ClusterInfo,
    read: async ({ context, principal }) => {
      const { marks, cluster, nodes, apps } = await readClusterInfo(context.store, principal.namespace);
      return {
        clusterId: cluster.clusterId,
        era: cluster.era,
        rev: marks.rev,
        version: VERSION,
        rootThumbprint: await thumbprint(cluster.rootKey),
        now: isoTime(marks.nowMs),
        nodes,
        apps,
      };
    },
  }),
  read({
    path: "/v1/whoami",
    tag,
    summary: "Whose token this is and what it may do",
    role: "viewer",
    scope: "any",
    answer: WhoAmI,
    read: async ({ principal }) => ({
      token: principal.tokenId,
      name: principal.name,
      role: principal.role,
      namespace: principal.namespace,
    }),
  }),
];
