/** Colours, by what they mean. Without colour every style is the text itself. */
const CODES = { good: 32, bad: 31, warn: 33, add: 32, change: 33, remove: 31, quiet: 90, strong: 1, accent: 36 } as const;
export type StyleName = keyof typeof CODES;
export type Style = Readonly<Record<StyleName, (text: string) => string>>;

export function styleFor(colour: boolean): Style {
  const entries = Object.entries(CODES).map(
    ([name, code]) => [name, colour ? (text: string) => `\u001b[${code}m${text}\u001b[0m` : (text: string) => text] as const,
  );
  return Object.fromEntries(entries) as Style;
}

/** NO_COLOR (https://no-color.org) wins, then FORCE_COLOR, then whether it is a terminal that can. */
export function wantsColour(isTty: boolean, env: Readonly<Record<string, string | undefined>>): boolean {
  if (env["NO_COLOR"] !== undefined && env["NO_COLOR"] !== "") return false;
  if (env["FORCE_COLOR"] !== undefined && env["FORCE_COLOR"] !== "" && env["FORCE_COLOR"] !== "0") return true;
  return isTty && env["TERM"] !== "dumb";
}
