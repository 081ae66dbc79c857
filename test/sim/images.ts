/** The registry of a simulated world, and what its images do when they run. */
import { createHash } from "node:crypto";

export interface Behaviour {
  /** Ends by itself this long after its start; null: runs until it is stopped. */
  readonly exitAfterMs: number | null;
  readonly exitCode: number;
  /** From its start to the first good probe; null: never good. */
  readonly healthyAfterMs: number | null;
  /** From TERM to its end; null: it does not listen and has to be killed. */
  readonly stopMs: number | null;
}

const SOUND: Behaviour = { exitAfterMs: null, exitCode: 0, healthyAfterMs: 1_500, stopMs: 200 };

/** By the word after the colon. */
const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  crash: { ...SOUND, exitAfterMs: 700, exitCode: 1 },
  sick: { ...SOUND, healthyAfterMs: null },
  deaf: { ...SOUND, stopMs: null },
  slow: { ...SOUND, healthyAfterMs: 9_000, stopMs: 4_000 },
  job: { ...SOUND, exitAfterMs: 3_000, exitCode: 0 },
};

export interface RegistryImage {
  readonly repository: string;
  readonly digest: string;
  readonly id: string;
  readonly behaviour: Behaviour;
}

const sha256 = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** How a pull fails at the moment, if it does. */
export type RegistryWeather = "fair" | "denied" | "limited" | "broken" | "away";

export class SimRegistry {
  weather: RegistryWeather = "fair";
  readonly #tags = new Map<string, RegistryImage>();
  readonly #digests = new Map<string, RegistryImage>();

  /** `registry.test/web:1`; the same content again gives the same digest, another `content` moves the tag. */
  push(reference: string, content: string = reference): RegistryImage {
    const colon = reference.lastIndexOf(":");
    const repository = reference.slice(0, colon);
    const word = reference.slice(colon + 1).replace(/[0-9.]+$/, "");
    const image: RegistryImage = {
      repository,
      digest: sha256(`manifest ${content}`),
      id: sha256(`config ${content}`),
      behaviour: BEHAVIOURS[word] ?? SOUND,
    };
    this.#tags.set(reference, image);
    this.#digests.set(`${repository}@${image.digest}`, image);
    return image;
  }

  find(reference: string): RegistryImage | null {
    return this.#tags.get(reference) ?? this.#digests.get(reference) ?? null;
  }
}
