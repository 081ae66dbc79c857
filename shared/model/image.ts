/** The parts of an image reference, by the rules of the Docker CLI: the first part names a registry if it looks like a host. */

export interface ImageParts {
  /** Host and port; `docker.io` when the reference names none. The name under which credentials are kept. */
  readonly registry: string;
  /** Path inside the registry, with `library/` for Docker's own. */
  readonly repository: string;
  /** `latest` when neither tag nor digest is given; null with a digest alone. */
  readonly tag: string | null;
  readonly digest: string | null;
}

const DOCKER_HUB = "docker.io";
const DOCKER_HUB_NAMES: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/** Null for a bare image id (`sha256:…`), which is in no registry. */
export function parseImage(reference: string): ImageParts | null {
  if (reference.startsWith("sha256:")) return null;
  const [named = "", digest = null] = reference.split("@", 2);
  const slash = named.indexOf("/");
  const first = slash === -1 ? "" : named.slice(0, slash);
  const isHost = first.includes(".") || first.includes(":") || first === "localhost";
  const registry = isHost && !DOCKER_HUB_NAMES.has(first.toLowerCase()) ? first.toLowerCase() : DOCKER_HUB;
  const path = isHost ? named.slice(slash + 1) : named;
  const colon = path.lastIndexOf(":");
  const bare = colon === -1 ? path : path.slice(0, colon);
  const tag = colon === -1 ? (digest === null ? "latest" : null) : path.slice(colon + 1);
  const repository = registry === DOCKER_HUB && !bare.includes("/") ? `library/${bare}` : bare;
  return { registry, repository, tag, digest };
}

/** What a person runs to give a namespace a login to a registry. Said by agents and the control plane, so that the CLI can offer it. */
export const loginCommand = (registry: string, namespace: string): string => `berth registry login ${registry} -n ${namespace}`;
/** A name ends in a letter or digit, so a full stop behind it is the sentence's. */
const LOGIN_COMMAND = /\bberth registry login [a-z0-9.:-]+ -n [a-z0-9](?:[a-z0-9._-]*[a-z0-9])?/;
/** The login command that a sentence names; null: none. */
export const loginCommandIn = (sentence: string): string | null => LOGIN_COMMAND.exec(sentence)?.[0] ?? null;

/** The registry that a reference is pulled from; null for a bare image id. */
export const registryOf = (reference: string): string | null => parseImage(reference)?.registry ?? null;
