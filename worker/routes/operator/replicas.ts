import { z } from "zod";
import { Replica } from "../../../shared/api/resources.ts";
import { Name, ReplicaId } from "../../../shared/model/name.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import { type EndedReplica, type LiveReplica, readReplicas } from "../../store/read-replicas.ts";
import { requireNamespace } from "./deployments.ts";
import { list, read, type Route } from "./route.ts";

const tag = "Replicas";

function toNodePart(nodeId: string, node: LiveReplica["node"]) {
  if (node === null) return { id: nodeId, name: nodeId, site: "", status: "removed" as const, addresses: [] };
  return { id: node.id, name: node.name, site: node.site, status: node.status, addresses: node.facts.addresses };
}

function toReplica({ app, replica, observation, node }: LiveReplica, namespace: string) {
  const { id, service, slot, revision, desired } = replica;
  return {
    id,
    namespace,
    app,
    service,
    slot,
    node: toNodePart(replica.nodeId, node),
    revision,
    desired,
    state: observation?.state ?? "assigned",
    // Until its node has said something, what is known is why the planner put it there.
    reason: observation?.reason ?? replica.reason,
    message: observation?.message ?? "",
    health: observation?.health ?? "none",
    readySince: isoTimeOrNull(observation?.readySinceMs ?? null),
    restarts: observation?.restarts ?? 0,
    exitCode: observation?.exitCode ?? null,
    oomKilled: observation?.oomKilled ?? false,
    ports: observation?.ports ?? [],
    pull: observation?.pull ?? null,
    logTail: observation?.logTail ?? [],
    containerId: observation?.containerId ?? null,
    assigned: isoTime(replica.assignedMs),
    ended: null,
    asOf: isoTimeOrNull(observation?.asOfMs ?? null),
  };
}

function toEnded({ app, ended, node }: EndedReplica, namespace: string) {
  const { id, service, slot, revision, state, reason, message, exitCode, logTail } = ended;
  const at = isoTime(ended.endedMs);
  return {
    id,
    namespace,
    app,
    service,
    slot,
    node: toNodePart(ended.nodeId, node),
    revision,
    desired: "stop",
    state,
    reason,
    message,
    health: "none",
    readySince: null,
    restarts: 0,
    exitCode,
    oomKilled: false,
    ports: [],
    pull: null,
    logTail,
    containerId: null,
    // When it was assigned is not kept; the end is the one time that is known.
    assigned: at,
    ended: at,
    asOf: at,
  };
}

export const replicaRoutes: readonly Route[] = [
  list({
    path: "/v1/namespaces/{namespace}/replicas",
    tag,
    summary: "Replicas: where each is and how it is; with `ended=true` also the last ten of each slot that have ended",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name },
    query: { app: Name.optional(), service: Name.optional(), ended: z.enum(["true", "false"]).default("false") },
    item: Replica,
    load: async ({ context, params: { namespace }, query: { app, service, ended: withEnded } }) => {
      await requireNamespace(context, namespace);
      const { marks, live, ended } = await readReplicas(context.store, { namespace, app, service }, withEnded === "true");
      return { marks, items: [...live.map((row) => toReplica(row, namespace)), ...ended.map((row) => toEnded(row, namespace))] };
    },
  }),
  read({
    path: "/v1/namespaces/{namespace}/replicas/{replica}",
    tag,
    summary: "One replica, ended or not",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name, replica: ReplicaId },
    answer: Replica,
    read: async ({ context, params: { namespace, replica: id } }) => {
      await requireNamespace(context, namespace);
      const { live, ended } = await readReplicas(context.store, { namespace, id }, true);
      if (live[0] !== undefined) return toReplica(live[0], namespace);
      if (ended[0] !== undefined) return toEnded(ended[0], namespace);
      throw new BerthError("not_found", `there is no replica ${id} in namespace ${namespace}`, { reason: "replica" });
    },
  }),
];
