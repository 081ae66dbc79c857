/**
 * Removing an app: from this commit on nothing of it is wanted, and the planner stops its replicas; the row goes when the
 * last is verified gone. Data is lost only where the caller asked for it.
 */
import type { Removed } from "../shared/api/resources.ts";
import { noNamespace } from "./auth.ts";
import type { Context } from "./context.ts";
import { noApp } from "./deploy.ts";
import { supersede } from "./revise.ts";
import type { Guard, NewEvent, RowChange } from "./store/commit-types.ts";
import { bumpGenerations } from "./store/generation.ts";
import { type DeployView, readForDeploy } from "./store/read-apps.ts";
import type { Marks } from "./store/store.ts";

export interface Removal {
  readonly marks: Marks;
  readonly changes: readonly RowChange[];
  readonly guards: readonly Guard[];
  readonly events: readonly NewEvent[];
  readonly audit: { readonly namespace: string; readonly object: string; readonly detail: string };
  readonly answer: Removed;
}

export async function draftRemoval(
  context: Context,
  ask: { readonly namespace: string; readonly app: string; readonly deleteData: boolean; readonly by: string },
): Promise<Removal> {
  const { namespace, app: name, deleteData } = ask;
  const view = await readForDeploy(context.store, ask);
  if (view.namespace === null) throw noNamespace(namespace);
  const { app } = view;
  if (app === null) throw noApp(namespace, name);
  const drops = deleteData ? ownVolumes(view) : [];
  const isNothing = app.deleting && (!deleteData || app.deleteVolumes);
  return {
    marks: view.marks,
    guards: [{ table: "apps", key: { id: app.id }, rev: app.rev }, ...view.deployments.map(({ id, rev }) => ({ table: "deployments" as const, key: { id }, rev }))],
    changes: isNothing ? [] : changesOf(view, { appId: app.id, deleteVolumes: deleteData || app.deleteVolumes, drops }),
    events: isNothing ? [] : [{ namespace, objectKind: "app", objectId: app.id, app: name, type: "removing", level: "info", message: `${ask.by} removed ${name}${deleteData ? " with its data" : ""}` }],
    audit: { namespace, object: `app/${name}`, detail: deleteData ? "with its data" : "its data stays" },
    answer: { removed: name, notes: notesOf(view, deleteData) },
  };
}

/** One for each volume on each node: slots share a volume that they mount by the same name. */
function ownVolumes({ volumes, current }: DeployView): { nodeId: string; engineName: string }[] {
  const external = new Set(Object.entries(current?.spec.volumes ?? {}).flatMap(([name, { externalName }]) => (externalName === undefined ? [] : [name])));
  const own = volumes.filter(({ volume }) => !external.has(volume));
  return [...new Map(own.map(({ nodeId, engineName }) => [`${nodeId} ${engineName}`, { nodeId, engineName }])).values()];
}

function changesOf(view: DeployView, { appId, deleteVolumes, drops }: { appId: string; deleteVolumes: boolean; drops: readonly { nodeId: string; engineName: string }[] }): RowChange[] {
  const changes: RowChange[] = [{ op: "update", table: "apps", rows: [{ id: appId, deleting: true, deleteVolumes }] }, ...supersede(view)];
  const staying = view.services.filter(({ removed }) => !removed);
  if (staying.length > 0) changes.push({ op: "update", table: "services", rows: staying.map(({ name }) => ({ appId, name, removed: true })) });
  const onNodes = drops.filter(({ nodeId }) => view.nodesHere.has(nodeId));
  if (onNodes.length > 0) {
    // The node's manifest names what it is to drop. The engine refuses while a container uses it, and is asked again.
    changes.push({ op: "insert", table: "volumeDrops", rows: onNodes, onConflict: "keep" }, bumpGenerations(onNodes.map(({ nodeId }) => nodeId)));
  }
  return changes;
}

function notesOf(view: DeployView, deleteData: boolean): string[] {
  const places = [...new Set(view.volumes.map(({ volume, nodeId }) => `${volume} on ${view.nodeNames.get(nodeId) ?? nodeId}`))];
  if (places.length === 0) return [];
  const shown = places.slice(0, 20).join(", ");
  const more = places.length > 20 ? ` and ${places.length - 20} more` : "";
  return deleteData ? [`these volumes are deleted with it: ${shown}${more}`] : [`its volumes stay where they are: ${shown}${more}; remove it again with deleteData=true to delete them`];
}
