/** A list whose items are found by key and keep their places: columns refer to them by index. */
export class IndexedList<Item> {
  readonly items: Item[] = [];
  readonly #keys: string[] = [];
  readonly #places = new Map<string, number>();

  /** Place of an item, or -1. */
  place(key: string): number {
    return this.#places.get(key) ?? -1;
  }

  get(key: string): Item | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.items[place];
  }

  /** True: it is new, at the end. */
  put(key: string, item: Item): boolean {
    const place = this.#places.get(key);
    if (place !== undefined) {
      this.items[place] = item;
      return false;
    }
    this.#places.set(key, this.items.length);
    this.#keys.push(key);
    this.items.push(item);
    return true;
  }

  /** True: it was there, and the last item has its place now. */
  remove(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    const lastKey = this.#keys.pop()!;
    const lastItem = this.items.pop()!;
    if (lastKey !== key) {
      this.#places.set(lastKey, place);
      this.#keys[place] = lastKey;
      this.items[place] = lastItem;
    }
    return true;
  }

  clear(): void {
    this.items.length = 0;
    this.#keys.length = 0;
    this.#places.clear();
  }
}
