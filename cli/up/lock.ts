/** One `berth up` a directory: who holds it, and who holds the port. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { basename, join } from "node:path";
import { visible } from "../render/visible.ts";

const LOCK_FILE = "up.json";

export interface Holder {
  readonly pid: number;
  readonly url: string;
}
interface LockRecord extends Holder {
  readonly started: string;
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

/** Start of a process in clock ticks since boot: with its pid it names one process for ever. Empty: it is gone. */
function startOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? "" : (fields[19] ?? "");
}

/** The `berth up` that runs in this data directory now; null: none. */
export async function holderOf(dataDir: string): Promise<Holder | null> {
  try {
    const record = JSON.parse(await readFile(join(dataDir, LOCK_FILE), "utf8")) as LockRecord;
    return record.pid !== process.pid && startOf(record.pid) === record.started ? { pid: record.pid, url: record.url } : null;
  } catch {
    return null;
  }
}

export async function hold(dataDir: string, url: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await writeFile(
    join(dataDir, LOCK_FILE),
    `${JSON.stringify({ pid: process.pid, started: startOf(process.pid), url } satisfies LockRecord)}\n`,
    { mode: 0o600 },
  );
}

export const release = (dataDir: string): Promise<void> => rm(join(dataDir, LOCK_FILE), { force: true });

export const isAlive = (pid: number): boolean => startOf(pid) !== "";

export function isPortTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, timeout: 1_000 });
    const answer = (taken: boolean) => (): void => {
      socket.destroy();
      resolve(taken);
    };
    socket.once("connect", answer(true)).once("error", answer(false)).once("timeout", answer(true));
  });
}

/** What somebody typed to start a process, shortened; its own name for it where that cannot be seen. */
function commandOf(pid: string): string {
  const words = readText(`/proc/${pid}/cmdline`)
    .split("\0")
    .filter((word) => word !== "");
  const text = words
    .slice(0, 3)
    .map((word, at) => (at === 0 ? basename(word) : word))
    .join(" ");
  return visible(text === "" ? readText(`/proc/${pid}/comm`).trim() : text).slice(0, 80);
}

/** Who listens on a TCP port, as "name (pid 123)"; null when that cannot be seen. */
export function listenerOn(port: number): string | null {
  const inodes = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const row of readText(table).split("\n").slice(1)) {
      // sl local_address rem_address st … inode; state 0A is LISTEN.
      const fields = row.trim().split(/\s+/);
      if (fields[3] === "0A" && Number.parseInt(fields[1]?.split(":")[1] ?? "", 16) === port && fields[9] !== undefined)
        inodes.add(`socket:[${fields[9]}]`);
    }
  }
  if (inodes.size === 0) return null;
  for (const pid of readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
    try {
      for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
        if (inodes.has(readlinkSync(`/proc/${pid}/fd/${descriptor}`))) return `${commandOf(pid)} (pid ${pid})`;
      }
    } catch {
      // Another account's process, or one that ended meanwhile.
    }
  }
  return null;
}
