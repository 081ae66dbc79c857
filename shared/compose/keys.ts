/**
 * Every key path of the Compose specification, and what berth does with it. Checking, reporting and `docs/compose.md`
 * all read this table; a test holds it against the paths of the published JSON schema.
 */
import { DEPLOY_ROWS } from "./keys-deploy.ts";
import { PROJECT_ROWS } from "./keys-project.ts";
import { DEVELOP_ROWS, SERVICE_ROWS } from "./keys-service.ts";
import { childPath } from "./key-path.ts";
import type { KeyRow } from "./key-row.ts";

export const KEY_ROWS: readonly KeyRow[] = [...PROJECT_ROWS, ...SERVICE_ROWS, ...DEPLOY_ROWS, ...DEVELOP_ROWS];

const BY_PATH: ReadonlyMap<string, KeyRow> = new Map(KEY_ROWS.map((row) => [row.path, row]));

export const rowOf = (path: string): KeyRow | undefined => BY_PATH.get(path);

/** The known keys below a path, for "did you mean". */
export function keysBelow(parent: string): string[] {
  const prefix = parent === "" ? "" : `${parent}.`;
  return KEY_ROWS.filter((row) => row.path.startsWith(prefix) && childPath(parent, row.path.slice(prefix.length)) === row.path)
    .map((row) => row.path.slice(prefix.length))
    .filter((key) => !/[.[*]/.test(key));
}
