/** What the shell that owns the disk answers when asked for a path. `shared/` never opens a file itself. */
export type FileAnswer =
  | { kind: "text"; text: string; executable?: boolean }
  /** Bytes that are not UTF-8. */
  | { kind: "binary" }
  | { kind: "directory" }
  | { kind: "missing" }
  | { kind: "too-large"; bytes: number }
  | { kind: "unreadable"; reason: string };

/** Synchronous, because the pure part asks in the middle of its work. The path is absolute and normalised. */
export type ReadFile = (path: string) => FileAnswer;
