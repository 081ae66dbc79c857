import { afterEach, expect, test, vi } from "vitest";
import { FactBook } from "../../agent/fact-book.ts";
import { Reporter } from "../../agent/link/reporter.ts";
import type { NodeFacts, ReportRequest } from "../../shared/wire/report.ts";

const end = new AbortController();
afterEach(() => end.abort());

test("whether volumes to drop are there is said for each set that names them, also when the list is as before", async () => {
  const reports: ReportRequest[] = [];
  const accepted = { generation: 1, drops: false };
  const silent = () => undefined;
  const reporter = new Reporter(
    {
      transport: {
        exchange: async ({ body }) => {
          reports.push(body as ReportRequest);
          return { kind: "ok", status: 200, text: JSON.stringify({ ackSeq: (body as ReportRequest).seq }), era: null };
        },
      },
      source: {
        facts: new FactBook({ onChange: silent, onAcknowledged: silent }),
        nodeFacts: async () => ({}) as NodeFacts,
        engine: () => ({ reachable: true, message: "" }),
        volumes: () => [],
        hasDrops: () => accepted.drops,
        generation: () => accepted.generation,
        isKnown: () => true,
      },
      clock: {
        wallMs: () => 0,
        bootMs: () => 0,
        after: (_, run) => {
          queueMicrotask(run);
          return silent;
        },
      },
      random: { bytes: (count) => new Uint8Array(count), fraction: () => 0 },
      log: { debug: silent, info: silent, warn: silent, error: silent },
      onRefused: silent,
    },
    end.signal,
  );
  const next = async (generation: number, drops: boolean) => {
    Object.assign(accepted, { generation, drops });
    reporter.changed();
    await vi.waitFor(() => expect(reports.at(-1)?.generation).toBe(generation));
    return reports.at(-1)?.volumes;
  };
  reporter.opened({ node: "n", number: 1, era: "e", key: new Uint8Array(), seq: 0 });
  expect(await next(1, false)).toEqual([]);
  expect(await next(2, false)).toBe(null);
  expect(await next(3, true)).toEqual([]);
  expect(await next(4, true)).toEqual([]);
});
