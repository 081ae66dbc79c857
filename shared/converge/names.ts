/** Names of the things that berth makes in an engine. Each part has passed `Name` and is at most 63 characters. */
import type { AssignmentRef } from "../wire/poll.ts";

/**
 * The app's bridge on a node. Names begin and end with a letter or digit, so doubling the dashes inside them keeps
 * single ones as separators: no two (namespace, app) share a network.
 */
export const networkName = (namespace: string, app: string): string =>
  ["berth", namespace, app].map((part) => part.replaceAll("-", "--")).join("-");

/** Unique because it ends in the replica's own id. */
export const containerName = (ref: Pick<AssignmentRef, "namespace" | "app" | "service" | "slot" | "replica">): string =>
  `berth-${ref.namespace}-${ref.app}-${ref.service}-${ref.slot.slice(0, 24)}-${ref.replica.slice(2, 10)}`;
