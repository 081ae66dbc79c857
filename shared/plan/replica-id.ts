/** Ids of new replicas: a pure function of the caller's random seed and what the replica is for. */
import type { ReplicaId } from "../model/name.ts";
import { hash32, mix32 } from "../schedule/hash.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const CODES = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));

/** Makes the ids of one service's replicas in one plan. Two ids of a plan are equal with a chance of 2^-80 a pair. */
export class ReplicaIds {
  readonly #lanes: readonly [number, number, number];

  constructor(idSeed: string, appId: string, service: string) {
    const text = `${idSeed}/${appId}/${service}`;
    this.#lanes = [hash32(text, 0x2545f491), hash32(text, 0x6c078965), hash32(text, 0x5bd1e995)];
  }

  /** `ordinal` tells apart several replicas of one slot in one plan. */
  next(slot: string, ordinal: number): ReplicaId {
    const [seedA, seedB, seedC] = this.#lanes;
    const a = mix32(hash32(slot, seedA) + ordinal);
    const b = mix32(hash32(slot, seedB) ^ a);
    const c = mix32(hash32(slot, seedC) ^ b);
    const code = (bits: number) => CODES[bits & 31]!;
    // 6 + 6 + 4 characters of 5 bits: 80 bits from the low ends of the three lanes.
    return `r_${String.fromCharCode(
      code(a),
      code(a >>> 5),
      code(a >>> 10),
      code(a >>> 15),
      code(a >>> 20),
      code(a >>> 25),
      code(b),
      code(b >>> 5),
      code(b >>> 10),
      code(b >>> 15),
      code(b >>> 20),
      code(b >>> 25),
      code(c),
      code(c >>> 5),
      code(c >>> 10),
      code(c >>> 15),
    )}` as ReplicaId;
  }
}
