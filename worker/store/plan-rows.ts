/** A chunk of a plan as rows and as guards on the rows that the plan relied on. */
import type { Change } from "../../shared/plan/change.ts";
import { engineVolumeName } from "../../shared/model/desire.ts";
import { bumpGenerations } from "./generation.ts";
import { type Guard, type NewRow, NOW, type Row, type RowChange } from "./commit-types.ts";
import type { PlanIndex } from "./plan-index.ts";

type Of<Kind extends Change["kind"]> = Extract<Change, { kind: Kind }>;

/** What has to be read from the database before a chunk can be written. */
export interface ChunkFacts {
  /** Replicas to be ended, as they are, with what was last seen of them. */
  readonly ending: readonly { readonly replica: Row<"replicas">; readonly observation: Row<"observations"> | null }[];
  /** Volumes of apps to be removed with their data. */
  readonly dropping: readonly Row<"volumes">[];
}

export function chunkRows(changes: readonly Change[], facts: ChunkFacts, index: PlanIndex): RowChange[] {
  const of = <Kind extends Change["kind"]>(kind: Kind) => changes.filter((change): change is Of<Kind> => change.kind === kind);
  const drops = droppedVolumes(facts, index);
  const touched = [
    ...of("assign").map(({ nodeId }) => nodeId),
    ...of("stop").map(({ nodeId }) => nodeId),
    ...of("end").flatMap(({ nodeId }) => (nodeId === null ? [] : [nodeId])),
    ...of("resolver").map(({ nodeId }) => nodeId),
    ...drops.map(({ nodeId }) => nodeId),
  ].filter((id) => index.nodes.has(id));
  const rows: RowChange[] = [
    ...endRows(of("end"), facts),
    stopRows(of("stop")),
    assignRows(of("assign")),
    bindRows(of("bindVolume"), index),
    ...resolverRows(of("resolver")),
    canaryRows(of("canaries")),
    deploymentRows(of("deployment")),
    ...removeServiceRows(of("removeService")),
    ...removeAppRows(of("removeApp"), facts),
    { op: "insert", table: "volumeDrops", onConflict: "keep", rows: drops },
    bumpGenerations(touched),
  ];
  return rows.filter((change) => (change.op === "delete" ? change.keys.length > 0 : change.rows.length > 0));
}

function assignRows(changes: readonly Of<"assign">[]): RowChange {
  return {
    op: "insert",
    table: "replicas",
    rows: changes.map(({ replica, appId, service, slot, nodeId, spec, revision, attempt, reason }) => ({
      id: replica,
      appId,
      service,
      slot,
      nodeId,
      spec,
      revision,
      desired: "run" as const,
      reason,
      assignedMs: NOW,
      attempt,
      stoppedMs: null,
    })),
  };
}

/** A replica that is not there any more has been ended by its node's report: look again. */
function stopRows(changes: readonly Of<"stop">[]): RowChange {
  return {
    op: "update",
    table: "replicas",
    rows: changes.map(({ replica, reason }) => ({ id: replica, desired: "stop" as const, reason, stoppedMs: NOW })),
  };
}

/** Ended by its node's report meanwhile is fine: it is recorded already. */
function endRows(changes: readonly Of<"end">[], { ending }: ChunkFacts): RowChange[] {
  const reasons = new Map(changes.map(({ replica, reason }) => [replica as string, reason]));
  const ended = ending.map(
    ({ replica, observation }): Omit<NewRow<"endedReplicas">, "rev"> => ({
      id: replica.id,
      appId: replica.appId,
      service: replica.service,
      slot: replica.slot,
      nodeId: replica.nodeId,
      revision: replica.revision,
      state: observation?.state ?? "assigned",
      reason: reasons.get(replica.id) ?? replica.reason,
      message: observation?.message ?? "",
      exitCode: observation?.exitCode ?? null,
      logTail: observation?.logTail ?? [],
      endedMs: NOW,
    }),
  );
  return [
    { op: "insert", table: "endedReplicas", onConflict: "keep", rows: ended },
    { op: "delete", table: "replicas", keys: changes.map(({ replica }) => ({ id: replica })) },
    { op: "delete", table: "observations", keys: changes.map(({ replica }) => ({ replica })) },
  ];
}

function bindRows(changes: readonly Of<"bindVolume">[], index: PlanIndex): RowChange {
  const rows = changes.map(({ appId, service, slot, volume, engineName, nodeId }) => {
    const { namespace, name: app } = index.app(appId);
    return { namespace, app, service, slot, volume, engineName, nodeId };
  });
  return { op: "insert", table: "volumes", onConflict: "replace", rows };
}

/** Sets the resolver alone: a digest that has come in meanwhile stays. */
function resolverRows(changes: readonly Of<"resolver">[]): RowChange[] {
  const rows = changes.map(({ appId, revision, reference, nodeId }) => ({ appId, revision, reference, resolver: nodeId }));
  return [{ op: "insert", table: "images", onConflict: "replace", rows }];
}

