/** POSIX paths as text. `shared/` has no file system, and a Compose file means the same on every machine. */

export const isAbsolute = (path: string): boolean => path.startsWith("/");

/** `.`, `..` and repeated slashes resolved; never ends with a slash except for the root. */
export function normalizePath(path: string): string {
  const absolute = isAbsolute(path);
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === ".." && parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (part !== ".." || !absolute) parts.push(part);
  }
  const joined = parts.join("/");
  if (absolute) return `/${joined}`;
  return joined === "" ? "." : joined;
}

export const resolvePath = (base: string, path: string): string => normalizePath(isAbsolute(path) ? path : `${base}/${path}`);

export function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  if (slash < 0) return ".";
  return slash === 0 ? "/" : path.slice(0, slash);
}

export const baseNameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
