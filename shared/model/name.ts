/**
 * Names that people choose and ids that berth makes. Every string that becomes part of a path, a label or a
 * container name passes one of these patterns first, so nothing behind the edge has to quote or escape it.
 */
import { z } from "zod";
import { NAME_PATTERN, NAME_RULE } from "./name-pattern.ts";

/** Plain-object keys that JavaScript treats specially: never accepted as names or keys. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype", "tostring"]);

export const Name = z
  .string()
  .max(63)
  .regex(NAME_PATTERN, NAME_RULE)
  .refine((name) => !RESERVED_NAMES.has(name), "this word is reserved; choose another name");

const id = <Prefix extends string>(prefix: Prefix) =>
  z
    .string()
    .regex(new RegExp(`^${prefix}_[a-z2-7]{16}$`), `an id like ${prefix}_ and 16 of a-z, 2-7`)
    .transform((value) => value as `${Prefix}_${string}`);

export const NodeId = id("n");
export const AppId = id("app");
export const ReplicaId = id("r");
export const DeploymentId = id("d");
export const TokenId = id("t");
export const JoinTokenId = id("jt");
export type NodeId = z.infer<typeof NodeId>;
export type AppId = z.infer<typeof AppId>;
export type ReplicaId = z.infer<typeof ReplicaId>;
export type DeploymentId = z.infer<typeof DeploymentId>;
export type TokenId = z.infer<typeof TokenId>;
export type JoinTokenId = z.infer<typeof JoinTokenId>;

/** SHA-256 of the canonical JSON of a body, in lower-case hex. */
export const ContentHash = z.string().regex(/^[0-9a-f]{64}$/, "64 lower-case hex digits");
export type ContentHash = z.infer<typeof ContentHash>;

/** Label keys as Kubernetes and Docker users write them: `zone`, `example.com/rack`. */
export const LabelKey = z
  .string()
  .max(128)
  .regex(/^[a-zA-Z0-9](?:[a-zA-Z0-9_./-]{0,126}[a-zA-Z0-9])?$/, "letters, digits, '.', '_', '/' and '-', at most 128")
  .refine((key) => !RESERVED_NAMES.has(key.toLowerCase()), "this word is reserved; choose another key");
export const LabelValue = z
  .string()
  .max(256)
  .regex(/^[\p{L}\p{N}\p{P}\p{S} ]*$/u, "no control characters, at most 256");
export const Labels = z.record(LabelKey, LabelValue).refine((labels) => Object.keys(labels).length <= 64, "at most 64 labels");
export type Labels = z.infer<typeof Labels>;
