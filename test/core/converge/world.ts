/** Builders for the agent's decisions: worlds with defaults, so that a test says only what it is about. */
import { newRecord, type ReplicaRecord } from "../../../shared/converge/record.ts";
import type { Allowed, ObservedContainer, ReplicaView, World } from "../../../shared/converge/world.ts";
import { AppSpec, type AppSpecInput } from "../../../shared/model/app.ts";
import { replicaSpec } from "../../../shared/model/desire.ts";
import type { AssignmentRef, ImageSource } from "../../../shared/wire/poll.ts";

export const BOOT = "boot-1";
export const NOW = 1_000_000;
export const R1 = "r_aaaaaaaaaaaaaaaa" as const;
export const R2 = "r_bbbbbbbbbbbbbbbb" as const;
export const C1 = "c".repeat(64);

type WorkloadInput = AppSpecInput["services"][string]["workload"];

export const ref = (changes: Partial<AssignmentRef> = {}): AssignmentRef => ({
  replica: R1,
  namespace: "default",
  app: "shop",
  service: "web",
  slot: "0",
  revision: 7,
  spec: "a".repeat(64),
  image: image(),
  ...changes,
});

export const image = (changes: Partial<ImageSource> = {}): ImageSource => ({
  reference: "web:1",
  digest: `sha256:${"d".repeat(64)}`,
  imageId: null,
  resolve: false,
  ...changes,
});

export function desired(
  workload: Partial<WorkloadInput> = {},
  changes: { readonly ref?: Partial<AssignmentRef>; readonly app?: Partial<AppSpecInput> } = {},
): Allowed {
  const assignment = ref(changes.ref);
  const app = AppSpec.parse({
    name: assignment.app,
    services: { [assignment.service]: { workload: { image: "web:1", ...workload } } },
    ...changes.app,
  });
  return {
    kind: "allowed",
    ref: assignment,
    spec: replicaSpec(assignment.namespace, app, assignment.service, () => "e".repeat(64)),
    imageKey: "web@d",
    hold: null,
  };
}

export const container = (changes: Partial<ObservedContainer> = {}): ObservedContainer => ({
  id: C1,
  status: "running",
  health: "none",
  readySinceMs: NOW - 5_000,
  readyForMs: 0,
  exitCode: 0,
  oomKilled: false,
  interrupted: false,
  ports: [],
  ...changes,
});

/** A container that has ended. */
export const ended = (changes: Partial<ObservedContainer> = {}): ObservedContainer =>
  container({ status: "exited", readySinceMs: null, ...changes });

export const record = (changes: Partial<ReplicaRecord> = {}): ReplicaRecord => ({ ...newRecord(ref(), BOOT), ...changes });
/** Of a replica that runs or has run. */
export const started = (changes: Partial<ReplicaRecord> = {}): ReplicaRecord =>
  record({ containerId: C1, hasStarted: true, state: "running", imageId: "sha256:1", ...changes });

export const view = (changes: Partial<ReplicaView> = {}): ReplicaView => ({
  desired: desired(),
  record: record(),
  container: null,
  isAcknowledged: true,
  configsWritten: true,
  areMountsChecked: true,
  ...changes,
});

export const world = (replicas: Readonly<Record<string, ReplicaView>>, changes: Partial<World> = {}): World => ({
  nowMs: NOW,
  bootId: BOOT,
  replicas: new Map(Object.entries(replicas)),
  images: new Map([["web@d", "sha256:1"]]),
  networks: new Set(["berth-default-shop"]),
  volumes: new Set(),
  ownVolumes: new Set(),
  ownNetworks: new Set(["berth-default-shop"]),
  dropVolumes: [],
  pulled: [],
  busy: new Set(),
  retries: new Map(),
  isManifestConfirmed: true,
  ...changes,
});
