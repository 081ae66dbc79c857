/** The engine's streams of JSON values: events, and the progress of a pull. */
import type { Readable } from "node:stream";
import { EngineError, type EngineFailure } from "./engine.ts";

/** A pull whose stream is silent for this long has died (F21). */
export const PULL_SILENCE_MS = 180_000;

/** Newline-separated JSON values; a line over 1 MB is not the engine's. */
export async function eachJsonLine(source: Readable, onValue: (value: unknown) => void): Promise<void> {
  let rest = "";
  source.setEncoding("utf8");
  for await (const chunk of source) {
    rest += chunk as string;
    if (rest.length > 1_048_576) throw new EngineError("failed", "the engine sent a line of over 1 MB");
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") onValue(JSON.parse(line));
  }
}

interface PullLine {
  id?: string;
  status?: string;
  error?: string;
  progressDetail?: { current?: number; total?: number };
}

export async function followPull(
  source: Readable,
  reference: string,
  onProgress: (progress: { currentBytes: number; totalBytes: number }) => void,
): Promise<void> {
  const layers = new Map<string, { current: number; total: number }>();
  let failure: string | null = null;
  const stop = () => source.destroy(new EngineError("timeout", `pulling ${reference}: nothing came for ${PULL_SILENCE_MS / 1000} s`));
  let silence = setTimeout(stop, PULL_SILENCE_MS);
  try {
    await eachJsonLine(source, (value) => {
      clearTimeout(silence);
      silence = setTimeout(stop, PULL_SILENCE_MS);
      const line = value as PullLine;
      if (line.error !== undefined) failure = line.error;
      const { current, total } = line.progressDetail ?? {};
      if (line.id === undefined || line.status !== "Downloading" || current === undefined || total === undefined || total < 0) return;
      layers.set(line.id, { current, total });
      let currentBytes = 0;
      let totalBytes = 0;
      for (const layer of layers.values()) {
        currentBytes += layer.current;
        totalBytes += layer.total;
      }
      onProgress({ currentBytes, totalBytes });
    });
  } finally {
    clearTimeout(silence);
  }
  if (failure !== null) throw new EngineError(pullFailure(failure), `pulling ${reference}: ${String(failure).slice(0, 1000)}`);
}

/** By the words of engines and registries: the engine answers 404 and 500 for all of them alike. */
export const pullFailure = (message: string): EngineFailure =>
  /no space left/.test(message)
    ? "noSpace"
    : /unauthorized|(?<!permission )\bdenied|no basic auth|authentication required|403 forbidden/i.test(message)
      ? "denied"
      : /not found|manifest unknown|name unknown/i.test(message)
        ? "notFound"
        : "failed";
