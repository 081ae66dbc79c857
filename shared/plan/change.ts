/** What the planner decides: row changes, when to look again, and why. A plan leaves no choice to who carries it out. */
import type { AppId, DeploymentId, NodeId, ReplicaId } from "../model/name.ts";
import type { Explanation } from "./explanation.ts";

/** Why a replica was assigned or stopped: one word, shown to people. */
export const PLAN_REASONS = [
  "initial", // first replica of its slot
  "scale", // slot added or removed by a count
  "update", // new spec or image
  "replace", // the slot's replica failed or was rejected for good
  "nodeLost", // the slot's node is lost
  "nodeRemoved", // the slot's node was removed
  "nodeReturned", // surplus after a lost node came back
  "constraint", // its node no longer satisfies the service's constraints
  "removed", // service or app removed
  "failedUpdate", // new replica of a deployment that failed, its slot still served by the old one
] as const;
export type PlanReason = (typeof PLAN_REASONS)[number];

export type Change =
  | {
      readonly kind: "assign";
      readonly replica: ReplicaId;
      readonly appId: AppId;
      readonly service: string;
      readonly slot: string;
      readonly nodeId: NodeId;
      readonly spec: string;
      readonly revision: number /** Rejections in a row before it, stored with the replica. */;
      readonly attempt: number;
      readonly reason: PlanReason;
    }
  /** Take it out of its node's manifest; the row ends when the node says that it is gone. */
  | { readonly kind: "stop"; readonly replica: ReplicaId; readonly nodeId: NodeId; readonly reason: PlanReason }
  /** End it without the node's word: its node was removed by the operator, or it already reported a terminal state. */
  | { readonly kind: "end"; readonly replica: ReplicaId; readonly nodeId: NodeId | null; readonly reason: PlanReason }
  /** The slot's volumes live on this node from now on. */
  | {
      readonly kind: "bindVolume";
      readonly appId: AppId;
      readonly service: string;
      readonly slot: string;
      readonly volume: string;
      readonly engineName: string;
      readonly nodeId: NodeId;
    }
  /** This node resolves the image for all others. */
  | { readonly kind: "resolver"; readonly appId: AppId; readonly revision: number; readonly reference: string; readonly nodeId: NodeId }
  | {
      readonly kind: "deployment";
      readonly id: DeploymentId;
      readonly appId: AppId;
      readonly state: "succeeded" | "failed";
      readonly message: string;
      readonly rollbackTo: number | null;
    }
  /** All canaries of a running deployment are healthy, and it waits to be promoted; or they are no longer. */
  | { readonly kind: "canaries"; readonly id: DeploymentId; readonly appId: AppId; readonly areHealthy: boolean; readonly message: string }
  /** Every replica of a removed service or app is gone: the row goes too. */
  | { readonly kind: "removeService"; readonly appId: AppId; readonly service: string }
  | { readonly kind: "removeApp"; readonly appId: AppId };

export interface ClusterPlan {
  /** Rev of the snapshot it was made from. */
  readonly rev: number;
  readonly changes: readonly Change[];
  /** Look again at this cluster time even if nothing rings; null: nothing is due. */
  readonly wakeAtMs: number | null;
  /** One for each service that this plan decided something about or could not satisfy. */
  readonly explanations: readonly Explanation[];
}

export interface PlanInput {
  readonly nowMs: number;
  /** 64 random bits in hex from the caller: replica ids are derived from it, so the planner itself needs no randomness. */
  readonly idSeed: string;
  /** Default: it never was away. */
  readonly returned?: ControlPlaneReturn;
}

/**
 * When the control plane came to hear its nodes again, and until when what they had to say meanwhile may still be on its
 * way; of those that are heard again it is there.
 */
export interface ControlPlaneReturn {
  readonly atMs: number;
  readonly untilMs: number;
  readonly heard: ReadonlySet<NodeId>;
}
