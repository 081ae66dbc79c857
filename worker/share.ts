/**
 * Whose share of a limit a request takes. Tokens that are bound to a namespace have one share together: an admin of the
 * namespace makes them, so a share for each would be as many shares as that admin likes. A token of all namespaces, which
 * only an admin of all makes, has its own.
 */
import type { Principal } from "./auth.ts";

export interface Share {
  readonly key: string;
  /** As a refusal says it. */
  readonly name: string;
}

/** No name holds a slash, so that no namespace has the key of a token. */
export const shareOf = ({ tokenId, namespace }: Pick<Principal, "tokenId" | "namespace">): Share =>
  namespace === null ? { key: tokenId, name: "this token" } : { key: `namespace/${namespace}`, name: `namespace ${namespace}` };
