/**
 * The planner's snapshot, shared by the planner's loop and by previews. What a snapshot shows is good until it is advanced
 * again, so whoever takes one says when it is done with it.
 */
import type { ClusterSnapshot } from "../shared/plan/snapshot.ts";
import { SnapshotKeeper } from "./store/snapshot.ts";
import type { Store } from "./store/store.ts";

export interface SnapshotView {
  readonly snapshot: ClusterSnapshot;
  readonly nowMs: number;
}

export class Snapshots {
  readonly #keeper: SnapshotKeeper;
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: Store) {
    this.#keeper = new SnapshotKeeper(store);
  }

  /** Calls `take` with the cluster as it is now; nothing advances it until that has ended, and it must keep none of it. */
  use<Result>(take: (view: SnapshotView) => Result | Promise<Result>): Promise<Result> {
    const result = this.#last.then(async () => take(await this.#keeper.advance()));
    // Whoever asked is told of a failure; the next one in line only waits for the end.
    this.#last = result.catch(() => {});
    return result;
  }
}
