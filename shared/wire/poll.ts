/**
 * `POST /agent/v1/poll`. Answered at once when the node's generation is ahead of the one held or a channel is asked
 * for, else held up to the server's pollHoldMs and answered 204. An idle poll writes no row.
 */
import { z } from "zod";
import { ContentHash, Name, NodeId, ReplicaId } from "../model/name.ts";
import { Kid } from "./keys.ts";

export const PollRequest = z.object({
  era: z.string().max(64),
  session: z.number().int().min(1),
  /** Generation of the manifest in the agent's ledger; 0: none. */
  generation: z.number().int().min(0),
  challenge: z.string().regex(/^[A-Za-z0-9_-]{22}$/),
  /** Channel ids that the agent has already dialled. */
  channels: z.array(z.string().max(64)).max(64).default([]),
});
export type PollRequest = z.infer<typeof PollRequest>;

/** How the image of an assignment is to be had. */
export const ImageSource = z.object({
  /** Reference as the user wrote it. */
  reference: z.string().max(512),
  /** Index digest to pull `repository@digest`; null while nobody has resolved the tag. */
  digest: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
  /** Image id where only a node has it (no registry): run exactly this local image. */
  imageId: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
  /** True: this node resolves the tag and reports it; others wait. */
  resolve: z.boolean(),
});
export type ImageSource = z.infer<typeof ImageSource>;

export const AssignmentRef = z.object({
  replica: ReplicaId,
  namespace: Name,
  app: Name,
  service: Name,
  /** Slot number, or the node's id for a global service. */
  slot: z.string().max(64),
  /** Revision of the app that made this replica, for labels and logs. */
  revision: z.number().int().min(1),
  spec: ContentHash,
  image: ImageSource,
});
export type AssignmentRef = z.infer<typeof AssignmentRef>;

/** The planner gives a node far fewer: NODE_REPLICAS_MAX in shared/schedule/fleet.ts. */
export const ASSIGNMENTS_MAX = 10_000;
/** One for each replica at most. */
export const CREDENTIALS_MAX = 1_000;

/** Payload of the manifest: JWS, typ `manifest`, signed by the lease key once per generation. The complete set, never a delta. */
export const Manifest = z.object({
  iss: z.string(),
  /** The node id, compared with ===. */
  aud: NodeId,
  era: z.string(),
  generation: z.number().int().min(0),
  assignments: z.array(AssignmentRef).max(ASSIGNMENTS_MAX),
  /** Registry credentials that the assigned images need; fetched sealed when the version moves. */
  credentials: z.array(z.object({ namespace: Name, registry: z.string().max(253), version: z.number().int() })).max(CREDENTIALS_MAX),
  /** Engine names of volumes this node may hold; volumes of removed apps are listed in `dropVolumes`. */
  dropVolumes: z.array(z.string().max(255)).max(1000),
});
export type Manifest = z.infer<typeof Manifest>;

export const ChannelAsk = z.object({
  id: z.string().max(64),
  kind: z.literal("logs"),
  replica: ReplicaId,
  follow: z.boolean(),
  tail: z.number().int().min(0).max(10_000),
  sinceMs: z.number().int().min(0).nullable(),
  timestamps: z.boolean(),
});
export type ChannelAsk = z.infer<typeof ChannelAsk>;

export const PollAnswer = z.object({
  /** Compact JWS of a Manifest; absent when the held generation is current. */
  manifest: z.string().optional(),
  challenge: z.string(),
  channels: z.array(ChannelAsk).max(64).default([]),
  /** A newer root-signed key set is to be fetched. */
  keySetVersion: z.number().int(),
  /** Where to go from now on, when this cluster has moved (protocol reserve; never sent yet). */
  rehome: z.url().optional(),
});
export type PollAnswer = z.infer<typeof PollAnswer>;

export const CredentialAnswer = z.object({
  version: z.number().int(),
  kid: Kid.optional(),
  /** Compact JWE to the node's seal key of {username, password}. */
  sealed: z.string().max(8192),
});
export type CredentialAnswer = z.infer<typeof CredentialAnswer>;
