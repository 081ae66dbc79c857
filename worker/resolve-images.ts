/**
 * What the tags of a revision mean, asked once when it is deployed, so that every node runs the same image. What cannot be
 * asked in time keeps the meaning it had in the revision before, or is left to the first node that is assigned it.
 */
import { parseImage, registryOf } from "../shared/model/image.ts";
import type { Context } from "./context.ts";
import type { Row } from "./store/commit-types.ts";

export interface ImageMeaning {
  readonly digest: string | null;
  readonly imageId: string | null;
}
export type Images = ReadonlyMap<string, ImageMeaning>;

/** A person waits for the deploy's answer; a registry that is slower than this is asked by the node instead. */
const RESOLVE_MS = 3_000;
const UNKNOWN: ImageMeaning = { digest: null, imageId: null };

export interface ResolveAsk {
  /** References, and whether any service may pull each. */
  readonly references: ReadonlyMap<string, { readonly mayPull: boolean }>;
  readonly previous: Images;
  readonly registries: readonly Row<"registries">[];
}

/** One entry for each reference. Never throws: an unreachable registry is no reason to refuse a deploy. */
export async function resolveImages(context: Pick<Context, "registry" | "signer" | "clock" | "log">, ask: ResolveAsk): Promise<Images> {
  let cancel: () => void = () => {};
  const late = new Promise<null>((resolve) => {
    cancel = context.clock.after(RESOLVE_MS, () => resolve(null));
  });
  const entries = await Promise.all(
    [...ask.references].map(async ([reference, { mayPull }]): Promise<[string, ImageMeaning]> => {
      const fixed = meaningOf(reference);
      if (fixed !== null) return [reference, fixed];
      const before = ask.previous.get(reference) ?? UNKNOWN;
      // Never pulled: it is in no registry, and whatever the registry says of its name is about another image.
      if (!mayPull) return [reference, before];
      const found = await Promise.race([resolveOne(context, reference, ask.registries), late]);
      return [reference, found === null ? before : { digest: found.digest, imageId: null }];
    }),
  );
  cancel();
  return new Map(entries);
}

/** What a reference means by itself: it names a digest or is an image id. */
function meaningOf(reference: string): ImageMeaning | null {
  if (reference.startsWith("sha256:")) return { digest: null, imageId: reference };
  const digest = parseImage(reference)?.digest ?? null;
  return digest === null ? null : { digest, imageId: null };
}

async function resolveOne(
  { registry, signer, log }: Pick<Context, "registry" | "signer" | "log">,
  reference: string,
  registries: readonly Row<"registries">[],
): Promise<{ digest: string } | null> {
  const row = registries.find((known) => known.registry === registryOf(reference));
  try {
    const password = row === undefined ? null : new TextDecoder().decode(await signer.openAtRest(row.kid, row.sealed));
    return await registry.resolve(reference, row === undefined || password === null ? null : { username: row.username, password });
  } catch (error) {
    log.warn({ reference, error: String(error) }, "an image could not be resolved");
    return null;
  }
}
