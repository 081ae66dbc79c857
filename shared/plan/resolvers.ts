/** Chooses who resolves an image: one node for each (app, revision, reference), the first that was assigned a replica. */
import type { NodeId } from "../model/name.ts";
import type { ClusterIndex } from "./cluster-index.ts";
import type { Draft } from "./draft.ts";
import type { Placing } from "./placing.ts";
import type { ServiceState } from "./snapshot.ts";

export function chooseResolvers(index: ClusterIndex, draft: Draft, placing: Placing): void {
  const { services } = index.snapshot;
  const asked = new Set<string>();
  const unresolved = services.map((_, s) => s).filter((s) => services[s]!.image === "" && !services[s]!.removed);
  const name = (s: number) => `${services[s]!.appId}/${services[s]!.name}`;
  for (const s of unresolved.sort((a, b) => (name(a) < name(b) ? -1 : 1))) {
    const service = services[s]!;
    const key = `${service.appId}/${service.revision}/${service.planning.imageReference}`;
    if (asked.has(key)) continue;
    const { nodeId, resolverHolds } = candidate(index, placing, s);
    if (resolverHolds) asked.add(key);
    else if (nodeId !== null) {
      asked.add(key);
      draft.resolver({ appId: service.appId, revision: service.revision, reference: service.planning.imageReference, nodeId });
    }
  }
}

/** The node of the lowest slot that runs this revision; and whether the one asked before still runs it. */
function candidate(index: ClusterIndex, placing: Placing, s: number): { nodeId: NodeId | null; resolverHolds: boolean } {
  const service: ServiceState = index.snapshot.services[s]!;
  const { run, revision, slot, id } = index.snapshot.replicas;
  let best = -1;
  for (const row of index.rowsOf(s)) {
    const node = index.node(row);
    if (run[row] === 0 || revision[row] !== service.revision || index.isTerminal(row) || node === null || node.status === "lost") continue;
    if (node.id === service.resolver) return { nodeId: node.id, resolverHolds: true };
    if (node.status !== "ready") continue;
    if (best < 0 || slotBefore(slot[row]!, slot[best]!) || (slot[row] === slot[best] && id[row]! < id[best]!)) best = row;
  }
  return { nodeId: best >= 0 ? index.node(best)!.id : placing.placedOf(service).first, resolverHolds: false };
}

/** Slot numbers in order of number, then names. */
const slotBefore = (a: string, b: string) => (a.length === b.length ? a < b : a.length < b.length);
