import { REV, type RowChange } from "./commit-types.ts";

/** Marks the sets of these nodes as changed by this commit, so that their agents fetch a new manifest. */
export function bumpGenerations(nodeIds: Iterable<string>): RowChange {
  return { op: "update", table: "nodes", rows: [...new Set(nodeIds)].map((id) => ({ id, generation: REV })) };
}
