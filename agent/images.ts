/** Getting the image of an assignment onto the node, exactly the one that was named. */
import { loginCommand, parseImage, registryOf } from "../shared/model/image.ts";
import type { StepOf } from "../shared/converge/steps.ts";
import type { AssignmentRef, ImageSource } from "../shared/wire/poll.ts";
import { ImageFact } from "../shared/wire/report.ts";
import { type Engine, EngineError, type Login } from "./engine/engine.ts";

/** Where an image is kept while it is known to be here. A tag's meaning is asked again for each revision. */
export const imageKeyOf = ({ image, namespace, app, revision }: Pick<AssignmentRef, "image" | "namespace" | "app" | "revision">): string =>
  image.imageId ?? (image.digest === null ? `${image.reference}#${namespace}/${app}/${revision}` : pinned(image.reference, image.digest));

const nameOf = (reference: string): string => {
  const [named = ""] = reference.split("@", 1);
  const colon = named.lastIndexOf(":");
  return colon > named.lastIndexOf("/") ? named.slice(0, colon) : named;
};
const pinned = (reference: string, digest: string): string => `${nameOf(reference)}@${digest}`;

/** What the engine is asked for. Without a tag it would pull every one there is. */
export function pullReference(image: ImageSource): string {
  if (image.imageId !== null) return image.imageId;
  if (image.digest !== null) return pinned(image.reference, image.digest);
  const parts = parseImage(image.reference);
  return parts !== null && parts.tag === "latest" && !image.reference.endsWith(":latest") ? `${image.reference}:latest` : image.reference;
}

/** What a container is made from: a name with a digest is exact and readable, a tag is neither, so its image's id stands for it. */
export const runReference = (image: ImageSource, imageId: string): string =>
  image.imageId === null && image.digest !== null ? pinned(image.reference, image.digest) : imageId;

/** What berth has fetched, and so may remove. */
export interface PulledEntry {
  /** A name; or an id, of an image whose tag has moved on. */
  readonly reference: string;
  /** Null: a pull was begun, and what came of it is not known. */
  readonly imageId: string | null;
}

interface Pulled {
  readonly engine: Pick<Engine, "image" | "pull" | "removeImage">;
  readonly list: { entries(): readonly PulledEntry[]; put(entries: readonly PulledEntry[]): Promise<void> };
}

export interface PullOptions extends Pulled {
  readonly login: Login | null;
  readonly onProgress: (progress: { currentBytes: number; totalBytes: number }) => void;
  readonly signal: AbortSignal;
}

export interface LocalImage {
  readonly imageId: string;
  /** What a tag turned out to mean, for the node that was asked to find out. */
  readonly fact: ImageFact | null;
}

/** Killed at any moment, it leaves no image that nobody knows to be berth's: the intent is on disk before the pull. */
export async function pullImage(step: StepOf<"pull">, options: PullOptions): Promise<LocalImage> {
  const { engine, list } = options;
  const { image, policy } = step;
  const reference = pullReference(image);
  const isMutable = image.digest === null && image.imageId === null;
  const present = await engine.image(reference);
  const known = list.entries().find((entry) => entry.reference === reference);
  const others = () => list.entries().filter((entry) => entry.reference !== reference && entry.reference !== present?.id);
  const note = (imageId: string | null, former: readonly PulledEntry[] = []) => list.put([...others(), ...former, { reference, imageId }]);
  if (present !== null && !(policy === "always" && isMutable)) {
    if (known?.imageId === null) await note(present.id);
    return { imageId: present.id, fact: factOf(step, present) };
  }
  if (image.imageId !== null)
    throw new EngineError("notFound", `image ${image.imageId} is in no registry and not on this node; build or load it here`);
  if (policy === "never") throw new EngineError("notFound", `${reference} is not on this node, and its pull policy is "never"`);
  const isOurs = present === null || (known !== undefined && (known.imageId === null || known.imageId === present.id));
  const former = present === null ? [] : [{ reference: present.id, imageId: present.id }];
  if (isOurs) await note(null, former);
  try {
    await engine.pull(reference, options);
  } catch (error) {
    // Nothing came, and what somebody pulls later is theirs. Where the engine cannot say so, the intent stays.
    if (present === null && (await hasNone(engine, reference))) await list.put(others());
    throw explained(error, reference, { login: options.login, namespace: step.namespace });
  }
  const pulled = await engine.image(reference);
  if (pulled === null) throw new EngineError("failed", `${reference} was pulled and is not there`);
  if (isOurs) await note(pulled.id, pulled.id === present?.id ? [] : former);
  return { imageId: pulled.id, fact: factOf(step, pulled) };
}

const hasNone = (engine: Pulled["engine"], reference: string): Promise<boolean> =>
  engine.image(reference).then(
    (found) => found === null,
    () => false,
  );

/** Only what is still what berth pulled: a name that means something else now is somebody's. */
export async function removePulled(reference: string, { engine, list }: Pulled): Promise<void> {
  const known = list.entries().find((entry) => entry.reference === reference);
  const present = await engine.image(reference);
  const isSame = present !== null && known !== undefined && (known.imageId === null || known.imageId === present.id);
  // By its id the engine would take a name with it that somebody gave it.
  const hasOtherName = present !== null && present.id === reference && present.tags.length > 0;
  if (isSame && !hasOtherName) {
    try {
      await engine.removeImage(reference);
    } catch (error) {
      // Something that is not ours runs it: it is no longer ours to remove.
      if (!(error instanceof EngineError && error.code === "inUse")) throw error;
    }
  }
  // A pull that began meanwhile has written an entry of its own.
  await list.put(list.entries().filter((entry) => entry !== known));
}

/** A refusal in words that say what to do about it. */
function explained(
  error: unknown,
  reference: string,
  { login, namespace }: { readonly login: Login | null; readonly namespace: string },
): unknown {
  if (!(error instanceof EngineError)) return error;
  const registry = registryOf(reference) ?? reference;
  const fields = { cause: error, ...(error.status === null ? {} : { status: error.status }) };
  if (error.code === "denied") {
    const wanted = login === null ? "needs a login" : `does not accept the login of ${login.username}`;
    return new EngineError(
      "denied",
      `${registry} ${wanted} for ${reference}; run: ${loginCommand(registry, namespace)} (${error.message})`,
      fields,
    );
  }
  if (error.code === "notFound")
    return new EngineError("notFound", `there is no image ${reference}: push it, or correct its name (${error.message})`, fields);
  return error;
}

function factOf(step: StepOf<"pull">, found: { readonly id: string; readonly digests: readonly string[] }): ImageFact | null {
  if (!step.image.resolve) return null;
  const name = nameOf(step.image.reference);
  const wanted = parseImage(name);
  const digest = found.digests
    .map((entry) => ({ parts: parseImage(entry), digest: entry.split("@")[1] }))
    .find(({ parts }) => parts?.registry === wanted?.registry && parts?.repository === wanted?.repository)?.digest;
  const fact = ImageFact.safeParse({
    namespace: step.namespace,
    app: step.app,
    revision: step.revision,
    reference: step.image.reference,
    digest: digest ?? null,
    // With a digest other nodes pull the same; the id names what can be had on this node alone.
    imageId: digest === undefined ? found.id : null,
  });
  return fact.success ? fact.data : null;
}
