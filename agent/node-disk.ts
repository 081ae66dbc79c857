/** The Disk port over Node. One directory, 0700; files are 0600 unless a caller says otherwise. */
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Disk, PREVIOUS_SUFFIX } from "./ports.ts";

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";
/** As `writeAtomic` names them. */
const TEMPORARY = /\.\d+-\d+\.tmp$/;

/** Removes what writes that were cut off have left. Only for who holds the directory's lock: a write may be under way. */
export async function sweepTemporaries(root: string): Promise<void> {
  for (const path of await readdir(root, { recursive: true })) if (TEMPORARY.test(path)) await rm(join(root, path), { force: true });
}

/** What an agent's directory holds from its first minutes on; the first of them its owner may have written before. */
const OURS: ReadonlySet<string> = new Set(["policy.json", "lock", "identity.json", "bodies", "replicas"]);

/** A directory that was there before has whatever mode it was made with, as by an owner who wrote the policy first. */
async function closeToOthers(root: string): Promise<void> {
  const { mode } = await stat(root);
  if ((mode & 0o1000) !== 0) throw new Error(`${root} is shared by all users; name a directory of its own with --data-dir`);
  if ((mode & 0o077) === 0) return;
  const found = await readdir(root);
  // Whatever else it is, it is somebody's, and others may have to get in.
  if (found.length > 0 && !found.some((name) => OURS.has(name)))
    throw new Error(`${root} holds other things and is open to other users; name a directory of its own with --data-dir`);
  await chmod(root, 0o700);
}

export async function openDisk(root: string): Promise<Disk> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  await closeToOthers(root);
  const known = new Set<string>();
  let serial = 0;

  const absolute = (path: string): string => {
    if (path.startsWith("/") || path.split("/").includes("..")) throw new Error(`"${path}" leaves the data directory`);
    return join(root, path);
  };
  const sync = async (directory: string): Promise<void> => {
    const handle = await open(directory, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  };
  const directoryOf = async (file: string): Promise<string> => {
    const directory = dirname(file);
    if (!known.has(directory)) {
      // Containers of any user read configs below this; the root of it is closed to everyone else.
      const first = await mkdir(directory, { recursive: true, mode: 0o711 });
      // A directory is an entry of its parent: that is flushed too, or the file is lost with it.
      if (first !== undefined) for (let made = directory; made.length >= first.length; made = dirname(made)) await sync(dirname(made));
      known.add(directory);
    }
    return directory;
  };

  return {
    absolute,
    async read(path) {
      try {
        return await readFile(absolute(path));
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    async writeAtomic(path, content, { mode = 0o600, uid, gid, keepPrevious = false } = {}) {
      const file = absolute(path);
      const directory = await directoryOf(file);
      const temporary = `${file}.${process.pid}-${serial++}.tmp`;
      try {
        const handle = await open(temporary, "wx", mode);
        try {
          await handle.writeFile(content);
          // The umask took bits off at open.
          await handle.chmod(mode);
          if (uid !== undefined && gid !== undefined) await handle.chown(uid, gid);
          await handle.sync();
        } finally {
          await handle.close();
        }
        if (keepPrevious) {
          await rename(file, `${file}${PREVIOUS_SUFFIX}`).catch((error: unknown) => {
            if (!isMissing(error)) throw error;
          });
        }
        await rename(temporary, file);
      } catch (error) {
        await rm(temporary, { force: true });
        if (isMissing(error)) known.delete(directory);
        throw error;
      }
      await sync(directory);
    },
    async remove(path) {
      await rm(absolute(path), { recursive: true, force: true });
    },
    async list(path) {
      try {
        return (await readdir(absolute(path))).filter((name) => !TEMPORARY.test(name));
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
  };
}
