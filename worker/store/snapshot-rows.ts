/** From the feed's rows to the planner's small objects. The order of columns is FEED_TABLES'. */
import type { AppId, DeploymentId, NodeId } from "../../shared/model/name.ts";
import type { AppState, DeploymentState, NodeState, ServiceState, VolumeDropState, VolumeState } from "../../shared/plan/snapshot.ts";
import type { FeedRow } from "./feed.ts";

/** What a node reports is known from another table. */
export interface NodeRow {
  readonly state: Omit<NodeState, "reported" | "engineReachable">;
  readonly session: number;
}

export interface ImageState {
  /** Digest, or image id, or empty while it is not resolved. */
  readonly image: string;
  readonly resolver: NodeId | null;
}

export interface LatestDeployment extends DeploymentState {
  readonly rollbackTo: number | null;
  readonly halted: boolean;
  readonly state: "running" | "succeeded" | "failed" | "superseded";
}

interface Facts {
  readonly labels: Readonly<Record<string, string>>;
  readonly devices: Readonly<Record<string, number>>;
  readonly arch: string;
  readonly hostname: string;
  readonly cpuMillis: number;
  readonly memoryMiB: number;
}

export function rowToNode(row: FeedRow): NodeRow {
  const [id, name, site, labels, taints, availability, status, statusMs, session, quarantined, admission, rest, rev] = row as readonly [
    NodeId,
    string,
    string,
    NodeState["labels"],
    NodeState["taints"],
    NodeState["availability"],
    NodeState["status"],
    number,
    number,
    number,
    string,
    Facts,
    number,
  ];
  const { labels: declared, ...facts } = rest;
  return {
    session,
    state: {
      id,
      name,
      site,
      labels,
      declared,
      taints,
      availability,
      status,
      statusMs,
      // Both mean the same to the planner: no new work here.
      quarantined: quarantined === 1 || admission !== "admitted",
      ...facts,
      rev,
    },
  };
}

export function rowToApp(row: FeedRow): AppState {
  const [id, namespace, name, revision, deleting, rev] = row as readonly [AppId, string, string, number, number, number];
  return { id, namespace, name, revision, deleting: deleting === 1, rev };
}

export function rowToImage(row: FeedRow): ImageState {
  const [, , , digest, imageId, resolver] = row as readonly [string, number, string, string | null, string | null, NodeId | null];
  return { image: digest ?? imageId ?? "", resolver };
}

/** Image and resolver are filled in by the keeper. */
export function rowToService(row: FeedRow): ServiceState {
  const [appId, name, mode, replicas, spec, revision, reservation, planning, removed, rev] = row as readonly [
    AppId,
    string,
    ServiceState["mode"],
    number,
    string,
    number,
    ServiceState["reservation"],
    ServiceState["planning"],
    number,
    number,
  ];
  return { appId, name, mode, replicas, spec, revision, image: "", resolver: null, reservation, planning, removed: removed === 1, rev };
}

export function rowToDeployment(row: FeedRow): LatestDeployment {
  const [id, appId, revision, fromRevision, kind, state, startedMs, rollbackTo, halted, pausedBy, resumedMs, healthy, promoted, rev] =
    row as readonly [
      DeploymentId,
      AppId,
      number,
      number | null,
      DeploymentState["kind"],
      LatestDeployment["state"],
      number,
      number | null,
      number,
      string | null,
      number,
      number,
      number,
      number,
    ];
  return {
    id,
    appId,
    revision,
    fromRevision,
    kind,
    state,
    startedMs,
    rollbackTo,
    halted: halted === 1,
    paused: pausedBy !== null,
    resumedMs,
    canariesHealthy: healthy === 1,
    promoted: promoted === 1,
    rev,
  };
}

export function rowToVolume(row: FeedRow): VolumeState {
  const [namespace, app, service, slot, volume, nodeId] = row as readonly [string, string, string, string, string, NodeId];
  return { namespace, app, service, slot, volume, nodeId };
}

export function rowToVolumeDrop(row: FeedRow): VolumeDropState {
  const [nodeId, engineName] = row as readonly [NodeId, string];
  return { nodeId, engineName };
}
