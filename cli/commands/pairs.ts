/** `key=value` and `key-` as arguments. */
import { CliError, EXIT } from "../exit.ts";
import { visible } from "../render/visible.ts";

const KEY = /^[A-Za-z0-9._/-]+$/;

/** `zone=a` sets, `zone-` removes. */
export function parseChanges(texts: readonly string[], what: string): { set: Record<string, string>; remove: string[] } {
  const set: Record<string, string> = {};
  const remove: string[] = [];
  for (const text of texts) {
    const equals = text.indexOf("=");
    if (equals > 0) set[text.slice(0, equals)] = text.slice(equals + 1);
    else if (equals === -1 && text.length > 1 && text.endsWith("-")) remove.push(text.slice(0, -1));
    else throw new CliError(`"${visible(text)}" is no ${what}: write key=value to set it, key- to remove it`, { exitCode: EXIT.usage });
  }
  for (const key of [...Object.keys(set), ...remove])
    if (!KEY.test(key))
      throw new CliError(`"${visible(key)}" is no key of a ${what}: letters, digits, ".", "_", "-" and "/" are allowed, and no spaces`, {
        exitCode: EXIT.usage,
      });
  return { set, remove };
}

/** Only `key=value`. */
export function parsePairs(texts: readonly string[], what: string): Record<string, string> {
  const { set, remove } = parseChanges(texts, what);
  if (remove.length > 0) throw new CliError(`"${remove[0]}-" is no ${what}: write key=value`, { exitCode: EXIT.usage });
  return set;
}
