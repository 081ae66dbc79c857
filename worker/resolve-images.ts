/**
 * What the tags of a revision mean, asked once when it is deployed, so that every node runs the same image. What cannot be
 * asked in time keeps the meaning it had in the revision before, or is left to the first node that is assigned it.
 */
import { errorText } from "./error-text.ts";
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
/** A deploy may name 500 hosts. Eight at a time, of 100 ms each, are 240 in the time there is. */
const AT_ONCE_MAX = 8;
const UNKNOWN: ImageMeaning = { digest: null, imageId: null };

type ResolveContext = Pick<Context, "registry" | "signer" | "clock" | "log">;

export interface ResolveAsk {
  /** References, and whether any service may pull each. */
  readonly references: ReadonlyMap<string, { readonly mayPull: boolean }>;
  readonly previous: Images;
  readonly registries: readonly Row<"registries">[];
}

/** One entry for each reference. Never throws: an unreachable registry is no reason to refuse a deploy. */
export async function resolveImages(context: ResolveContext, ask: ResolveAsk): Promise<Images> {
  const meanings = new Map<string, ImageMeaning>();
  const asked: string[] = [];
  for (const [reference, { mayPull }] of ask.references) {
    const fixed = meaningOf(reference);
    meanings.set(reference, fixed ?? ask.previous.get(reference) ?? UNKNOWN);
    // Never pulled: it is in no registry, and whatever the registry says of its name is about another image.
    if (fixed === null && mayPull) asked.push(reference);
  }
  for (const [reference, { digest }] of await resolveAll(context, asked, ask.registries))
    meanings.set(reference, { digest, imageId: null });
  return meanings;
}

/** Those of which their registries said in time what they mean. */
async function resolveAll(
  context: ResolveContext,
  references: readonly string[],
  registries: readonly Row<"registries">[],
): Promise<ReadonlyMap<string, { readonly digest: string }>> {
  const found = new Map<string, { digest: string }>();
  const abort = new AbortController();
  const queue = references.values();
  const work = async () => {
    for (const reference of queue) {
      const resolved = await resolveOne(context, { reference, registries, signal: abort.signal });
      if (abort.signal.aborted) return;
      if (resolved !== null) found.set(reference, resolved);
    }
  };
  let cancel: () => void = () => {};
  const late = new Promise<void>((resolve) => {
    cancel = context.clock.after(RESOLVE_MS, () => {
      abort.abort(new Error(`no answer within ${RESOLVE_MS / 1000} s`));
      resolve();
    });
  });
  await Promise.race([Promise.all(Array.from({ length: AT_ONCE_MAX }, work)), late]);
  cancel();
  return found;
}

/** What a reference means by itself: it names a digest or is an image id. */
function meaningOf(reference: string): ImageMeaning | null {
  if (reference.startsWith("sha256:")) return { digest: null, imageId: reference };
  const digest = parseImage(reference)?.digest ?? null;
  return digest === null ? null : { digest, imageId: null };
}

async function resolveOne(
  { registry, signer, log }: ResolveContext,
  ask: { readonly reference: string; readonly registries: readonly Row<"registries">[]; readonly signal: AbortSignal },
): Promise<{ digest: string } | null> {
  const { reference, registries, signal } = ask;
  const row = registries.find((known) => known.registry === registryOf(reference));
  try {
    const password = row === undefined ? null : new TextDecoder().decode(await signer.openAtRest(row.kid, row.sealed));
    const credentials = row === undefined || password === null ? null : { username: row.username, password };
    return await registry.resolve(reference, { credentials, signal });
  } catch (error) {
    log.warn({ reference, error: errorText(error) }, "an image could not be resolved");
    return null;
  }
}
