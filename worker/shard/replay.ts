/**
 * Which sequence numbers of a session have been used. A number is good once. Requests of one agent overtake one another
 * (a poll and a report are under way together), so the window remembers the last 64 below the highest, as IPsec does;
 * anything older counts as used.
 */
const WINDOW = 64;
const HALF = 32;

export class ReplayWindow {
  #highest = 0;
  /** Bit i: `highest - i` was used; low holds 0–31, high 32–63. */
  #low = 0;
  #high = 0;

  /** True once for each number; false for one that was used or is too old. */
  use(seq: number): boolean {
    if (seq > this.#highest) {
      this.#shift(seq - this.#highest);
      this.#highest = seq;
      this.#low |= 1;
      return true;
    }
    const age = this.#highest - seq;
    if (age >= WINDOW) return false;
    const bit = 1 << (age % HALF);
    if (age < HALF) {
      if (this.#low & bit) return false;
      this.#low |= bit;
    } else {
      if (this.#high & bit) return false;
      this.#high |= bit;
    }
    return true;
  }

  #shift(by: number): void {
    if (by >= WINDOW) {
      this.#low = 0;
      this.#high = 0;
    } else if (by >= HALF) {
      this.#high = by === HALF ? this.#low : this.#low << (by - HALF);
      this.#low = 0;
    } else {
      this.#high = (this.#high << by) | (this.#low >>> (HALF - by));
      this.#low <<= by;
    }
  }
}
