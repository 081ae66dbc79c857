/** Labels that berth puts on what it makes. The prefix is reserved: a workload may not use it. */
import type { AssignmentRef } from "../../shared/wire/poll.ts";

export const LABEL_PREFIX = "berth.";
export const LABEL_REPLICA = "berth.replica";
/** HMAC under a key of this node over (replica, spec): nobody else can make a container that passes for this replica's. */
export const LABEL_PROOF = "berth.proof";
export const LABEL_SPEC = "berth.spec";
export const LABEL_NODE = "berth.node";
export const LABEL_NAMESPACE = "berth.namespace";
export const LABEL_APP = "berth.app";

export const containerLabels = (input: {
  readonly ref: AssignmentRef;
  readonly node: string;
  readonly proof: string;
}): Record<string, string> => ({
  [LABEL_REPLICA]: input.ref.replica,
  [LABEL_PROOF]: input.proof,
  [LABEL_SPEC]: input.ref.spec,
  [LABEL_NODE]: input.node,
  [LABEL_NAMESPACE]: input.ref.namespace,
  [LABEL_APP]: input.ref.app,
  "berth.service": input.ref.service,
  "berth.slot": input.ref.slot,
  "berth.revision": String(input.ref.revision),
});

export const sharedLabels = (input: {
  readonly namespace: string;
  readonly app: string;
  readonly node: string;
}): Record<string, string> => ({
  [LABEL_NODE]: input.node,
  [LABEL_NAMESPACE]: input.namespace,
  [LABEL_APP]: input.app,
});

/** What a container is told of its place, as environment variables. The slot of a global service is its node's name, as people see it. */
export const placeVariables = (input: {
  readonly ref: AssignmentRef;
  readonly node: string;
  readonly nodeName: string;
}): Record<string, string> => ({
  BERTH_NAMESPACE: input.ref.namespace,
  BERTH_APP: input.ref.app,
  BERTH_SERVICE: input.ref.service,
  BERTH_SLOT: input.ref.slot === input.node ? input.nodeName : input.ref.slot,
  BERTH_REPLICA: input.ref.replica,
  BERTH_NODE: input.nodeName,
});
