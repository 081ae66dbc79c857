/** A broken invariant of the store: never an expected outcome, and never caught to go on. Stays on in production. */
export class StoreInvariantError extends Error {
  override readonly name = "StoreInvariantError";
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new StoreInvariantError(message);
}
