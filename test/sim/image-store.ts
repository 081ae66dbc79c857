/** The images of one engine: each by its id, with the tags and digests that name it there. */
import type { RegistryImage } from "./images.ts";

export interface HeldImage {
  readonly image: RegistryImage;
  readonly tags: Set<string>;
  readonly digests: Set<string>;
}

export class ImageStore {
  readonly #byId = new Map<string, HeldImage>();

  /** By id, tag or `repository@digest`. */
  find(reference: string): HeldImage | null {
    const byId = this.#byId.get(reference);
    if (byId !== undefined) return byId;
    for (const held of this.#byId.values()) if (held.tags.has(reference) || held.digests.has(reference)) return held;
    return null;
  }

  /** A tag that meant another image leaves that one without it. */
  pulled(reference: string, image: RegistryImage): void {
    const held = this.#byId.get(image.id) ?? { image, tags: new Set(), digests: new Set() };
    this.#byId.set(image.id, held);
    held.digests.add(`${image.repository}@${image.digest}`);
    if (reference.includes("@")) return;
    for (const other of this.#byId.values()) other.tags.delete(reference);
    held.tags.add(reference);
  }

  /** What is left of its names when this one goes; by its id or its digest all go. */
  namesWithout(held: HeldImage, reference: string): ReadonlySet<string> {
    return held.tags.has(reference) ? new Set([...held.tags].filter((tag) => tag !== reference)) : new Set();
  }

  /** Takes the name away, and the image with its last tag. True: it is gone. */
  untag(held: HeldImage, reference: string): boolean {
    const isLast = this.namesWithout(held, reference).size === 0;
    held.tags.delete(reference);
    if (isLast) this.#byId.delete(held.image.id);
    return isLast;
  }

  clear(): HeldImage[] {
    const held = [...this.#byId.values()];
    this.#byId.clear();
    return held;
  }
}
