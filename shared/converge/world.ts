/**
 * What the agent's decisions are made from: what the manifest wants, what the ledger remembers, what the engine shows.
 * All times are milliseconds of the boot clock.
 */
import type { ReplicaSpec } from "../model/app.ts";
import type { AssignmentRef } from "../wire/poll.ts";
import type { HEALTH, PortBinding } from "../wire/report.ts";
import type { ReplicaRecord } from "./record.ts";

export const CONTAINER_STATUS = ["created", "running", "paused", "restarting", "removing", "exited", "dead"] as const;
export type ContainerStatus = (typeof CONTAINER_STATUS)[number];

export interface ObservedContainer {
  readonly id: string;
  readonly status: ContainerStatus;
  readonly health: (typeof HEALTH)[number];
  /** Since when it has been ready (running, and healthy where it has a health check) without a break; null: it is not. */
  readonly readySinceMs: number | null;
  /** How long it had been ready when it ended. */
  readonly readyForMs: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** The engine or a person at it stopped it: it did not end by itself. */
  readonly interrupted: boolean;
  readonly ports: readonly PortBinding[];
}

/** Why this node will not run a replica, decided before anything is touched. */
export interface Refusal {
  readonly reason: string;
  readonly message: string;
}

export interface Allowed {
  readonly kind: "allowed";
  readonly ref: AssignmentRef;
  readonly spec: ReplicaSpec;
  /** Where this replica's image is kept in `World.images`. */
  readonly imageKey: string;
  /** Why no new container is made for it now; what it has goes on. Null: nothing holds it. */
  readonly hold: Refusal | null;
}
/** In the manifest, and this node will not run it. */
export interface Refused {
  readonly kind: "refused";
  readonly ref: AssignmentRef;
  readonly refusal: Refusal;
}
export type Desired = Allowed | Refused;

export interface ReplicaView {
  /** Null: no longer in the manifest. */
  readonly desired: Desired | null;
  readonly record: ReplicaRecord;
  /** The record's container as the engine shows it; null: there is none. */
  readonly container: ObservedContainer | null;
  /** Its last fact is known to the control plane. */
  readonly isAcknowledged: boolean;
  readonly configsWritten: boolean;
  /** Of the process that runs now, or there is no bind mount to look at. */
  readonly areMountsChecked: boolean;
}

/** A step that failed is not tried again before `atMs`. */
export interface Retry {
  readonly count: number;
  readonly atMs: number;
  readonly reason: string;
  readonly message: string;
}

export interface PulledImage {
  readonly reference: string;
  /** Null: a pull was begun, and what came of it is not known. */
  readonly imageId: string | null;
  /** Since when no assignment has needed it; null: one does. */
  readonly unusedSinceMs: number | null;
}

export interface World {
  readonly nowMs: number;
  readonly bootId: string;
  readonly replicas: ReadonlyMap<string, ReplicaView>;
  /** Image key → id of the local image. */
  readonly images: ReadonlyMap<string, string>;
  /** Names of all that the engine has, whoever made them. */
  readonly networks: ReadonlySet<string>;
  readonly volumes: ReadonlySet<string>;
  /** Of these, what this node made: only these are used, and removed when nothing needs them. */
  readonly ownVolumes: ReadonlySet<string>;
  readonly ownNetworks: ReadonlySet<string>;
  readonly dropVolumes: readonly string[];
  readonly pulled: readonly PulledImage[];
  /** Keys of steps under way: one step a replica, an image, a network, a volume at a time. */
  readonly busy: ReadonlySet<string>;
  readonly retries: ReadonlyMap<string, Retry>;
  /** The control plane has told this process that what it holds is the newest: what is not named there is not wanted. */
  readonly isManifestConfirmed: boolean;
}
