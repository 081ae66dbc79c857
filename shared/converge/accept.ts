/**
 * Whether a manifest may enter the ledger. Order is (era, generation): an older generation of the same era is a replay,
 * the same generation with other content is a control plane that contradicts itself, and another era is a database that
 * was restored, whose generations begin above everything this node has seen.
 */
export interface Held {
  readonly era: string;
  readonly generation: number;
  /** SHA-256 of the payload bytes. */
  readonly digest: string;
}

export type Acceptance =
  | { readonly kind: "accept" }
  /** It is the one that is held. */
  | { readonly kind: "current" }
  | { readonly kind: "refuse"; readonly reason: "older" | "contradicts" | "otherEra"; readonly message: string };

/** `sessionEra` is what the signed session grant named; a manifest of any other era belongs to another history. */
export function accept(held: Held | null, offered: Held, sessionEra: string): Acceptance {
  if (offered.era !== sessionEra)
    return { kind: "refuse", reason: "otherEra", message: `the manifest is of era ${offered.era}, the session of ${sessionEra}` };
  if (held === null || held.era !== offered.era) return { kind: "accept" };
  if (offered.generation < held.generation)
    return { kind: "refuse", reason: "older", message: `generation ${offered.generation} is older than ${held.generation}, which is held` };
  if (offered.generation > held.generation) return { kind: "accept" };
  if (offered.digest === held.digest) return { kind: "current" };
  return {
    kind: "refuse",
    reason: "contradicts",
    message: `generation ${offered.generation} came with other content than the one that is held`,
  };
}
