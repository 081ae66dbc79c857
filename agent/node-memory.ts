/**
 * Giving memory back. Starting up and joining leave the heap at twice what it then holds, and V8 keeps what it has
 * once had: on a board with 512 MB that is a container less. A full collection takes some 30 ms.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "./ports.ts";

const FIRST_AFTER_MS = 10_000;
/** Two minutes apart it costs 0.025 % of a processor; an agent of 20 containers holds 28 MiB of its own after five minutes, not 30. */
const EVERY_MS = 120_000;

type Collect = (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;

/** Until the returned function is called. */
export function keepMemoryLow(clock: Clock): () => void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  let cancel = clock.after(FIRST_AFTER_MS, run);
  function run(): void {
    collect({ type: "major", execution: "sync", flavor: "last-resort" });
    cancel = clock.after(EVERY_MS, run);
  }
  return () => cancel();
}
