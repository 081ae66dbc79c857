/** What people and bad luck do to a world, each with a name that the seed gives it, so that a history can be played again with some of it left out. */
export interface Act {
  readonly id: string;
  readonly atMs: number;
  readonly what: string;
}

export class Acts {
  /** In their order. */
  readonly done: Act[] = [];
  readonly #only: ReadonlySet<string> | null;

  /** `only`: what is done at all. Default: everything. */
  constructor(only?: readonly string[]) {
    this.#only = only === undefined ? null : new Set(only);
  }

  /** False: it is left out. What is drawn for the others must not depend on that. */
  begin(act: Act): boolean {
    if (this.#only !== null && !this.#only.has(act.id)) return false;
    this.done.push(act);
    return true;
  }
}
