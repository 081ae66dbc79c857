/**
 * The example's image, made from files of this machine so that no registry is needed: the locked Node, the libraries it
 * is linked to, and the two small files of `examples/hello`. Its tag says what is in it, so it is made once.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { appendFile, mkdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { CliError } from "../exit.ts";
import type { EngineApi } from "./engine-api.ts";

const HELLO_REPOSITORY = "berth-hello";
const SCRIPTS = ["server.mjs", "health.mjs"] as const;
/** How the containers run: as nobody, and Node directly as the first process. */
const CHANGES = ['ENTRYPOINT ["/node"]', 'CMD ["/server.mjs"]', "EXPOSE 8080/tcp", "USER 65534:65534", "ENV NODE_ENV=production"] as const;

interface ImageFile {
  /** Path in the image, absolute. */
  readonly path: string;
  readonly source: string;
  readonly bytes: number;
  readonly mode: number;
}

/**
 * Paths of the libraries that a program is linked to and of the loader, as the loader itself finds them: what `ldd`
 * prints, without needing ldd.
 */
export async function librariesOf(program: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(program, [], { env: { LD_TRACE_LOADED_OBJECTS: "1" } });
  return [...stdout.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/gm)].map((match) => match[1] ?? "").filter((path) => path !== "");
}

async function filesOf(directory: string): Promise<ImageFile[]> {
  const node = process.execPath;
  const libraries = await librariesOf(node);
  const wanted = [
    { path: "/node", source: node, mode: 0o755 },
    ...libraries.map((path) => ({ path, source: path, mode: 0o755 })),
    ...SCRIPTS.map((name) => ({ path: `/${name}`, source: join(directory, name), mode: 0o644 })),
  ];
  return Promise.all(
    wanted.map(async (file) => {
      const source = await realpath(file.source);
      return { ...file, source, bytes: (await stat(source)).size };
    }),
  );
}

/** The scripts by content; the 120 MB of Node by version and size, because reading them would cost each start a tenth of a second. */
async function tagOf(files: readonly ImageFile[]): Promise<string> {
  const hash = createHash("sha256").update(`${process.version} ${process.arch}\n${CHANGES.join("\n")}\n`);
  for (const { path, source, bytes } of files) {
    const content = path.endsWith(".mjs")
      ? createHash("sha256")
          .update(await readFile(source))
          .digest("hex")
      : `${source} ${bytes}`;
    hash.update(`${path} ${content}\n`);
  }
  return hash.digest("hex").slice(0, 12);
}

const NOTE_FILE = "example-images";

async function notedImages(dataDir: string): Promise<string[]> {
  const text = await readFile(join(dataDir, NOTE_FILE), "utf8").catch(() => "");
  return [...new Set(text.split("\n").filter((reference) => reference !== ""))];
}

/** Written before the image is made, so that `--down` knows what was made from here, and leaves what another clone made. */
export async function noteHelloImage(dataDir: string, reference: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await appendFile(join(dataDir, NOTE_FILE), `${reference}\n`);
}

export async function removeHelloImages(engine: EngineApi, dataDir: string): Promise<void> {
  for (const reference of await notedImages(dataDir)) {
    const { status, text } = await engine.request("DELETE", `/images/${reference}`);
    // 409: containers of another clone's example run it, and it is theirs to remove.
    if (status >= 400 && status !== 404 && status !== 409)
      throw new CliError(`the container engine did not remove the image ${reference}: ${text.trim()}`);
  }
}

/** Reference of the image, made and imported when the engine does not have it. */
export async function ensureHelloImage(
  engine: EngineApi,
  directory: string,
  onMake: (reference: string) => Promise<void>,
): Promise<string> {
  const files = await filesOf(directory);
  const tag = await tagOf(files);
  const reference = `${HELLO_REPOSITORY}:${tag}`;
  if ((await engine.get(`/images/${reference}/json`)) !== null) return reference;
  await onMake(reference);
  const { pack } = await import("tar-stream");
  const archive = pack();
  const changes = CHANGES.map((change) => `&changes=${encodeURIComponent(change)}`).join("");
  const imported = engine.request(
    "POST",
    `/images/create?fromSrc=-&repo=${HELLO_REPOSITORY}&tag=${tag}&message=${encodeURIComponent("berth example")}${changes}`,
    { stream: Readable.from(archive), type: "application/x-tar" },
  );
  const [answer] = await Promise.all([imported, fill(archive, files)]);
  // The answer is a stream of JSON lines with status 200; a failure comes as its last line.
  if (answer.status !== 200 || answer.text.includes('"error"'))
    throw new CliError(`the container engine did not take the example's image: ${answer.text.trim()}`);
  return reference;
}

async function fill(archive: import("tar-stream").Pack, files: readonly ImageFile[]): Promise<void> {
  // The same bytes each time: a second import gives the same layer.
  const mtime = new Date(0);
  archive.entry({ name: "tmp", type: "directory", mode: 0o1777, mtime });
  archive.entry({ name: "etc/passwd", mode: 0o644, mtime }, "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n");
  for (const { path, source, bytes, mode } of files) {
    const entry = archive.entry({ name: path.slice(1), size: bytes, mode, mtime });
    await pipeline(createReadStream(source), entry);
  }
  archive.finalize();
}
