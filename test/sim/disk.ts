/** The Disk port over memory. What was written is there after a crash; a crash may tear or rot what was being written. */
import { type Disk, PREVIOUS_SUFFIX } from "../../agent/ports.ts";
import type { Kernel, Process } from "./kernel.ts";
import type { Prng } from "./prng.ts";

export class SimDisk {
  readonly files = new Map<string, Uint8Array>();
  /** Writes fail: no space left. */
  isFull = false;
  /** Called when a file has been written. */
  onWritten: (path: string) => void = () => {};
  readonly #kernel: Kernel;
  readonly #random: Prng;

  constructor(kernel: Kernel, name: string) {
    this.#kernel = kernel;
    this.#random = kernel.random.fork(`disk ${name}`);
  }

  copyFrom(other: SimDisk): void {
    this.files.clear();
    for (const [path, bytes] of other.files) this.files.set(path, bytes);
  }

  /** Rots one file as a crash can: a bit flips, or its end is gone. Its previous version was not being written. */
  damage(): string | null {
    const paths = [...this.files.keys()].filter((path) => path !== "policy.json" && !path.endsWith(PREVIOUS_SUFFIX));
    if (paths.length === 0) return null;
    const path = this.#random.pick(paths);
    const bytes = this.files.get(path)!.slice();
    if (bytes.length > 0 && this.#random.chance(0.5)) {
      const at = this.#random.int(0, bytes.length - 1);
      bytes[at] = bytes[at]! ^ 0x10;
      this.files.set(path, bytes);
    } else this.files.set(path, bytes.slice(0, Math.floor(bytes.length / 2)));
    return path;
  }

  portOf(process: Process): Disk {
    const step = <Result>(effect: () => Result, tookMs: number): Promise<Result> =>
      this.#kernel.call({ caller: process, target: process, what: "", thereMs: tookMs, backMs: 0.01 }, effect);
    return {
      absolute: (path) => `/var/lib/berth/${path}`,
      read: (path) => step(() => this.files.get(path) ?? null, 0.1),
      writeAtomic: (path, content, options) =>
        step(
          () => {
            if (this.isFull) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
            const held = this.files.get(path);
            if (options?.keepPrevious === true && held !== undefined) this.files.set(`${path}${PREVIOUS_SUFFIX}`, held);
            this.files.set(path, typeof content === "string" ? new TextEncoder().encode(content) : content.slice());
            this.onWritten(path);
          },
          this.#random.between(0.3, 8),
        ),
      remove: (path) =>
        step(() => {
          for (const held of this.files.keys()) if (held === path || held.startsWith(`${path}/`)) this.files.delete(held);
        }, 0.2),
      list: (path) =>
        step(() => {
          const names = new Set<string>();
          for (const held of this.files.keys()) if (held.startsWith(`${path}/`)) names.add(held.slice(path.length + 1).split("/")[0]!);
          return [...names];
        }, 0.1),
    };
  }
}
