/** Virtual time for tests that are written as if time passed by itself. */
import type { Kernel } from "./kernel.ts";

const STRIDE_MS = 100;

/** Lets events happen as fast as they can be, until the returned function. */
export function keepTurning(kernel: Kernel): () => void {
  let isOver = false;
  const turn = async () => {
    while (!isOver) await kernel.run(kernel.nowMs + STRIDE_MS);
  };
  void turn();
  return () => {
    isOver = true;
  };
}
