/**
 * `POST /agent/v1/report`: facts from a node. One in flight; it carries every fact that has not been acknowledged; the
 * first of a session is complete. Facts apply per replica when (session, seq) is newer than what is stored.
 */
import { z } from "zod";
import { Labels, Name, ReplicaId } from "../model/name.ts";

export const REPLICA_STATES = [
  "assigned",
  "preparing",
  "starting",
  "running",
  "stopping",
  "completed",
  "stopped",
  "failed",
  "rejected",
] as const;
export type ReplicaState = (typeof REPLICA_STATES)[number];
export const TERMINAL_STATES: ReadonlySet<ReplicaState> = new Set(["completed", "stopped", "failed", "rejected"]);

/**
 * Why a replica that is still `preparing` will stay so until somebody does something: its registry, asked
 * several times, refuses the image or has none. A deployment that waits for it has failed.
 */
export const IMAGE_REFUSALS = ["pullDenied", "imageNotFound"] as const;

export const HEALTH = ["none", "starting", "healthy", "unhealthy"] as const;

export const PortBinding = z.object({
  target: z.number().int().min(1).max(65535),
  protocol: z.enum(["tcp", "udp"]),
  hostIp: z.string().max(64),
  hostPort: z.number().int().min(1).max(65535),
});
export type PortBinding = z.infer<typeof PortBinding>;

export const ReplicaFact = z.object({
  replica: ReplicaId,
  state: z.enum(REPLICA_STATES),
  /** Why it is where it is: one word, then a sentence with numbers. Empty when all is well. */
  reason: z.string().max(64),
  message: z.string().max(2048),
  containerId: z.string().max(64).nullable(),
  health: z.enum(HEALTH),
  /** How long it had been ready (running, and healthy where it has a healthcheck) without a break, `ageMs` ago; null: not ready. */
  readyForMs: z.number().int().min(0).nullable(),
  restarts: z.number().int().min(0),
  exitCode: z.number().int().nullable(),
  oomKilled: z.boolean(),
  /** A workload publishes up to 1,024 ports, and an engine may bind each on IPv4 and on IPv6. */
  ports: z.array(PortBinding).max(2_048),
  /** Bytes of the image pull so far, while preparing. */
  pull: z.object({ currentBytes: z.number().int().min(0), totalBytes: z.number().int().min(0) }).nullable(),
  /** The last lines of output after an unexpected exit, at most 20 lines of 512 characters. */
  logTail: z.array(z.string().max(512)).max(20),
  /** Age of this fact when the report was sent. */
  ageMs: z.number().int().min(0),
});
export type ReplicaFact = z.infer<typeof ReplicaFact>;

export const ImageFact = z.object({
  namespace: Name,
  app: Name,
  revision: z.number().int().min(1),
  reference: z.string().max(512),
  digest: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
  imageId: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
});
export type ImageFact = z.infer<typeof ImageFact>;

/** What the machine is. Sent at enrolment and again when it changes. */
export const NodeFacts = z.object({
  hostname: z.string().max(253),
  os: z.string().max(64),
  kernel: z.string().max(128),
  arch: z.enum(["x64", "arm64"]),
  cpuMillis: z.number().int().min(1),
  memoryMiB: z.number().int().min(1),
  /** Counted devices declared in the node's policy file. */
  devices: z.record(Name, z.number().int().min(0)),
  /** Labels declared on the node: `node.declared.KEY` in constraints, apart from the operator's. */
  labels: Labels,
  engine: z.object({ version: z.string().max(64), apiVersion: z.string().max(16), cgroup: z.string().max(8), storage: z.string().max(64) }),
  agentVersion: z.string().max(64),
  protocol: z.number().int().min(1),
  addresses: z.array(z.string().max(64)).max(64),
});
export type NodeFacts = z.infer<typeof NodeFacts>;

export const ReportRequest = z.object({
  era: z.string().max(64),
  session: z.number().int().min(1),
  /** Rises with each report of a session. */
  seq: z.number().int().min(1),
  /** True: replicas not named here do not exist on the node. */
  complete: z.boolean(),
  /** Generation whose manifest the agent has accepted. */
  generation: z.number().int().min(0),
  replicas: z.array(ReplicaFact).max(10_000),
  images: z.array(ImageFact).max(1000),
  facts: NodeFacts.nullable(),
  /** Volumes of berth's on this node with their size where known, so that data is never forgotten. */
  volumes: z
    .array(z.object({ engineName: z.string().max(255) }))
    .max(10_000)
    .nullable(),
  engine: z.object({ reachable: z.boolean(), message: z.string().max(512) }),
});
export type ReportRequest = z.infer<typeof ReportRequest>;

export const ReportAnswer = z.object({ ackSeq: z.number().int() });
export type ReportAnswer = z.infer<typeof ReportAnswer>;
