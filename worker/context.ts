/** What every route and loop of the control plane is given. Made once by the entry. */
import type { AddressInfo } from "./address.ts";
import type { Clock, Log, Random, Registry, Signer } from "./ports.ts";
import type { Rehearsals } from "./rehearsals.ts";
import type { Channels } from "./shard/channels.ts";
import type { Shard } from "./shard/shard.ts";
import type { Snapshots } from "./snapshots.ts";
import type { Store } from "./store/store.ts";

export interface Context {
  readonly store: Store;
  readonly shard: Shard;
  readonly channels: Channels;
  /** The planner's view of the cluster, for previews of deploys. */
  readonly snapshots: Snapshots;
  readonly rehearsals: Rehearsals;
  readonly signer: Signer;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly address: AddressInfo;
}
