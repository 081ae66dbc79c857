import { counted } from "../../../shared/text/counted.ts";
import { z } from "zod";
import { Node, NodeName, NodePatch, Removed } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import { NOW, type NewEvent, type Row, type RowChange } from "../../store/commit-types.ts";
import { type NodeDetail, type NodeView, readNode, readNodeNames, readNodes } from "../../store/read-nodes.ts";
import { patchLabels } from "./labels.ts";
import { list, mutation, read, type Route } from "./route.ts";

const tag = "Nodes";
const params = { node: Name };
const noNode = (node: string) => new BerthError("not_found", `there is no node ${node}`, { reason: "node" });

function toNode({ node, report, replicas, reserved }: NodeView, at: { readonly nowMs: number; readonly seenAgoMs: number | null }) {
  const { id, name, site, taints, admission, availability, status, quarantined, facts, generation } = node;
  return {
    id,
    name,
    site,
    labels: node.labels,
    taints,
    admission,
    availability,
    status,
    statusSince: isoTime(node.statusMs),
    quarantined,
    lastSeen: isoTimeOrNull(at.seenAgoMs === null ? null : at.nowMs - at.seenAgoMs),
    facts,
    engine:
      report === null
        ? { reported: false, reachable: false, message: "it has not reported yet" }
        : { reported: true, reachable: report.engineReachable, message: report.engineMessage },
    reserved,
    replicas,
    generation,
    acceptedGeneration: report?.generation ?? 0,
    enrolled: isoTime(node.enrolledMs),
  };
}

const withPresence = (context: Context, view: NodeView, nowMs: number) =>
  toNode(view, { nowMs, seenAgoMs: context.shard.lastSeenAgoMs(view.node.id) });

export const nodeRoutes: readonly Route[] = [
  list({
    path: "/v1/nodes",
    tag,
    summary: "Nodes; a token of one namespace sees names and sites only",
    role: "viewer",
    scope: "any",
    item: z.union([Node, NodeName]),
    load: async ({ context, principal }) => {
      if (principal.namespace !== null) {
        const { marks, nodes } = await readNodeNames(context.store);
        return { marks, items: nodes };
      }
      const { marks, nodes } = await readNodes(context.store);
      return { marks, items: nodes.map((view) => withPresence(context, view, marks.nowMs)) };
    },
  }),
  read({
    path: "/v1/nodes/{node}",
    tag,
    summary: "One node, by id or name",
    role: "viewer",
    scope: "any",
    params,
    answer: z.union([Node, NodeName]),
    read: async ({ context, principal, params: { node } }) => {
      const { marks, view } = await readNode(context.store, node);
      if (view === null) throw noNode(node);
      if (principal.namespace !== null) return { name: view.node.name, site: view.node.site };
      return withPresence(context, view, marks.nowMs);
    },
  }),
  mutation({
    method: "patch",
    path: "/v1/nodes/{node}",
    tag,
    summary: "Label, taint, cordon, approve or reissue a node",
    role: "admin",
    scope: "cluster",
    params,
    body: NodePatch,
    answer: Node,
    verb: "patch",
    draft: async ({ context, params: { node: name }, body }) => {
      const { marks, view } = await readNode(context.store, name);
      if (view === null) throw noNode(name);
      const { node } = view;
      const { set, words } = patched(node, body);
      return {
        marks,
        guards: [{ table: "nodes", key: { id: node.id }, rev: node.rev }],
        changes: words.length === 0 ? [] : [{ op: "update", table: "nodes", rows: [{ id: node.id, ...set }] }],
        events: words.length === 0 ? [] : [nodeEvent(node, "changed", `${node.name}: ${words.join(", ")}`)],
        audit: { namespace: null, object: `node/${node.id}`, detail: words.join(", ") },
        answer: withPresence(context, { ...view, node: { ...node, ...set } }, marks.nowMs),
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/nodes/{node}",
    tag,
    summary: "Remove a node: its work goes to others, its key is worth nothing any more",
    role: "admin",
    scope: "cluster",
    params,
    query: { force: z.enum(["true", "false"]).default("false") },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params: { node: name }, query }) => {
      const detail = await readNode(context.store, name);
      if (detail.view === null) throw noNode(name);
      const { node } = detail.view;
      if (query.force !== "true") refuseLoss(node, detail);
      return {
        marks: detail.marks,
        guards: [{ table: "nodes", key: { id: node.id }, rev: node.rev }],
        changes: removal(node, detail),
        events: [nodeEvent(node, "removed", `${node.name} was removed`)],
        audit: {
          namespace: null,
          object: `node/${node.id}`,
          detail: `${node.name}, ${counted(detail.view.replicas, "replica")}, ${counted(detail.volumes.length, "volume")}`,
        },
        answer: { removed: node.id, notes: removalNotes(detail.view, detail) },
      };
    },
  }),
];

