/** Random ids: a prefix and 16 base32 characters, 80 bits. Never derived from a name, so that none can be guessed. */
import type { Random } from "./ports.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** `bytes` in lower-case base32 without padding; 5 bytes are 8 characters. */
export function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let count = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    count += 8;
    while (count >= 5) {
      count -= 5;
      text += ALPHABET[(bits >>> count) & 31];
    }
    bits &= (1 << count) - 1;
  }
  if (count > 0) text += ALPHABET[(bits << (5 - count)) & 31];
  return text;
}

export function newId<Prefix extends string>(random: Random, prefix: Prefix): `${Prefix}_${string}` {
  return `${prefix}_${base32(random.bytes(10))}`;
}
