/**
 * Removing an app: from this commit on nothing of it is wanted, and the planner stops its replicas; the row goes when the
 * last is verified gone. Data is lost only where the caller asked for it.
 */
import type { Removed } from "../shared/api/resources.ts";
import { noNamespace } from "./auth.ts";
import type { Context } from "./context.ts";
import { noApp, refuseLocked } from "./deploy.ts";
import { engineVolumeName } from "../shared/model/desire.ts";
import { supersede } from "./revise.ts";
import { bumpGenerations } from "./store/generation.ts";
import type { Guard, NewEvent, RowChange } from "./store/commit-types.ts";
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
  if (app === null) {
    if (!deleteData || view.volumes.length === 0) throw noApp(namespace, name);
    return draftLeftovers(view, ask);
  }
  refuseLocked(view);
  const isNothing = app.deleting && (!deleteData || app.deleteVolumes);
  return {
    marks: view.marks,
    guards: [
      { table: "apps", key: { id: app.id }, rev: app.rev },
      ...view.deployments.map(({ id, rev }) => ({ table: "deployments" as const, key: { id }, rev })),
    ],
    changes: isNothing ? [] : changesOf(view, { appId: app.id, deleteVolumes: deleteData || app.deleteVolumes }),
    events: isNothing
      ? []
      : [
          {
            namespace,
            objectKind: "app",
            objectId: app.id,
            app: name,
            type: "removing",
            level: "info",
            message: `${ask.by} removed ${name}${deleteData ? " with its data" : ""}`,
          },
        ],
    audit: { namespace, object: `app/${name}`, detail: deleteData ? "with its data" : "its data stays" },
    answer: { removed: name, notes: notesOf(view, deleteData) },
  };
}

/** The app is gone and left data behind: nothing holds it, so it is dropped at once. */
function draftLeftovers(view: DeployView, { namespace, app, by }: { namespace: string; app: string; by: string }): Removal {
  const own = view.volumes.filter(({ volume, engineName }) => engineName === engineVolumeName(namespace, app, volume));
  const drops = new Map(own.map(({ nodeId, engineName }) => [`${nodeId} ${engineName}`, { nodeId, engineName }]));
  const keys = view.volumes.map(({ service, slot, volume }) => ({ namespace, app, service, slot, volume }));
  const changes: RowChange[] = [
    { op: "delete", table: "volumes", keys },
    { op: "insert", table: "volumeDrops", onConflict: "keep", rows: [...drops.values()] },
    bumpGenerations(own.map(({ nodeId }) => nodeId)),
  ];
  return {
    marks: view.marks,
    guards: [{ table: "apps", none: { namespace, name: app } }],
    changes: changes.filter((change) => change.op === "delete" || change.rows.length > 0),
    events: [
      {
        namespace,
        objectKind: "app",
        // The app and its id are gone, and its name is not the only one of its kind.
        objectId: `${namespace}/${app}`,
        app,
        type: "removing",
        level: "info",
        message: `${by} removed what ${app} had left behind`,
      },
    ],
    audit: { namespace, object: `app/${app}`, detail: "the data it had left behind" },
    answer: { removed: app, notes: notesOf(view, true) },
  };
}

/** Volumes that are to go are dropped by the commit that removes the row: until then containers hold them. */
function changesOf(view: DeployView, { appId, deleteVolumes }: { appId: string; deleteVolumes: boolean }): RowChange[] {
  const staying = view.services.filter(({ removed }) => !removed).map(({ name }) => ({ appId, name, removed: true }));
  return [
    { op: "update", table: "apps", rows: [{ id: appId, deleting: true, deleteVolumes }] },
    ...supersede(view),
    ...(staying.length === 0 ? [] : [{ op: "update" as const, table: "services" as const, rows: staying }]),
  ];
}

function notesOf(view: DeployView, deleteData: boolean): string[] {
  const places = [...new Set(view.volumes.map(({ volume, nodeId }) => `${volume} on ${view.nodeNames.get(nodeId) ?? nodeId}`))];
  if (places.length === 0) return [];
  const shown = places.slice(0, 20).join(", ");
  const more = places.length > 20 ? ` and ${places.length - 20} more` : "";
  return [deleteData ? `these volumes are deleted with it: ${shown}${more}` : `its volumes stay where they are: ${shown}${more}`];
}
