import { z } from "zod";
import { Replica } from "../../../shared/api/resources.ts";
import { Name, ReplicaId } from "../../../shared/model/name.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import { type EndedReplica, type LiveReplica, readReplicas, ReplicaPlace } from "../../store/read-replicas.ts";
import { requireNamespace } from "./deployments.ts";
import { pages, read, type Route } from "./route.ts";

const tag = "Replicas";

function toNodePart(nodeId: string, node: LiveReplica["node"], engineReachable: boolean) {
  if (node === null) return { id: nodeId, name: nodeId, site: "", status: "removed" as const, engineReachable, addresses: [] };
  return { id: node.id, name: node.name, site: node.site, status: node.status, engineReachable, addresses: node.facts.addresses };
}

/** A node that answers reports what changes, so what it said last still holds at its last poll. */
function confirmedMs({ node, observation, engineReachable }: LiveReplica, at: { readonly context: Context; readonly nowMs: number }) {
  if (observation === null) return null;
  const seenAgoMs = node?.status === "ready" && engineReachable === true ? at.context.shard.lastSeenAgoMs(node.id) : null;
  return seenAgoMs === null ? observation.asOfMs : Math.max(observation.asOfMs, at.nowMs - seenAgoMs);
}

function toReplica(row: LiveReplica, at: { readonly namespace: string; readonly context: Context; readonly nowMs: number }) {
  const { app, replica, observation, node, engineReachable } = row;
  const { id, service, slot, revision, desired } = replica;
  return {
    id,
    namespace: at.namespace,
    app,
    service,
    slot,
    // One that has not reported yet is not known to have lost it.
    node: toNodePart(replica.nodeId, node, engineReachable ?? true),
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
    asOf: isoTimeOrNull(confirmedMs(row, at)),
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
    node: toNodePart(ended.nodeId, node, true),
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

/** A page of 1,000 is about 1 MB; ten times that still goes in one answer of a database over HTTP. */
const PAGE_DEFAULT = 1_000;
const PAGE_MAX = 10_000;

export const replicaRoutes: readonly Route[] = [
  pages({
    path: "/v1/namespaces/{namespace}/replicas",
    tag,
    summary: "Replicas: where each is and how it is; with `ended=true` also the last ten of each slot that have ended",
    description: "In pages: ask again with `cursor` set to `next` until that is null.",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name },
    query: { app: Name.optional(), service: Name.optional(), ended: z.enum(["true", "false"]).default("false") },
    item: Replica,
    place: ReplicaPlace,
    pageDefault: PAGE_DEFAULT,
    pageMax: PAGE_MAX,
    load: async ({ context, params: { namespace }, query: { app, service, ended: asked } }, page) => {
      await requireNamespace(context, namespace);
      const found = await readReplicas(context.store, { namespace, app, service }, { ...page, withEnded: asked === "true" });
      const { marks, live, ended, next } = found;
      const at = { namespace, context, nowMs: marks.nowMs };
      return { marks, next, items: [...live.map((row) => toReplica(row, at)), ...ended.map((row) => toEnded(row, namespace))] };
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
      const { live, ended, marks } = await readReplicas(context.store, { namespace, id }, { withEnded: true, limit: 1, after: null });
      if (live[0] !== undefined) return toReplica(live[0], { namespace, context, nowMs: marks.nowMs });
      if (ended[0] !== undefined) return toEnded(ended[0], namespace);
      throw new BerthError("not_found", `there is no replica ${id} in namespace ${namespace}`, { reason: "replica" });
    },
  }),
];
