import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";

/** What a body says of its session must be what its proof says, and its era this database's. */
export function checkSession({ shard }: Context, said: { readonly era: string; readonly session: number }, proved: number): void {
  if (said.session !== proved) throw new BerthError("bad_proof", "the body names another session than the proof", { reason: "session" });
  if (said.era !== shard.cluster.era)
    throw new BerthError("session_replaced", "the cluster is in another era; open a new session", { reason: "era" });
}
