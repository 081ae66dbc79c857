/** Chooses who resolves an image: one node for each (app, revision, reference), the first that was assigned a replica. */
import type { NodeId } from "../model/name.ts";
import type { ClusterIndex } from "./cluster-index.ts";
import type { Draft } from "./draft.ts";
import type { Placing } from "./placing.ts";
import type { UnresolvedImage } from "./snapshot.ts";

export function chooseResolvers(index: ClusterIndex, draft: Draft, placing: Placing): void {
  const { services, unresolved, replicas } = index.snapshot;
  const asked = new Set<string>();
  const ask = ({ appId, revision, reference, resolver }: Image, rows: Iterable<number>, otherwise: NodeId | null): void => {
    const key = `${appId}/${revision}/${reference}`;
    if (asked.has(key)) return;
    const nodeId = candidate(index, rows, { revision, resolver }) ?? otherwise;
    if (nodeId === null) return;
    asked.add(key);
    if (nodeId !== resolver) draft.resolver({ appId, revision, reference, nodeId });
  };
  const wanted = services.map((_, s) => s).filter((s) => services[s]!.image === "" && !services[s]!.removed);
  const name = (s: number) => `${services[s]!.appId}/${services[s]!.name}`;
  for (const s of wanted.sort((a, b) => (name(a) < name(b) ? -1 : 1))) {
    const service = services[s]!;
    ask({ ...service, reference: service.planning.imageReference }, index.rowsOf(s), placing.placedOf(service).first);
  }
  // Who was asked may be gone with a later revision, and what a failed one left of the former waits for an image still.
  const former = unresolved.toSorted((a, b) => (`${a.appId}/${a.revision}/${a.spec}` < `${b.appId}/${b.revision}/${b.spec}` ? -1 : 1));
  for (const image of former) {
    const rows = (index.servicesOf.get(image.appId) ?? []).flatMap((s) =>
      [...index.rowsOf(s)].filter((row) => replicas.spec[row] === image.spec),
    );
    ask(image, rows, null);
  }
}

type Image = Omit<UnresolvedImage, "spec">;

/** Who was asked before, if it still runs this revision; else the node of the lowest slot that does. */
function candidate(
  index: ClusterIndex,
  rows: Iterable<number>,
  { revision: wanted, resolver }: Pick<Image, "revision" | "resolver">,
): NodeId | null {
  const { run, revision, slot, id } = index.snapshot.replicas;
  let best = -1;
  for (const row of rows) {
    const node = index.node(row);
    if (run[row] === 0 || revision[row] !== wanted || index.isTerminal(row) || node === null || node.status === "lost") continue;
    if (node.id === resolver) return resolver;
    if (node.status !== "ready") continue;
    if (best < 0 || slotBefore(slot[row]!, slot[best]!) || (slot[row] === slot[best] && id[row]! < id[best]!)) best = row;
  }
  return best >= 0 ? index.node(best)!.id : null;
}

/** Slot numbers in order of number, then names. */
const slotBefore = (a: string, b: string) => (a.length === b.length ? a < b : a.length < b.length);
