import { randomInt } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mustExecute } from "./command.ts";
import type { RegistryLogin } from "./engine-client.ts";
import { type Blob, buildImage, type ImageSpec } from "./image.ts";
import type { LabRecord } from "./record.ts";
import { Spawned } from "./spawned.ts";
import { until } from "./until.ts";

/** How containers and specs name a pushed image. */
export type ImageReference = {
  /** registry/name:tag */
  tag: string;
  /** registry/name@sha256:… */
  pinned: string;
  digest: string;
};

export type RegistryGround = { record: LabRecord; dir: string; ip: string; port: number; auth: RegistryLogin | undefined };

/** An image registry on the bridge, plain HTTP, with or without a login. */
export class Registry {
  /** "ip:port", the first part of an image's name. */
  readonly address: string;
  readonly auth: RegistryLogin | undefined;
  readonly #ground: RegistryGround;
  #server: Spawned | undefined;

  constructor(ground: RegistryGround) {
    this.address = `${ground.ip}:${ground.port}`;
    this.auth = ground.auth;
    this.#ground = ground;
  }

  /** Starts it, or starts it again with what was pushed before. */
  async start(): Promise<void> {
    if (this.#server?.running === true) throw new Error(`The registry ${this.address} is already running.`);
    const { record, dir } = this.#ground;
    const config = join(dir, "config.yml");
    await mkdir(join(dir, "data"), { recursive: true });
    await writeFile(config, await this.#config());
    const server = await Spawned.recorded(record, ["docker-registry", "serve", config], {
      logFile: join(dir, "registry.log"),
    });
    this.#server = server;
    const answer = await until(
      `the registry ${this.address} to answer`,
      async () => (server.running ? (await this.#fetch("GET", "/v2/")).ok : "ended"),
      { detail: () => server.logTail() },
    );
    if (answer === "ended") throw new Error(`The registry ${this.address} ended:\n${await server.logTail()}`);
  }

  async stop(): Promise<void> {
    await this.#server?.stop("SIGKILL");
  }

  /** Makes an image and pushes it. `nameTag` is "web:1" or "team/web:1". */
  async push(nameTag: string, spec?: ImageSpec): Promise<ImageReference> {
    const [name, tag] = parse(nameTag);
    const image = await buildImage(nameTag, spec);
    await Promise.all([image.config, ...image.layers].map((blob) => this.#pushBlob(name, blob)));
    await this.#must("PUT", `/v2/${name}/manifests/${tag}`, image.manifest.bytes, image.manifestType);
    const repository = `${this.address}/${name}`;
    const { digest } = image.manifest;
    return { tag: `${repository}:${tag}`, pinned: `${repository}@${digest}`, digest };
  }

  async #pushBlob(name: string, { digest, bytes }: Blob): Promise<void> {
    if ((await this.#fetch("HEAD", `/v2/${name}/blobs/${digest}`)).ok) return;
    const begun = await this.#must("POST", `/v2/${name}/blobs/uploads/`);
    const location = new URL(begun.headers.get("location") ?? "", `http://${this.address}`);
    location.searchParams.set("digest", digest);
    await this.#must("PUT", location.pathname + location.search, bytes, "application/octet-stream");
  }

  async #must(method: string, path: string, body?: Buffer, type?: string): Promise<Response> {
    const response = await this.#fetch(method, path, body, type);
    if (response.ok) return response;
    throw new Error(`The registry answered ${method} ${path} with ${response.status}: ${await response.text()}`);
  }

  #fetch(method: string, path: string, body?: Buffer, type?: string): Promise<Response> {
    const headers = new Headers();
    if (type !== undefined) headers.set("content-type", type);
    if (this.auth !== undefined) {
      const login = Buffer.from(`${this.auth.user}:${this.auth.password}`).toString("base64");
      headers.set("authorization", `Basic ${login}`);
    }
    return fetch(`http://${this.address}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: new Uint8Array(body) }),
    });
  }

  async #config(): Promise<string> {
    const { dir, auth } = this.#ground;
    const lines = [
      "version: 0.1",
      "log: { level: warn }",
      `storage: { filesystem: { rootdirectory: ${join(dir, "data")} }, delete: { enabled: true } }`,
      `http: { addr: "${this.address}", secret: lab }`,
    ];
    if (auth !== undefined) {
      const file = join(dir, "htpasswd");
      await writeFile(file, `${auth.user}:${await bcrypt(auth.password)}\n`);
      lines.push(`auth: { htpasswd: { realm: lab, path: ${file} } }`);
    }
    return `${lines.join("\n")}\n`;
  }
}

function parse(nameTag: string): [name: string, tag: string] {
  const [, name, tag] = /^([a-z0-9][a-z0-9._/-]*):([\w.-]+)$/.exec(nameTag) ?? [];
  if (name === undefined || tag === undefined) throw new Error(`"${nameTag}" is not a name with a tag, as "web:1".`);
  return [name, tag];
}

/** By the C library's crypt, through the Perl that every Debian has: the registry takes bcrypt only. */
async function bcrypt(password: string): Promise<string> {
  const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const salt = Array.from({ length: 21 }, () => alphabet.charAt(randomInt(alphabet.length))).join("");
  // A salt is 128 bits in 22 characters of six: the last one has two bits, these are its four values.
  const setting = `$2y$05$${salt}${".Oeu".charAt(randomInt(4))}`;
  return mustExecute(["perl", "-e", "my ($p, $s) = <STDIN>; chomp($p, $s); print crypt($p, $s)"], {
    input: `${password}\n${setting}\n`,
  });
}