function canaryRows(changes: readonly Of<"canaries">[]): RowChange {
  return { op: "update", table: "deployments", rows: changes.map(({ id, areHealthy }) => ({ id, canariesHealthy: areHealthy })) };
}

function deploymentRows(changes: readonly Of<"deployment">[]): RowChange {
  return {
    op: "update",
    table: "deployments",
    rows: changes.map(({ id, state, message, rollbackTo }) => ({ id, state, message, rollbackTo, finishedMs: NOW })),
  };
}

function removeServiceRows(changes: readonly Of<"removeService">[]): RowChange[] {
  const keys = changes.map(({ appId, service }) => ({ appId, service }));
  return [
    { op: "delete", table: "services", keys: changes.map(({ appId, service }) => ({ appId, name: service })) },
    { op: "delete", table: "explanations", keys },
  ];
}

/**
 * All that is the app's. Events and the audit log stay until they age out; where its data is stays as long as the data
 * does, for an app that is made again under the name.
 */
function removeAppRows(changes: readonly Of<"removeApp">[], { dropping }: ChunkFacts): RowChange[] {
  const keys = changes.map(({ appId }) => ({ appId }));
  return [
    { op: "delete", table: "apps", keys: changes.map(({ appId }) => ({ id: appId })) },
    { op: "delete", table: "appRevisions", keys },
    { op: "delete", table: "services", keys },
    { op: "delete", table: "images", keys },
    { op: "delete", table: "deployments", keys },
    { op: "delete", table: "endedReplicas", keys },
    { op: "delete", table: "explanations", keys },
    {
      op: "delete",
      table: "volumes",
      keys: dropping.map(({ namespace, app, service, slot, volume }) => ({ namespace, app, service, slot, volume })),
    },
  ];
}

/** Only volumes that are berth's own by name: an external one belongs to somebody else. */
function droppedVolumes({ dropping }: ChunkFacts, index: PlanIndex): { nodeId: string; engineName: string }[] {
  const drops = new Map<string, { nodeId: string; engineName: string }>();
  for (const { namespace, app, volume, nodeId, engineName } of dropping) {
    if (engineName === engineVolumeName(namespace, app, volume) && index.nodes.has(nodeId))
      drops.set(`${nodeId} ${engineName}`, { nodeId, engineName });
  }
  return [...drops.values()];
}

/** Revs of nodes whose sets earlier chunks of the same plan have changed. */
export type MovedRevs = ReadonlyMap<string, number>;

/** Everything whose value the chunk relied on: an operator's drain, scale or delete in between makes it a conflict. */
export function chunkGuards(changes: readonly Change[], index: PlanIndex, moved: MovedRevs): Guard[] {
  const nodes = new Set<string>();
  const lost = new Set<string>();
  const apps = new Set<string>();
  const services = new Map<string, Set<string>>();
  const deployments = new Set<string>();
  const addService = (appId: string, name: string) => {
    const names = services.get(appId);
    if (names) names.add(name);
    else services.set(appId, new Set([name]));
  };
  for (const change of changes) {
    if (change.kind === "assign" || change.kind === "bindVolume") {
      nodes.add(change.nodeId);
      apps.add(change.appId);
      addService(change.appId, change.service);
      // One that has returned brings its replica back: the slot needs no other.
      if (change.kind === "assign" && change.reason === "nodeLost") for (const id of index.darkNodes(change)) lost.add(id);
    } else if (change.kind === "stop" || change.kind === "end") {
      const { appId, service } = index.replica(change.replica);
      // Not the node: stopping is right whatever became of it. Not without a service: there is nothing to have changed.
      if (index.service(appId, service)) addService(appId, service);
    } else if (change.kind === "resolver") nodes.add(change.nodeId);
    else if (change.kind === "deployment" || change.kind === "canaries") deployments.add(change.id);
    else if (change.kind === "removeService") addService(change.appId, change.service);
    else apps.add(change.appId);
  }
  return [
    ...[...nodes].map((id): Guard => ({ table: "nodes", key: { id }, rev: moved.get(id) ?? index.nodes.get(id)?.rev ?? null })),
    ...[...lost].map((id): Guard => ({ table: "nodes", key: { id }, equals: { status: "lost" } })),
    ...[...apps].map((id): Guard => ({ table: "apps", key: { id }, rev: index.apps.get(id)?.rev ?? null })),
    ...[...services].flatMap(([appId, names]) =>
      [...names].map((name): Guard => ({ table: "services", key: { appId, name }, rev: index.service(appId, name)?.rev ?? null })),
    ),
    ...[...deployments].map((id): Guard => ({ table: "deployments", key: { id }, rev: index.deploymentRev(id) ?? null })),
  ];
}
