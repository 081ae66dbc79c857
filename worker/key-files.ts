/** Keys on disk: one file each, readable by the owner alone. The KeyFiles port over node:fs. */
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { KeyFiles } from "./init.ts";

const OWNER_ONLY_FILE = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const OTHERS = 0o077;

/** `folder` is made when it is missing. Throws when a key file can be read by others: it may have been copied. */
export function keyFilesIn(folder: string): KeyFiles {
  return {
    read: async (name) => {
      const path = join(folder, name);
      try {
        const { mode } = statSync(path);
        if ((mode & OTHERS) !== 0)
          throw new Error(
            `${path} can be read by other users of this machine (mode ${(mode & 0o777).toString(8)}); run chmod 600 on it, and rotate the keys if others may have read it`,
          );
        return readFileSync(path, "utf8");
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    create: async (name, text) => {
      mkdirSync(folder, { recursive: true, mode: OWNER_ONLY_FOLDER });
      const path = join(folder, name);
      const draft = `${path}.${process.pid}.new`;
      rmSync(draft, { force: true });
      const file = openSync(draft, "wx", OWNER_ONLY_FILE);
      try {
        writeSync(file, text);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      // A link fails when the name is taken, where a rename would overwrite a key that something was signed with.
      try {
        linkSync(draft, path);
      } finally {
        rmSync(draft);
      }
      syncFolder(folder);
    },
  };
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT";
