/**
 * What the agent needs from the world. Everything behind these interfaces is made in `main.ts`, so that the same agent
 * runs against a real engine, a fake one, and under a clock that a test turns.
 */

/** `bootMs` counts since the machine's boot, suspend included; every duration is measured on it. `wallMs` may be anything. */
export interface Clock {
  wallMs(): number;
  bootMs(): number;
  /** Calls `run` once after `ms`; the returned function cancels it. */
  after(ms: number, run: () => void): () => void;
}

export interface Random {
  bytes(count: number): Uint8Array;
  /** In [0, 1): for jitter only. */
  fraction(): number;
}

export interface Log {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole exchange, however slowly its bytes come (F29). */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}
export interface HttpAnswer {
  readonly status: number;
  header(name: string): string | null;
  readonly body: string;
}
export const HTTP_FAILURES = ["unreachable", "timeout", "tls", "pin", "tooLarge", "aborted"] as const;
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly code: (typeof HTTP_FAILURES)[number];
  constructor(code: (typeof HTTP_FAILURES)[number], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
/** Rejects with HttpError; any status is an answer. */
export interface Http {
  request(request: HttpRequest): Promise<HttpAnswer>;
}

/** A text stream outward. `send` resolves when the message has left, so that a slow reader slows the writer. */
export interface Socket {
  send(text: string): Promise<void>;
  close(): void;
  readonly closed: Promise<void>;
}
export interface Sockets {
  dial(request: {
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }): Promise<Socket>;
}

/** Where `keepPrevious` leaves the version before. */
export const PREVIOUS_SUFFIX = ".previous";

/** Paths are relative to the data directory and never hold `..`. */
export interface Disk {
  /** Null: there is none. */
  read(path: string): Promise<Uint8Array | null>;
  /** The content or the old one, never a part: temporary file, fsync, rename, fsync of the directory. */
  writeAtomic(
    path: string,
    content: string | Uint8Array,
    options?: { readonly mode?: number; readonly uid?: number; readonly gid?: number; readonly keepPrevious?: boolean },
  ): Promise<void>;
  remove(path: string): Promise<void>;
  /** Names in a directory; empty when there is none. */
  list(path: string): Promise<readonly string[]>;
  absolute(path: string): string;
}

/** The machine's file system as the owner's policy and bind mounts see it. */
export interface Host {
  readonly bootId: string;
  /** Null: there is nothing there. */
  kindOf(path: string): Promise<"file" | "directory" | "symlink" | "other" | null>;
  /** With every symbolic link resolved; null: there is nothing there. */
  realPath(path: string): Promise<string | null>;
  makeDirectory(path: string): Promise<void>;
  /** `/proc/<pid>/mountinfo`; null when the process is gone or cannot be seen. */
  mountInfo(pid: number): Promise<string | null>;
  /** Device and inode of a path, as "dev:inode"; null: there is nothing there. */
  identityOf(path: string): Promise<string | null>;
  /** That this number names a process of the container here: in another process namespace it may name anything. */
  isProcessOf(pid: number, containerId: string): Promise<boolean>;
  /** Of a path inside a process's own root. */
  identityInside(pid: number, path: string): Promise<string | null>;
  hardware(): Promise<string>;
  describe(): Promise<{
    readonly hostname: string;
    readonly os: string;
    readonly kernel: string;
    readonly arch: "x64" | "arm64";
    readonly cpuMillis: number;
    readonly memoryMiB: number;
    readonly addresses: readonly string[];
  }>;
}
