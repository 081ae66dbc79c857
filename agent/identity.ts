/** Who this node is: its keys, the cluster it belongs to, and what it pinned of it. Lost, it has to be joined anew. */
import { z } from "zod";
import { Name, NodeId } from "../shared/model/name.ts";
import { JOIN_TOKEN_PREFIX, JoinToken } from "../shared/wire/enroll.ts";
import { NodeKeys } from "./crypto.ts";
import type { Disk, Log } from "./ports.ts";
import { SealedFile } from "./sealed-file.ts";

export const Identity = z.object({
  version: z.literal(1),
  keys: NodeKeys,
  /** Of the join token: the address, and what is pinned. */
  url: z.string(),
  root: z.string(),
  spki: z.string().nullable(),
  tokenId: z.string(),
  /** Null: enrolling has begun and was not answered yet. */
  enrolled: z.object({ node: NodeId, name: Name, site: Name, cluster: z.string(), admission: z.enum(["admitted", "pending"]) }).nullable(),
  /** The last key set that was verified, as received. */
  keySet: z.string().nullable(),
  /** The wall clock when this was written: it was at least this late then. */
  wallMs: z.number(),
  /** An operator removed this node: it stops what it runs and may not come back with these keys. */
  removed: z.boolean(),
});
export type Identity = z.infer<typeof Identity>;

export const identityFile = (disk: Disk, log: Log): SealedFile<typeof Identity> =>
  new SealedFile({ disk, log, path: "identity.json", schema: Identity, keepPrevious: true });

/** Null: this is no join token. */
export function readJoinToken(text: string): JoinToken | null {
  const trimmed = text.trim();
  if (!trimmed.startsWith(JOIN_TOKEN_PREFIX)) return null;
  try {
    const base64 = trimmed.slice(JOIN_TOKEN_PREFIX.length).replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return JoinToken.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch {
    return null;
  }
}
