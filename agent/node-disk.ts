/** The Disk port over Node. One directory, 0700; files are 0600 unless a caller says otherwise. */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Disk } from "./ports.ts";

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";
export const PREVIOUS_SUFFIX = ".previous";

export async function openDisk(root: string): Promise<Disk> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const known = new Set<string>();
  let serial = 0;

  const absolute = (path: string): string => {
    if (path.startsWith("/") || path.split("/").includes("..")) throw new Error(`"${path}" leaves the data directory`);
    return join(root, path);
  };
  const directoryOf = async (file: string): Promise<string> => {
    const directory = dirname(file);
    if (!known.has(directory)) {
      // Containers of any user read configs below this; the root of it is closed to everyone else.
      await mkdir(directory, { recursive: true, mode: 0o711 });
      known.add(directory);
    }
    return directory;
  };
  const sync = async (directory: string): Promise<void> => {
    const handle = await open(directory, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
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
        return (await readdir(absolute(path))).filter((name) => !name.endsWith(".tmp"));
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
  };
}
