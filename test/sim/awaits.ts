/**
 * Every `await` of the control plane's code as a place where it can be killed (F35). `hook()` is loaded before that code:
 * it puts a call before what each one waits for, and leaves everything else as it is.
 */
import { globSync, readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAst } from "rolldown/parseAst";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const WORKER = join(ROOT, "worker");
/**
 * What the simulator stands in for: the entry of one Node process, its files, sockets, certificates and downloads, the
 * embedded database, the dial to registries.
 */
const BEHIND_PORTS: ReadonlySet<string> = new Set([
  "certificate-renewal.ts",
  "dist.ts",
  "node.ts",
  "registry-fetch.ts",
  "registry.ts",
  "routes/agent/channels.ts",
  "routes/agent/upgrade.ts",
  "store/database-embedded.ts",
  "tls.ts",
]);

/** `file:line:column` below worker/, lines and columns from 1. */
export type Point = string;

interface Place {
  readonly point: Point;
  /** Where what is awaited begins and ends in the text. */
  readonly from: number;
  readonly to: number;
  /** `for await` waits for each of many. */
  readonly isLoop: boolean;
}

interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly await?: boolean;
  readonly argument?: SyntaxNode;
  readonly right?: SyntaxNode;
}

function placesOf(file: string, text: string): Place[] {
  const lines = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)];
  const pointOf = (at: number): Point => {
    const line = lines.findLastIndex((start) => start <= at);
    return `${file}:${line + 1}:${at - lines[line]! + 1}`;
  };
  const places: Place[] = [];
  const walk = (value: unknown): void => {
    if (value === null || typeof value !== "object") return;
    if (Array.isArray(value)) {
      for (const one of value) walk(one);
      return;
    }
    const node = value as SyntaxNode;
    const isLoop = node.type === "ForOfStatement" && node.await === true;
    const waited = node.type === "AwaitExpression" ? node.argument : isLoop ? node.right : undefined;
    if (waited !== undefined) places.push({ point: pointOf(node.start), from: waited.start, to: waited.end, isLoop });
    for (const child of Object.values(value)) walk(child);
  };
  walk(parseAst(text, { lang: "ts", sourceType: "module" }));
  return places;
}

/** All that the source has: those that a simulated process can reach, each with `file: what is called there`, and those behind ports. */
export function enumerate(): { readonly points: ReadonlyMap<Point, string>; readonly behindPorts: number } {
  const files = globSync("**/*.ts", { cwd: WORKER }).sort();
  const points = new Map<Point, string>();
  let behindPorts = 0;
  for (const file of files) {
    const text = readFileSync(join(WORKER, file), "utf8");
    const places = placesOf(file, text);
    if (BEHIND_PORTS.has(file)) behindPorts += places.length;
    else for (const { point, from, to } of places) points.set(point, `${file}: ${text.slice(from, to).split("(", 1)[0]}`);
  }
  return { points, behindPorts };
}

type Reached = (point: Point) => boolean;
let reached: Reached = () => true;

/** `look` is asked at each; where it answers false, that `await` never ends. */
export function onAwait(look: Reached): void {
  reached = look;
}

const never = () => new Promise<never>(() => {});
const atAwait = <Value>(point: Point, value: Value): Value | Promise<never> => (reached(point) ? value : never());
async function* eachAwait<Item>(point: Point, items: AsyncIterable<Item>): AsyncGenerator<Item> {
  for await (const item of items) {
    if (!reached(point)) await never();
    yield item;
  }
}

export function hook(): void {
  Object.assign(globalThis, { atAwait, eachAwait });
  registerHooks({
    load: (url, context, next) => {
      const loaded = next(url, context);
      if (!url.startsWith("file:") || !url.endsWith(".ts")) return loaded;
      const file = relative(WORKER, fileURLToPath(url));
      if (file.startsWith("..") || BEHIND_PORTS.has(file)) return loaded;
      const text = String(loaded.source);
      let instrumented = text;
      // From the last to the first, so that places stay where they are; what is inside another is wrapped before it.
      const edits = placesOf(file, text).flatMap(({ point, from, to, isLoop }) => [
        { at: from, insert: `${isLoop ? "eachAwait" : "atAwait"}(${JSON.stringify(point)}, ` },
        { at: to, insert: ")" },
      ]);
      for (const { at, insert } of edits.sort((a, b) => b.at - a.at || (a.insert === ")" ? 1 : -1)))
        instrumented = instrumented.slice(0, at) + insert + instrumented.slice(at);
      return { ...loaded, source: instrumented };
    },
  });
}
