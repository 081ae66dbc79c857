/** A seeded generator (sfc32, by Chris Doty-Humphrey): the only source of chance in a simulated world. */
export class Prng {
  readonly #label: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(label: string) {
    this.#label = label;
    [this.#a, this.#b, this.#c] = seedOf(label);
    for (let round = 0; round < 12; round++) this.uint32();
  }

  /** A generator of its own: what one part of the world draws does not move what another draws. */
  fork(name: string): Prng {
    return new Prng(`${this.#label}/${name}`);
  }

  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** In [0, 1). */
  fraction(): number {
    return this.uint32() / 4_294_967_296;
  }

  /** A whole number, both ends included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.fraction() * (to - from + 1));
  }

  between(from: number, to: number): number {
    return from + this.fraction() * (to - from);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.int(0, items.length - 1)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  bytes(count: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count; at++) bytes[at] = this.uint32() >>> 24;
    return bytes;
  }
}

/** FNV-1a of the label from three offsets. */
function seedOf(label: string): [number, number, number] {
  const hash = (offset: number): number => {
    let value = offset;
    for (let at = 0; at < label.length; at++) value = Math.imul(value ^ label.charCodeAt(at), 16_777_619);
    return value;
  };
  return [hash(2_166_136_261), hash(40_389), hash(974_711)];
}
