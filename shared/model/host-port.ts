/**
 * Ports on a node's addresses, and which of them cannot be had together. Addresses are compared as strings, so they are
 * canonical from where they are parsed.
 */
export interface HostPort {
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** Canonical. Empty: all addresses. */
  readonly hostIp: string;
}

/** Two spellings of one address become one: IPv6 as in RFC 5952, and IPv4 inside IPv6 (RFC 4291 §2.5.5.2) as IPv4. */
export function canonicalAddress(address: string): string {
  if (!address.includes(":")) return address;
  const [head, tail] = address.split("::").map(groupsOf);
  const groups = tail === undefined ? head! : [...head!, ...Array<number>(Math.max(0, 8 - head!.length - tail.length)).fill(0), ...tail];
  const words = groups.map((group) => group.toString(16));
  if (words.join(":").startsWith("0:0:0:0:0:ffff:")) return [6, 7].flatMap((i) => [groups[i]! >>> 8, groups[i]! & 255]).join(".");
  const { start, length } = longestZeros(groups);
  if (length < 2) return words.join(":");
  return `${words.slice(0, start).join(":")}::${words.slice(start + length).join(":")}`;
}

/** Groups of 16 bits; the last two may be written as an IPv4 address. */
function groupsOf(text: string): number[] {
  return text.split(":").flatMap((word) => {
    if (word === "") return [];
    if (!word.includes(".")) return [Number.parseInt(word, 16)];
    const [a, b, c, d] = word.split(".").map(Number);
    return [a! * 256 + b!, c! * 256 + d!];
  });
}

/** The first of the longest. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start += 1) {
    let end = start;
    while (groups[end] === 0) end += 1;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

/** Empty is every address; `0.0.0.0` and `::` are every one of their family, and one port may well be on both. */
export function addressesOverlap(a: string, b: string): boolean {
  if (a === b || a === "" || b === "") return true;
  if (a !== "0.0.0.0" && b !== "0.0.0.0" && a !== "::" && b !== "::") return false;
  return a.includes(":") === b.includes(":");
}

export function portsClash(a: HostPort, b: HostPort): boolean {
  return a.port === b.port && a.protocol === b.protocol && addressesOverlap(a.hostIp, b.hostIp);
}