const nodeEvent = (node: Row<"nodes">, type: string, message: string): NewEvent => ({
  namespace: null,
  objectKind: "node",
  objectId: node.id,
  app: null,
  type,
  level: "info",
  message,
});

/** The columns to set and what to say of them; no words: nothing changes. */
function patched(node: Row<"nodes">, body: NodePatch) {
  const words: string[] = [];
  const set: Partial<Pick<Row<"nodes">, "labels" | "taints" | "availability" | "admission" | "quarantined" | "instanceChangesMs">> = {};
  if (body.labels !== undefined) {
    const patch = patchLabels(node.labels, body.labels);
    if (patch.words.length > 0) set.labels = patch.labels;
    words.push(...patch.words);
  }
  if (body.addTaints !== undefined || body.removeTaints !== undefined) {
    const taints = new Map(node.taints.map((taint) => [taint.key, taint]));
    for (const key of body.removeTaints ?? []) if (taints.delete(key)) words.push(`taint ${key} removed`);
    for (const taint of body.addTaints ?? []) {
      if (taints.get(taint.key)?.value === taint.value) continue;
      taints.set(taint.key, taint);
      words.push(`taint ${taint.key}${taint.value === "" ? "" : `=${taint.value}`}`);
    }
    if (taints.size > TAINTS_MAX)
      throw new BerthError("refused", `that would be ${taints.size} taints; at most ${TAINTS_MAX} are kept`, { reason: "taints" });
    set.taints = [...taints.values()];
  }
  if (body.availability !== undefined && body.availability !== node.availability) {
    set.availability = body.availability;
    words.push(body.availability);
  }
  if (body.admission !== undefined && body.admission !== node.admission) {
    set.admission = body.admission;
    words.push("approved");
  }
  if (body.reissue === true && node.quarantined) {
    set.quarantined = false;
    set.instanceChangesMs = [];
    words.push("quarantine lifted");
  }
  return { set, words };
}

const TAINTS_MAX = 32;

function refuseLoss(node: Row<"nodes">, { volumes }: NodeDetail): void {
  const force = "add ?force=true (berth node rm --force)";
  if (node.status === "ready")
    throw new BerthError("refused", `${node.name} is ready and working; cordon it and stop its agent first, or ${force}`, {
      reason: "ready",
    });
  if (volumes.length > 0)
    throw new BerthError(
      "refused",
      `${node.name} holds ${counted(volumes.length, "volume")} that ${volumes.length === 1 ? "exists" : "exist"} nowhere else (${volumeNames(volumes)}); to give them up, ${force}`,
      { reason: "volumes" },
    );
}

const volumeNames = (volumes: NodeDetail["volumes"]): string => {
  const names = volumes
    .slice(0, 10)
    .map(({ namespace, app, service, slot, volume }) => `${volume} of ${namespace}/${app} ${service} ${slot}`);
  return volumes.length > names.length ? `${names.join(", ")} and ${volumes.length - names.length} more` : names.join(", ");
};

/** Its replicas are ended by the planner, which sees that their node is gone; all else that hangs on it goes here. */
function removal(node: Row<"nodes">, { volumes, drops }: NodeDetail): RowChange[] {
  const changes: RowChange[] = [
    { op: "delete", table: "nodes", keys: [{ id: node.id }] },
    { op: "delete", table: "nodeReports", keys: [{ nodeId: node.id }] },
    {
      op: "insert",
      table: "removedNodes",
      rows: [{ thumbprint: node.thumbprint, id: node.id, name: node.name, removedMs: NOW }],
      onConflict: "replace",
    },
  ];
  if (volumes.length > 0)
    changes.push({
      op: "delete",
      table: "volumes",
      keys: volumes.map(({ namespace, app, service, slot, volume }) => ({ namespace, app, service, slot, volume })),
    });
  if (drops.length > 0)
    changes.push({ op: "delete", table: "volumeDrops", keys: drops.map(({ nodeId, engineName }) => ({ nodeId, engineName })) });
  return changes;
}

function removalNotes(view: NodeView, { volumes }: NodeDetail): string[] {
  const notes: string[] = [];
  if (view.replicas > 0)
    notes.push(
      `${counted(view.replicas, "replica was", "replicas were")} on it; ${view.replicas === 1 ? "its slot is" : "their slots are"} placed on other nodes`,
    );
  if (volumes.length > 0) notes.push(`volumes on it are given up, their slots start with empty ones: ${volumeNames(volumes)}`);
  if (view.node.status !== "ready")
    notes.push("berth could not tell its agent; if the machine comes back, its containers run until the agent hears that it was removed");
  return notes;
}
