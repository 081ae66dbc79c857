import { readFileSync } from "node:fs";
import { CliError, EXIT } from "./exit.ts";

/** A file that the caller named by an option or a variable. Throws CliError, which says by which. */
export function readNamed(by: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === "ENOENT"
        ? "there is no such file"
        : code === "EACCES"
          ? "you may not read it"
          : code === "EISDIR"
            ? "it is a directory"
            : String(error);
    throw new CliError(`${by} names ${path}, and ${why}`, { exitCode: EXIT.usage, cause: error });
  }
}
