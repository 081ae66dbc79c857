/**
 * What the planner sees: one consistent read of the cluster at `rev`. Small tables are objects; replicas are columns,
 * because 100,000 of them as objects are over an isolate's memory.
 */
import type { Constraint, Reservation } from "../model/app.ts";
import type { HostPort } from "../model/host-port.ts";
import type { AppId, DeploymentId, NodeId, ReplicaId } from "../model/name.ts";
import type { ReplicaState } from "../wire/report.ts";

export type NodeStatus = "ready" | "unreachable" | "lost";
export type Availability = "active" | "cordoned";

export interface SiteState {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NodeState {
  readonly id: NodeId;
  readonly name: string;
  readonly site: string;
  /** The operator's. */
  readonly labels: Readonly<Record<string, string>>;
  /** What the node says of itself: never mixed with the operator's, or a node could draw to it what is meant for others. */
  readonly declared: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value: string }[];
  readonly availability: Availability;
  readonly status: NodeStatus;
  readonly statusMs: number;
  /** Its session has delivered a complete report. */
  readonly reported: boolean;
  /** What it says of its containers is from its engine and not from before that was away. */
  readonly engineReachable: boolean;
  readonly quarantined: boolean;
  readonly arch: string;
  readonly hostname: string;
  /** Allocatable. */
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  readonly devices: Readonly<Record<string, number>>;
  /** Fewer than NODE_REPLICAS_MAX, where rows of the snapshot stand for several replicas. */
  readonly replicasMax?: number;
  readonly rev: number;
}

export interface AppState {
  readonly id: AppId;
  readonly namespace: string;
  readonly name: string;
  readonly revision: number;
  readonly deleting: boolean;
  readonly rev: number;
}

/** The planner's half of a ServiceSpec, stored as JSON with the service. Made by `servicePlanning` in shared/model/desire.ts. */
export interface ServicePlanning {
  readonly constraints: readonly Constraint[];
  readonly tolerations: readonly { readonly key: string; readonly value?: string }[];
  readonly strategy: "spread" | "binpack";
  readonly spreadBy: readonly string[];
  readonly maxPerNode: number | null;
  readonly hostPorts: readonly HostPort[];
  /** Named volumes mounted, with the engine's names. A slot that has any stays on the node of its first placement. */
  readonly volumes: readonly { readonly name: string; readonly engineName: string; readonly readOnly: boolean }[];
  /** Placed on one node with every other such service of the app, because bare names resolve on one node only. */
  readonly colocate: boolean;
  readonly order: "auto" | "start-first" | "stop-first";
  readonly parallelism: number;
  readonly maxSurge: number;
  /** Null: `parallelism`, and only where the old replica has to stop first. */
  readonly maxUnavailable: number | null;
  readonly delayMs: number;
  readonly minHealthyMs: number;
  readonly healthyDeadlineMs: number;
  readonly progressDeadlineMs: number;
  readonly failureAction: "pause" | "rollback";
  readonly canaries: number;
  readonly dependsOn: readonly {
    readonly service: string;
    readonly condition: "started" | "healthy" | "completed";
    readonly required: boolean;
  }[];
  /** Its replicas may end for good: what has completed is not run again to go back. */
  readonly ends: boolean;
  readonly imageReference: string;
}

export interface ServiceState {
  readonly appId: AppId;
  readonly name: string;
  readonly mode: "replicated" | "global";
  readonly replicas: number;
  /** Content hash that its replicas shall run. */
  readonly spec: string;
  readonly revision: number;
  /** Resolved image of the current revision (digest or image id); empty: not resolved yet. */
  readonly image: string;
  /** Node that was asked to resolve the image while `image` is empty; null: nobody yet. */
  readonly resolver: NodeId | null;
  readonly reservation: Reservation;
  readonly planning: ServicePlanning;
  /** No longer in the app: its replicas go, then the row. */
  readonly removed: boolean;
  readonly rev: number;
}

