/** The data directory over the real file system: what is flushed, what a crash leaves, and who may use it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { FileHandle } from "node:fs/promises";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { runAgent } from "../../agent/main.ts";
import { nodeClock } from "../../agent/node-clock.ts";
import { openDisk, sweepTemporaries } from "../../agent/node-disk.ts";
import { lockDirectory } from "../../agent/node-lock.ts";

const flushed: string[] = [];
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const open = async (path: string, ...rest: [string, number?]): Promise<FileHandle> => {
    const handle = await real.open(path, ...rest);
    const sync = handle.sync.bind(handle);
    handle.sync = () => {
      flushed.push(path);
      return sync();
    };
    return handle;
  };
  return { ...real, open };
});

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-disk-"));
  flushed.length = 0;
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe("a write", () => {
  test("flushes the file, its directory, and the parents of directories that it made", async () => {
    const disk = await openDisk(dir);
    await disk.writeAtomic("a/b/c.json", "1");
    expect(flushed.filter((path) => !path.endsWith(".tmp")).sort()).toEqual([dir, join(dir, "a"), join(dir, "a/b")]);
    flushed.length = 0;
    await disk.writeAtomic("a/b/d.json", "1");
    expect(flushed.filter((path) => !path.endsWith(".tmp"))).toEqual([join(dir, "a/b")]);
  });

  test("that was cut off leaves nothing for ever, and what else is there stays", async () => {
    await mkdir(join(dir, "replicas"));
    for (const name of ["identity.json.77-1.tmp", "replicas/r.json.77-2.tmp", "replicas/r.json", "mine.tmp"])
      await writeFile(join(dir, name), "");
    await sweepTemporaries(dir);
    expect((await readdir(dir, { recursive: true })).sort()).toEqual(["mine.tmp", "replicas", "replicas/r.json"]);
  });
});

describe("the directory", () => {
  const modeOf = async (path: string) => (await stat(path)).mode & 0o7777;

  test("is closed to other users, also one that was there before, with the policy that is in it", async () => {
    await openDisk(join(dir, "new"));
    expect(await modeOf(join(dir, "new"))).toBe(0o700);
    await mkdir(join(dir, "old"));
    await chmod(join(dir, "old"), 0o755);
    await writeFile(join(dir, "old", "policy.json"), "{}", { mode: 0o644 });
    const disk = await openDisk(join(dir, "old"));
    expect(await modeOf(join(dir, "old"))).toBe(0o700);
    expect(new TextDecoder().decode((await disk.read("policy.json")) ?? undefined)).toBe("{}");
    expect(await readFile(join(dir, "old", "policy.json"), "utf8")).toBe("{}");
  });

  test("that all users share, as /tmp, is refused and left as it is", async () => {
    await chmod(dir, 0o1777);
    await expect(openDisk(dir)).rejects.toThrow("shared by all users");
    expect(await modeOf(dir)).toBe(0o1777);
  });
});

describe("the lock", () => {
  test("is one holder's, in this process too, and free when it was let go", async () => {
    const release = await lockDirectory(dir, nodeClock);
    expect(await lockDirectory(dir, nodeClock)).toBeNull();
    release?.();
    const again = await lockDirectory(dir, nodeClock);
    expect(again).not.toBeNull();
    again?.();
  });

  test("goes with a process that is killed", async () => {
    const script = `import { lockDirectory } from ${JSON.stringify(fileURLToPath(new URL("../../agent/node-lock.ts", import.meta.url)))};
      import { nodeClock } from ${JSON.stringify(fileURLToPath(new URL("../../agent/node-clock.ts", import.meta.url)))};
      console.log((await lockDirectory(${JSON.stringify(dir)}, nodeClock)) === null ? "taken" : "held");
      setInterval(() => undefined, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    expect(String((await once(holder.stdout, "data"))[0])).toContain("held");
    expect(await lockDirectory(dir, nodeClock)).toBeNull();
    holder.kill("SIGKILL");
    await once(holder, "exit");
    const release = await lockDirectory(dir, nodeClock);
    expect(release).not.toBeNull();
    release?.();
  });

  test("is had though its file holds rubbish", async () => {
    await writeFile(join(dir, "lock"), "rubbish".repeat(200));
    const release = await lockDirectory(dir, nodeClock);
    expect(release).not.toBeNull();
    release?.();
  });

  test("is nothing that somebody without access to the directory can take", async () => {
    const digest = createHash("sha256").update(dir).digest("hex").slice(0, 32);
    const squatter = createServer().listen(`\0berth-agent-${digest}`);
    await once(squatter, "listening");
    const release = await lockDirectory(dir, nodeClock);
    squatter.close();
    expect(release).not.toBeNull();
    release?.();
  });
});

test("an agent that has not joined says so and leaves nothing behind", async () => {
  const dataDir = join(dir, "lib/berth");
  await expect(runAgent({ dataDir, env: {} })).rejects.toMatchObject({ code: "notJoined" });
  expect(await readdir(dir)).toEqual([]);
});
