/**
 * Pure hashes for ties and ids. Not cryptographic: nothing trusts them, they only have to spread evenly and be the same
 * everywhere. The mixing is MurmurHash3's (Appleby, public domain).
 */

/** 32 bits of a text, unsigned. */
export function hash32(text: string, seed = 0): number {
  let h = seed ^ 0x9e3779b9;
  for (let i = 0; i < text.length; i += 1) {
    h = Math.imul(h ^ Math.imul(text.charCodeAt(i), 0xcc9e2d51), 0x1b873593);
    h = (h << 13) | (h >>> 19);
  }
  return mix32(h ^ text.length);
}

/** Murmur3's finalizer: every bit of the input moves every bit of the output. Unsigned. */
export function mix32(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