export interface DeploymentState {
  readonly id: DeploymentId;
  readonly appId: AppId;
  readonly revision: number;
  readonly fromRevision: number | null;
  readonly kind: "deploy" | "scale" | "rollback";
  readonly startedMs: number;
  /** Nothing new is begun until an operator resumes it. */
  readonly paused: boolean;
  /** When it was last resumed or promoted: deadlines run anew from then on; 0: never. */
  readonly resumedMs: number;
  /** All its canaries were seen healthy: it may be promoted. */
  readonly canariesHealthy: boolean;
  /** Its canaries take over. */
  readonly promoted: boolean;
  readonly rev: number;
}

/** Where the data of a slot's volume is. By name and not by id: it is there before and after the app. */
export interface VolumeState {
  readonly namespace: string;
  readonly app: string;
  readonly service: string;
  readonly slot: string;
  readonly volume: string;
  readonly nodeId: NodeId;
}

/** An engine volume that its node shall delete and has not said to have deleted: what is in it is nobody's any more. */
export interface VolumeDropState {
  readonly nodeId: NodeId;
  readonly engineName: string;
}

/** An image that replicas of a revision run, and that nobody has resolved yet. */
export interface UnresolvedImage {
  readonly appId: AppId;
  readonly revision: number;
  readonly spec: string;
  readonly reference: string;
  /** Node that was asked to resolve it; null: nobody yet. */
  readonly resolver: NodeId | null;
}

/** Columns, all of `length`. Only replicas that have not ended: `desired` run, or stop and not yet verified gone. */
export interface ReplicaTable {
  readonly length: number;
  readonly id: readonly ReplicaId[];
  /** Index into `services`; -1: its service is gone. */
  readonly service: Int32Array;
  readonly slot: readonly string[];
  /** Index into `nodes`; -1: its node was removed. */
  readonly node: Int32Array;
  readonly spec: readonly string[];
  readonly revision: Float64Array;
  /** Resolved image of the replica's revision; empty: unknown. */
  readonly image: readonly string[];
  /** 1: run, 0: stop. */
  readonly run: Uint8Array;
  /** Index into REPLICA_STATES. */
  readonly state: Uint8Array;
  /** Cluster ms since when it has been ready without a break; NaN: not ready. */
  readonly readySinceMs: Float64Array;
  /** Why its node cannot run it, in the node's words, where that is known to last; empty: nothing is. */
  readonly fault: readonly string[];
  readonly restarts: Int32Array;
  readonly assignedMs: Float64Array;
  /** How many replicas of its slot were rejected in a row before it: the back-off doubles with it. */
  readonly attempt: Int32Array;
  /** What it occupies on its node, from its own spec (which may differ from the service's now). */
  readonly cpuMillis: Int32Array;
  readonly memoryMiB: Int32Array;
  readonly hostPorts: readonly (readonly HostPort[])[];
  readonly devices: readonly Readonly<Record<string, number>>[];
  readonly rev: Float64Array;
}

export interface ClusterSnapshot {
  readonly rev: number;
  readonly sites: readonly SiteState[];
  readonly nodes: readonly NodeState[];
  readonly apps: readonly AppState[];
  readonly services: readonly ServiceState[];
  /** Running ones; at most one an app. */
  readonly deployments: readonly DeploymentState[];
  /**
   * Apps whose latest deployment failed, or scales one that did, with its revision: their rollouts stay where they are
   * until the next deploy or rollback.
   */
  readonly failed: readonly { readonly appId: AppId; readonly revision: number }[];
  /** Those of them whose policy is to go back and whose rollback has not been made yet. */
  readonly rollbacks: readonly DeploymentId[];
  readonly volumes: readonly VolumeState[];
  readonly volumeDrops: readonly VolumeDropState[];
  /** Of replicas, also of revisions before the current one. */
  readonly unresolved: readonly UnresolvedImage[];
  readonly replicas: ReplicaTable;
}

export type { HostPort, ReplicaState };
