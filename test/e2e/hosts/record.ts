// The record of everything a lab makes. Invariants:
// - an entry is on disk before the thing it names is made, so a run killed at any point can be swept;
// - the sweep touches nothing that has no entry;
// - a lab whose owner lives is never swept by another process.
import { closeSync, fdatasyncSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { lstat, mkdir, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { execute } from "./command.ts";
import { endProcess, identify, isAlive, type ProcessIdentity } from "./identity.ts";
import { until } from "./until.ts";

const LABS_DIR = "/tmp";
const LAB_PREFIX = "berth-lab-";
const RECORD_FILE = "record.jsonl";
const CGROUP_DIR = "/sys/fs/cgroup";

type Entries = {
  /** The process that runs the lab, and the boot it lives in: after a real reboot only files are left. */
  owner: ProcessIdentity & { bootId: string };
  process: ProcessIdentity & { what: string };
  link: { name: string };
  /** A rule as `iptables -A` takes it, chain first. */
  iptables: { rule: string[] };
  /** A directory below each mounted hierarchy's root. */
  cgroup: { name: string };
};
type Kind = keyof Entries;
type EntryOf<K extends Kind> = { kind: K } & Entries[K];
export type Entry = { [K in Kind]: EntryOf<K> }[Kind];

/** In the order of removal: what runs goes first, for it holds the rest. The lab's directory is last of all. */
const REMOVERS: { [K in Exclude<Kind, "owner">]: (entry: Entries[K]) => Promise<void> } = {
  process: endProcess,
  link: async ({ name }) => {
    if (await linkExists(name)) await execute(["ip", "link", "delete", name]);
  },
  iptables: async ({ rule }) => {
    const exists = await execute(["iptables", "-w", "-C", ...rule]);
    if (exists.code === 0) await execute(["iptables", "-w", "-D", ...rule]);
  },
  cgroup: removeCgroup,
};

export class LabRecord {
  readonly dir: string;
  readonly #fd: number;

  private constructor(dir: string, fd: number) {
    this.dir = dir;
    this.#fd = fd;
  }

  /** Sweeps what a dead run of this name left, then opens a new record in a new directory. */
  static async open(name: string): Promise<LabRecord> {
    await sweepLab(name);
    const dir = labDir(name);
    await mkdir(dir, { mode: 0o755 });
    const fd = openSync(join(dir, RECORD_FILE), "ax", 0o600);
    const record = new LabRecord(dir, fd);
    record.add({ kind: "owner", ...ownIdentity(), bootId: machineBootId() });
    return record;
  }

  /** Durable when it returns. Call it before making the thing. */
  add(entry: Entry): void {
    writeSync(this.#fd, `${JSON.stringify(entry)}\n`);
    fdatasyncSync(this.#fd);
  }

  /** Claims a name for a network link; throws when a link that is not this lab's has it. */
  async addLink(name: string): Promise<void> {
    if (await linkExists(name)) {
      throw new Error(`A network link ${name} exists that this lab did not make; remove it or rename the lab.`);
    }
    this.add({ kind: "link", name });
  }

  /** Removes everything recorded, and the record. */
  async close(): Promise<void> {
    closeSync(this.#fd);
    await removeAll(this.dir);
  }
}

/** Removes what a dead run of the lab left; true when there was anything. Throws when the lab is in use. */
export async function sweepLab(name: string): Promise<boolean> {
  const dir = labDir(name);
  const found = await lstat(dir).catch(() => undefined);
  if (found === undefined) return false;
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new Error(`${dir} is not a directory of this user: it is no lab's, and stays untouched.`);
  }
  const owner = readEntries(dir).find((entry) => entry.kind === "owner");
  if (owner !== undefined && owner.bootId === machineBootId() && isAlive(owner)) {
    throw new Error(`The lab ${name} is in use by process ${owner.pid}.`);
  }
  await removeAll(dir);
  return true;
}

/** The names of the labs that have a directory, in use or not. */
export function labNames(): string[] {
  return readdirSync(LABS_DIR)
    .filter((entry) => entry.startsWith(LAB_PREFIX))
    .map((entry) => entry.slice(LAB_PREFIX.length));
}

export function labDir(name: string): string {
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) {
    throw new Error(`"${name}" cannot name a lab: lower-case letters, digits and dashes, 31 at most.`);
  }
  return join(LABS_DIR, LAB_PREFIX + name);
}

async function removeAll(dir: string): Promise<void> {
  const entries = readEntries(dir);
  const sameBoot = entries.some((entry) => entry.kind === "owner" && entry.bootId === machineBootId());
  if (sameBoot) {
    for (const kind of Object.keys(REMOVERS) as Exclude<Kind, "owner">[]) {
      await Promise.all(entries.filter((entry) => entry.kind === kind).map(remove));
    }
  }
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
}

async function remove(entry: Entry): Promise<void> {
  if (entry.kind === "owner") return;
  const remover = REMOVERS[entry.kind] as (entry: Entry) => Promise<void>;
  await remover(entry);
}

function readEntries(dir: string): Entry[] {
  let text: string;
  try {
    text = readFileSync(join(dir, RECORD_FILE), "utf8");
  } catch {
    return [];
  }
  // A last line without its end was not yet durable: what it names was not made.
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Entry);
}

async function removeCgroup({ name }: { name: string }): Promise<void> {
  const roots = [CGROUP_DIR, ...(await subdirectories(CGROUP_DIR))];
  const own = roots.map((root) => join(root, name));
  // The kernel empties a group a moment after the last process in it has been reaped.
  await until(`the cgroups ${name} to empty`, async () => {
    for (const path of own) await removeTree(path);
    return true;
  });
}

/** Deepest first; `rm -r` cannot do it, since a cgroup's files cannot be unlinked. */
async function removeTree(path: string): Promise<void> {
  for (const child of await subdirectories(path)) await removeTree(child);
  await rmdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}

async function subdirectories(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name));
}

async function linkExists(name: string): Promise<boolean> {
  return (await execute(["ip", "link", "show", "dev", name])).code === 0;
}

function ownIdentity(): ProcessIdentity {
  const identity = identify(process.pid);
  if (identity === undefined) throw new Error("/proc does not show this process: the lab needs a mounted /proc.");
  return identity;
}

function machineBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
