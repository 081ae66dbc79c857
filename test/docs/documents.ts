/** The documents of this repository: every Markdown file that git keeps, or will keep. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { mustExecute } from "../e2e/hosts/command.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));

export async function files(): Promise<string[]> {
  const listed = await mustExecute(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root });
  return listed.split("\0").filter((path) => path !== "" && existsSync(join(root, path)));
}

export const documents = async (): Promise<string[]> =>
  (await files()).filter((path) => path.endsWith(".md")).map((path) => join(root, path));
