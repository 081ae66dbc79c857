/** What people call the things that constraints are about, in the words that nodes use. */

/** Swarm's names for attributes that nodes of berth have under another. */
export const SWARM_KEYS: ReadonlyMap<string, string> = new Map([
  ["node.platform.arch", "node.arch"],
  ["node.platform.os", "node.os"],
]);

/**
 * Architectures of processors. Images say amd64, `uname` says x86_64, nodes report x64: all three mean one thing, and a
 * constraint is only met if both sides use the nodes' word.
 */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: "x64",
  x86_64: "x64",
  "x86-64": "x64",
  x64: "x64",
  arm64: "arm64",
  aarch64: "arm64",
};

/** The word that nodes report, or undefined where berth has no agent for it. */
export const nodeArchitecture = (name: string): string | undefined =>
  Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
