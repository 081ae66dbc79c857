/** What a joining machine gets from the control plane itself. The port; dist.ts implements it over files. */
export const DIST_FILES = ["agent.mjs", "node-linux-x64", "node-linux-arm64"] as const;
export type DistFile = (typeof DIST_FILES)[number];

export interface Downloads {
  /** The file's line as `sha256sum` prints it. Rejects as `open` does. */
  sum(file: DistFile): Promise<string>;
  /** Rejects with a sentence for people when it cannot be had. */
  open(file: DistFile): Promise<{ readonly bytes: number; readonly stream: ReadableStream<Uint8Array> }>;
}
