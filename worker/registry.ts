/**
 * What a tag means, asked of its registry over the distribution API: `HEAD /v2/<name>/manifests/<tag>`, with token or
 * Basic authentication as the registry demands. The Registry port over fetch.
 *
 * A reference is chosen by whoever may deploy, so this is a request to a host of their choice: only HEAD and GET, no
 * redirects, no answer but a digest, and a token is fetched from where the registry says only over TLS (or from a
 * registry that is plain itself). Link-local addresses are refused (registry-fetch.ts); loopback and private ones are
 * where people who host for themselves have their registries.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { z } from "zod";
import { errorText } from "./error-text.ts";
import { type ImageParts, parseImage } from "../shared/model/image.ts";
import type { Log, Registry } from "./ports.ts";
import { makeRegistryFetch, type RegistryFetch, type ResolveName } from "./registry-fetch.ts";

export interface RegistryOptions {
  /** Hosts (with port) that speak plain HTTP. Loopback addresses always do, as in the Docker engine. */
  readonly plain: ReadonlySet<string>;
  readonly log: Log;
  /** Of names; the system's unless given. */
  readonly resolveName?: ResolveName;
}

const MANIFEST_BYTES_MAX = 4_194_304;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** Indexes first: a digest has to stand for every platform. */
const ACCEPT = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

type Credentials = { readonly username: string; readonly password: string };

type Answer = Awaited<ReturnType<RegistryFetch>>;

export function makeRegistry({ plain, log, resolveName }: RegistryOptions): Registry {
  const fetch = makeRegistryFetch(resolveName);
  return {
    resolve: async (reference, { credentials, signal }) => {
      const image = parseImage(reference);
      if (image === null) return null;
      if (image.digest !== null) return DIGEST.test(image.digest) ? { digest: image.digest } : null;
      const host = hostOf(image.registry);
      const isPlain = plain.has(image.registry) || isLoopback(host);
      const asking = {
        image,
        isPlain,
        fetch,
        url: `${isPlain ? "http" : "https"}://${host}/v2/${image.repository}/manifests/${image.tag}`,
        signal,
      };
      try {
        const digest = await askDigest(asking, credentials);
        return digest === null ? null : { digest };
      } catch (error) {
        log.warn(
          { registry: image.registry, repository: image.repository, error: errorText(error) },
          "a registry could not be asked what a tag means",
        );
        return null;
      }
    },
  };
}

const hostOf = (registry: string): string => (registry === "docker.io" ? "registry-1.docker.io" : registry);

function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, "");
  return name === "localhost" || /^127(?:\.[0-9]{1,3}){3}$/.test(name);
}

interface Asking {
  readonly image: ImageParts;
  readonly isPlain: boolean;
  readonly fetch: RegistryFetch;
  readonly url: string;
  readonly signal: AbortSignal;
}

async function askDigest(asking: Asking, credentials: Credentials | null): Promise<string | null> {
  let answer = await ask(asking, "HEAD", null);
  let authorization: string | null = null;
  if (answer.status === 401) {
    authorization = await authorize(asking, answer.headers.get("www-authenticate") ?? "", credentials);
    if (authorization === null) return null;
    answer = await ask(asking, "HEAD", authorization);
  }
  if (!answer.ok) return null;
  const said = answer.headers.get("docker-content-digest");
  if (said !== null) return DIGEST.test(said) ? said : null;
  // Some registries answer HEAD without the digest; it is the hash of what GET answers.
  const whole = await ask(asking, "GET", authorization);
  if (!whole.ok) return refused(whole);
  const bytes = await readAtMost(whole, MANIFEST_BYTES_MAX);
  return bytes === null ? null : `sha256:${bytesToHex(sha256(bytes))}`;
}

function ask({ fetch, url, signal }: Asking, method: "HEAD" | "GET", authorization: string | null): Promise<Answer> {
  const headers: Record<string, string> = { accept: ACCEPT, ...(authorization === null ? {} : { authorization }) };
  return fetch(url, { method, headers, signal, redirect: "manual" });
}

/** Its socket would wait for the rest of a body that nobody reads. */
async function refused(answer: Answer): Promise<null> {
  await answer.body?.cancel();
  return null;
}

/** The Authorization header that the registry's challenge asks for; null when it cannot be had. */
async function authorize(asking: Asking, challenge: string, credentials: Credentials | null): Promise<string | null> {
  const basic = credentials === null ? null : `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
  if (/^basic\b/i.test(challenge)) return basic;
  if (!/^bearer\b/i.test(challenge)) return null;
  const parameters = new Map(
    [...challenge.matchAll(/([a-z]{1,20})="([^"]{0,1024})"/gi)].map(([, name = "", value = ""]) => [name.toLowerCase(), value]),
  );
  const realm = URL.parse(parameters.get("realm") ?? "");
  // A plain registry may name a plain realm on its own host; a password never goes over plain HTTP elsewhere.
  const isAllowed =
    realm !== null &&
    (realm.protocol === "https:" || (asking.isPlain && realm.protocol === "http:" && realm.hostname === new URL(asking.url).hostname));
  if (!isAllowed) return null;
  const service = parameters.get("service");
  if (service !== undefined) realm.searchParams.set("service", service);
  realm.searchParams.set("scope", `repository:${asking.image.repository}:pull`);
  const answer = await asking.fetch(realm, {
    headers: basic === null ? {} : { authorization: basic },
    signal: asking.signal,
    redirect: "manual",
  });
  if (!answer.ok) return refused(answer);
  const bytes = await readAtMost(answer, 65_536);
  const token = TokenAnswer.safeParse(bytes === null ? null : JSON.parse(new TextDecoder().decode(bytes)));
  const bearer = token.success ? (token.data.token ?? token.data.access_token) : undefined;
  return bearer === undefined ? null : `Bearer ${bearer}`;
}

const BearerToken = z
  .string()
  .max(32_768)
  .regex(/^[\x21-\x7e]+$/);
const TokenAnswer = z.object({ token: BearerToken.optional(), access_token: BearerToken.optional() });

async function readAtMost(answer: Answer, maxBytes: number): Promise<Uint8Array | null> {
  if (answer.body === null) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of answer.body) {
    length += chunk.byteLength;
    if (length > maxBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
