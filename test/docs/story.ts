/**
 * The README as a story that can be told again. Its fenced blocks are the steps:
 *
 *   ```console                  commands after "$ ", each with the screen that it leaves
 *   ```console terminal-1       the same, in a terminal of its own: its last command goes on while the rest is done. A block
 *                               that begins with ^C ends it, and what follows is the rest of its screen
 *   ```console NAME             the same, on another machine; "# " is its prompt
 *   ```yaml PATH                a file that a reader makes
 *
 * A command with "…" in it is a line that an earlier command has printed, shortened: the whole line is run. "[y/N] y" in a
 * screen means that the question is answered so.
 */

export interface Screen {
  readonly kind: "screen";
  readonly where: string;
  /** Null: Ctrl-C, at what runs in this terminal. */
  readonly command: string | null;
  readonly prompt: "$" | "#" | "";
  readonly shown: readonly string[];
  /** Line of the command in the document, from 1. */
  readonly line: number;
}
export interface File {
  readonly kind: "file";
  readonly path: string;
  readonly text: string;
  readonly line: number;
}
export type Step = Screen | File;

export const HERE = "here";
export const FIRST = "terminal-1";

export function storyOf(document: string): Step[] {
  const steps: Step[] = [];
  const lines = document.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const fence = /^```(console|yaml)(?: (\S+))?$/.exec(lines[at] ?? "");
    if (fence === null) {
      if (/^```\S/.test(lines[at] ?? "")) throw new Error(`line ${at + 1}: blocks are console or yaml, not ${lines[at]}`);
      if (/^```$/.test(lines[at] ?? "")) at = endOf(lines, at);
      continue;
    }
    const end = endOf(lines, at);
    const body = lines.slice(at + 1, end);
    const [, language, place] = fence;
    if (language === "yaml" && place !== undefined) steps.push({ kind: "file", path: place, text: `${body.join("\n")}\n`, line: at + 2 });
    if (language === "console") steps.push(...screensOf(body, { where: place ?? HERE, line: at + 2 }));
    at = end;
  }
  return steps;
}

function endOf(lines: readonly string[], begin: number): number {
  const end = lines.indexOf("```", begin + 1);
  if (end === -1) throw new Error(`line ${begin + 1}: the block does not end`);
  return end;
}

function screensOf(body: readonly string[], { where, line }: { where: string; line: number }): Screen[] {
  const starts = body.flatMap((text, at) => (/^[$#] /.test(text) || text === "^C" ? [at] : []));
  if (starts[0] !== 0) throw new Error(`line ${line}: a console block begins with a command`);
  return starts.map((start, number) => {
    const text = body[start] ?? "";
    const shown = body.slice(start + (text === "^C" ? 0 : 1), starts[number + 1] ?? body.length);
    const common = { kind: "screen", where, line: line + start, shown: trimmed(shown) } as const;
    return text === "^C"
      ? { ...common, command: null, prompt: "" }
      : { ...common, command: text.slice(2), prompt: text.startsWith("$") ? "$" : "#" };
  });
}

/** Without empty lines at the end. */
export function trimmed(lines: readonly string[]): string[] {
  const kept = [...lines];
  while (kept.at(-1) === "") kept.pop();
  return kept;
}

/** The document with these screens in the places of its own. */
export function retold(document: string, screens: ReadonlyMap<number, readonly string[]>): string {
  const lines = document.split("\n");
  const steps = storyOf(document).filter((step) => step.kind === "screen");
  for (const step of steps.reverse()) {
    const shown = screens.get(step.line);
    if (shown === undefined) continue;
    const begin = step.command === null ? step.line - 1 : step.line;
    lines.splice(begin, step.shown.length, ...shown);
  }
  return lines.join("\n");
}
