import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { pack } from "tar-stream";
import { mustExecute } from "./command.ts";

const BUSYBOX = "/bin/busybox";

export type ImageFile = string | Uint8Array | { content: string | Uint8Array; mode: number };

export type ImageSpec = {
  /** By absolute path. A file whose content begins with `#!` is executable. */
  files?: Readonly<Record<string, ImageFile>>;
  /** Default: serve /www, with CGI, on $PORT or 8080; ends at once on SIGTERM. */
  cmd?: readonly string[];
  env?: Readonly<Record<string, string>>;
  user?: string;
  workdir?: string;
  exposedPorts?: readonly string[];
  labels?: Readonly<Record<string, string>>;
  stopSignal?: string;
  volumes?: readonly string[];
  /** Times in the engine's unit, nanoseconds. */
  healthcheck?: { Test: readonly string[]; Interval?: number; Timeout?: number; Retries?: number; StartPeriod?: number };
};

export type Blob = { digest: string; bytes: Buffer };

/** As a registry stores it. */
export type Image = {
  manifest: Blob;
  manifestType: string;
  config: Blob;
  layers: Blob[];
};

const MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/** As a container's first process a shell ignores SIGTERM unless it is told not to: then stopping takes 10 s. */
const DEFAULT_SERVER = `#!/bin/sh
trap 'exit 0' TERM INT
httpd -f -p "\${PORT:-8080}" -h /www &
wait $!
`;
const HOSTNAME_CGI = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
hostname
`;
const ENV_CGI = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
env
`;

/**
 * Makes an image of busybox and the given files: 2 MB, of which all images share all but a few kB.
 * The same input gives the same digest. `name` is what the default server's front page says.
 */
export async function buildImage(name: string, spec: ImageSpec = {}): Promise<Image> {
  const base = await baseLayer();
  const files = {
    "/server": DEFAULT_SERVER,
    "/www/index.html": `${name}\n`,
    "/www/cgi-bin/hostname": HOSTNAME_CGI,
    "/www/cgi-bin/env": ENV_CGI,
    ...spec.files,
  };
  const own = await layerOf(Object.entries(files).map(([path, file]) => entryOf(path, file)));
  const layers = [base, own];
  const config = blob(
    Buffer.from(
      JSON.stringify({
        architecture: process.arch === "x64" ? "amd64" : process.arch,
        os: "linux",
        config: containerConfig(spec),
        rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
        history: layers.map(() => ({ created: "1970-01-01T00:00:00Z", created_by: "berth test lab" })),
        created: "1970-01-01T00:00:00Z",
      }),
    ),
  );
  const manifest = blob(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MANIFEST_TYPE,
        config: { mediaType: CONFIG_TYPE, size: config.bytes.length, digest: config.digest },
        layers: layers.map(({ bytes, digest }) => ({ mediaType: LAYER_TYPE, size: bytes.length, digest })),
      }),
    ),
  );
  return { manifest, manifestType: MANIFEST_TYPE, config, layers };
}

function containerConfig(spec: ImageSpec): Record<string, unknown> {
  const { PATH = "/bin", ...env } = spec.env ?? {};
  return {
    Cmd: spec.cmd ?? ["/server"],
    Env: Object.entries({ PATH, ...env }).map(([key, value]) => `${key}=${value}`),
    ExposedPorts: setOf(spec.exposedPorts ?? (spec.cmd === undefined ? ["8080/tcp"] : [])),
    Volumes: setOf(spec.volumes ?? []),
    Labels: spec.labels ?? {},
    User: spec.user ?? "",
    WorkingDir: spec.workdir ?? "/",
    ...(spec.stopSignal === undefined ? {} : { StopSignal: spec.stopSignal }),
    ...(spec.healthcheck === undefined ? {} : { Healthcheck: spec.healthcheck }),
  };
}

function setOf(keys: readonly string[]): Record<string, object> {
  return Object.fromEntries(keys.map((key) => [key, {}]));
}

type TarEntry =
  | { kind: "file"; path: string; content: Buffer; mode: number }
  | { kind: "link"; path: string; target: string }
  | { kind: "directory"; path: string; mode: number };
type Layer = Blob & { diffId: string };

let sharedBase: Promise<Layer> | undefined;

function baseLayer(): Promise<Layer> {
  sharedBase ??= makeBaseLayer();
  return sharedBase;
}

async function makeBaseLayer(): Promise<Layer> {
  const listed = (await mustExecute([BUSYBOX, "--list"])).split("\n");
  const applets = listed.filter((applet) => applet !== "" && applet !== "busybox");
  return layerOf([
    { kind: "directory", path: "/tmp", mode: 0o1777 },
    { kind: "file", path: "/bin/busybox", content: await readFile(BUSYBOX), mode: 0o755 },
    ...applets.map((applet) => ({ kind: "link", path: `/bin/${applet}`, target: "busybox" }) as const),
    { kind: "file", path: "/etc/passwd", content: Buffer.from("root:x:0:0:root:/:/bin/sh\n"), mode: 0o644 },
    { kind: "file", path: "/etc/group", content: Buffer.from("root:x:0:\n"), mode: 0o644 },
  ]);
}

function entryOf(path: string, file: ImageFile): TarEntry {
  if (!path.startsWith("/")) throw new Error(`A file of an image needs an absolute path, not "${path}".`);
  const given = typeof file === "string" || file instanceof Uint8Array ? { content: file } : file;
  const content = Buffer.from(given.content);
  const mode = "mode" in given ? given.mode : content.subarray(0, 2).toString() === "#!" ? 0o755 : 0o644;
  return { kind: "file", path, content, mode };
}

async function layerOf(entries: readonly TarEntry[]): Promise<Layer> {
  const archive = pack();
  // The same bytes in every run: digests can be compared, and a second push finds its blobs there.
  const mtime = new Date(0);
  for (const entry of entries) {
    const name = entry.path.slice(1);
    if (entry.kind === "file") archive.entry({ name, mode: entry.mode, mtime }, entry.content);
    if (entry.kind === "link") archive.entry({ name, type: "symlink", linkname: entry.target, mtime });
    if (entry.kind === "directory") archive.entry({ name, type: "directory", mode: entry.mode, mtime });
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  const tar = Buffer.concat(chunks);
  return { ...blob(await promisify(gzip)(tar, { level: 1 })), diffId: digestOf(tar) };
}

function blob(bytes: Buffer): Blob {
  return { bytes, digest: digestOf(bytes) };
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
