/** Sets of nodes as words of 32 bits. Node numbers are ranks of a Fleet. */
export type Bits = Uint32Array;

export function bitsFor(count: number): Bits {
  return new Uint32Array((count + 31) >>> 5);
}

/** All of the first `count` set; the rest of the last word stays clear, so that counting needs no care. */
export function allOf(count: number): Bits {
  const bits = bitsFor(count).fill(0xffffffff);
  if ((count & 31) !== 0) bits[bits.length - 1] = 2 ** (count & 31) - 1;
  return bits;
}

export function setBit(bits: Bits, at: number): void {
  bits[at >>> 5]! |= 1 << (at & 31);
}

export function clearBit(bits: Bits, at: number): void {
  bits[at >>> 5]! &= ~(1 << (at & 31));
}

export function hasBit(bits: Bits, at: number): boolean {
  return ((bits[at >>> 5]! >>> (at & 31)) & 1) === 1;
}

export function andInto(target: Bits, other: Bits): void {
  for (let w = 0; w < target.length; w += 1) target[w]! &= other[w]!;
}

export function andNotInto(target: Bits, other: Bits): void {
  for (let w = 0; w < target.length; w += 1) target[w]! &= ~other[w]!;
}

export function countBits(bits: Bits): number {
  let count = 0;
  for (let w = 0; w < bits.length; w += 1) {
    let v = bits[w]!;
    v -= (v >>> 1) & 0x55555555;
    v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
    count += Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}

/** Calls `visit` for each member, ascending. */
export function eachBit(bits: Bits, visit: (at: number) => void): void {
  for (let w = 0; w < bits.length; w += 1) {
    let v = bits[w]!;
    while (v !== 0) {
      visit((w << 5) + 31 - Math.clz32(v & -v));
      v &= v - 1;
    }
  }
}
