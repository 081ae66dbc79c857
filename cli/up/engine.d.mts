export declare const ENGINE_SOCKET: string;

/** `message` is a sentence for people; `details` are the last lines of what failed. */
export declare class EngineProblem extends Error {
  readonly details: readonly string[];
  constructor(message: string, details?: readonly string[]);
}

export type EngineProbe =
  | { readonly kind: "answers"; readonly version: string }
  | { readonly kind: "silent" | "denied" | "podman" | "rootless" | "old" | "hangs" };
export declare function probeEngine(socket: string): Promise<EngineProbe>;
export declare function socketOf(env: Readonly<Record<string, string | undefined>>): string;
export declare function ensureEngine(options: {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly say: (line: string) => void;
}): Promise<{ readonly socket: string; readonly version: string }>;

export interface OwnEngine {
  readonly pid: number;
  readonly socket: string;
}
export declare function ownEngine(dataDir: string): OwnEngine | null;
export declare function stopOwnEngine(dataDir: string): Promise<boolean>;
