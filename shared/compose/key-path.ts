/**
 * The generic path of a key, as the rows of `keys.ts` and the merge rules name it: `services.*.ports[].target`, with
 * `*` where users choose the key and `[]` for the items of a list.
 */

/** Mappings whose keys are names that users choose but whose values have keys of their own. */
const NAMED: ReadonlySet<string> = new Set([
  "services",
  "networks",
  "volumes",
  "configs",
  "secrets",
  "models",
  "services.*.depends_on",
  "services.*.networks",
  "services.*.models",
  "services.*.ulimits",
  "services.*.build.ulimits",
]);

export const childPath = (parent: string, key: string): string => (parent === "" ? key : `${parent}.${NAMED.has(parent) ? "*" : key}`);
export const itemPath = (parent: string): string => `${parent}[]`;
