import { afterEach, expect, test, vi } from "vitest";
import { FactBook } from "../../agent/fact-book.ts";
import { Reporter } from "../../agent/link/reporter.ts";
import { HttpError } from "../../agent/ports.ts";
import type { FactBase } from "../../shared/converge/facts.ts";
import { NODE_REPLICAS_MAX } from "../../shared/schedule/fleet.ts";
import { type NodeFacts, type ReplicaFact, ReportRequest } from "../../shared/wire/report.ts";
import { BODY_BYTES_MAX } from "../../worker/body.ts";

let end = new AbortController();
afterEach(() => {
  end.abort();
  end = new AbortController();
});

const silent = () => undefined;
/** A reporter whose reports are acknowledged when a control plane would take them. */
function reporting(
  options: {
    readonly nodeFacts?: unknown;
    readonly volumes?: readonly string[];
    readonly isReachable?: () => boolean;
    /** Reports that are taken and whose answer is lost. */
    readonly isAnswerLost?: (report: ReportRequest) => boolean;
  } = {},
) {
  const reports: ReportRequest[] = [];
  const refused: number[] = [];
  const facts = new FactBook({ onChange: silent, onAcknowledged: silent });
  const reporter = new Reporter(
    {
      transport: {
        exchange: async ({ body }) => {
          const bytes = Buffer.byteLength(JSON.stringify(body));
          if (bytes > BODY_BYTES_MAX) {
            refused.push(bytes);
            return { kind: "refused", code: "too_large", message: "", status: 413, text: "" };
          }
          const unsound = ReportRequest.shape.replicas.safeParse((body as ReportRequest).replicas);
          if (!unsound.success) {
            refused.push(0);
            return { kind: "refused", code: "invalid", message: unsound.error.message, status: 400, text: "" };
          }
          reports.push(body as ReportRequest);
          if (options.isAnswerLost?.(body as ReportRequest))
            return { kind: "failed", error: new HttpError("timeout", "no answer in time") };
          return { kind: "ok", status: 200, text: JSON.stringify({ ackSeq: (body as ReportRequest).seq }), era: null };
        },
      },
      source: {
        facts,
        nodeFacts: async () => (options.nodeFacts ?? {}) as NodeFacts,
        engine: () => ({ reachable: options.isReachable?.() ?? true, message: "" }),
        volumes: () => options.volumes ?? [],
        hasDrops: () => false,
        generation: () => 1,
        isKnown: () => true,
      },
      clock: {
        wallMs: () => 0,
        bootMs: () => 10_000,
        after: (_, run) => {
          const timer = setImmediate(run);
          return () => clearImmediate(timer);
        },
      },
      random: { bytes: (count) => new Uint8Array(count), fraction: () => 0 },
      log: { debug: silent, info: silent, warn: silent, error: silent },
      onRefused: silent,
    },
    end.signal,
  );
  return {
    reporter,
    reports,
    refused,
    facts,
    open: () => reporter.opened({ node: "n", number: 1, era: "e", key: new Uint8Array(), seq: 0 }),
  };
}

const LARGE = Number.MAX_SAFE_INTEGER;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
/** As large as the schema lets a fact be. */
const largest = (index: number, state: FactBase["state"] = "running"): FactBase => ({
  replica: `r_${index
    .toString(26)
    .replace(/./g, (digit) => LETTERS[Number.parseInt(digit, 26)]!)
    .padStart(16, "a")}` as FactBase["replica"],
  state,
  reason: "ö".repeat(64),
  message: "\u2028".repeat(2048),
  containerId: "c".repeat(64),
  health: "unhealthy",
  restarts: LARGE,
  exitCode: -LARGE,
  oomKilled: false,
  ports: Array.from({ length: 2_048 }, () => ({ target: 65_535, protocol: "tcp" as const, hostIp: "f".repeat(64), hostPort: 65_535 })),
  pull: { currentBytes: LARGE, totalBytes: LARGE },
  logTail: Array.from({ length: 20 }, () => "\u0001".repeat(512)),
});
const details = ({ message, ports, logTail }: ReplicaFact | FactBase) => ({ message, ports, logTail });

test("110 failed replicas with full log tails are told of in one complete report, the oldest without their lines", async () => {
  const { reports, refused, facts, open } = reporting();
  for (let i = 0; i < 110; i++)
    facts.put(
      {
        ...largest(i, "failed"),
        reason: "exit",
        message: "",
        ports: [],
        pull: null,
        logTail: Array.from({ length: 20 }, () => "x".repeat(512)),
      },
      { readySinceMs: null, seenMs: i },
    );
  open();
  await vi.waitFor(() => expect(facts.hasNews).toBe(false));
  expect(refused).toEqual([]);
  const [first, ...rest] = reports;
  expect(first).toMatchObject({ complete: true, seq: 1 });
  expect(first!.replicas).toHaveLength(110);
  const isBare = first!.replicas.map(({ logTail }) => logTail.length === 0);
  expect(isBare.indexOf(false)).toBe(isBare.filter(Boolean).length);
  expect(isBare.filter(Boolean).length).toBeGreaterThan(0);
  expect(isBare.filter(Boolean).length).toBeLessThan(40);
  expect(rest.flatMap(({ complete, replicas }) => [complete, ...replicas.map(({ logTail }) => logTail.length)])).toEqual([
    false,
    ...isBare.filter(Boolean).map(() => 20),
  ]);
});

test("as many replicas as a node is given, each fact as large as can be, are named by the first report", async () => {
  const { reports, refused, facts, open } = reporting();
  for (let i = 0; i < NODE_REPLICAS_MAX; i++) facts.put(largest(i), { readySinceMs: 0, seenMs: 0 });
  open();
  await vi.waitFor(() => expect(reports.length).toBeGreaterThan(2));
  expect(refused).toEqual([]);
  expect(reports[0]).toMatchObject({ complete: true, seq: 1 });
  expect(reports[0]!.replicas.map(({ replica, state }) => [replica, state])).toEqual(
    facts.replicas().map((replica) => [replica, "running"]),
  );
  expect(reports.slice(1).some(({ complete, replicas }) => complete || replicas.length === 0)).toBe(false);
}, 30_000);

test("a fact that no control plane would take goes without its details, and keeps no other back", async () => {
  const { reports, refused, facts, open } = reporting();
  const ports = Array.from({ length: 3_000 }, () => ({ target: 1, protocol: "udp" as const, hostIp: "0.0.0.0", hostPort: 1 }));
  facts.put({ ...largest(0), ports }, { readySinceMs: 0, seenMs: 0 });
  facts.put(largest(1), { readySinceMs: 0, seenMs: 0 });
  open();
  await vi.waitFor(() => expect(facts.hasNews).toBe(false));
  expect(refused).toEqual([]);
  expect(reports[0]!.replicas.map((fact) => [fact.state, fact.ports.length])).toEqual([
    ["running", 0],
    ["running", 2_048],
  ]);
});

test("what the first report has no room for is told by those that follow", async () => {
  const nodeFacts = { labels: Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`${i}`.padStart(128, "k"), "ö".repeat(256)])) };
  const volumes = Array.from({ length: 3_000 }, (_, i) => `berth_${i}`.padEnd(255, "v"));
  const { reporter, reports, refused, facts, open } = reporting({ nodeFacts, volumes });
  for (let i = 0; i < 30; i++) facts.put(largest(i), { readySinceMs: 0, seenMs: 0 });
  for (let i = 0; i < 1_000; i++) {
    reporter.resolved({
      namespace: "n".repeat(63),
      app: "a".repeat(63),
      revision: i + 1,
      reference: "r".repeat(512),
      digest: `sha256:${"0".repeat(64)}`,
      imageId: `sha256:${"0".repeat(64)}`,
    });
  }
  open();
  await vi.waitFor(() => expect(reports.flatMap(({ images }) => images)).toHaveLength(1_000), { timeout: 10_000 });
  await vi.waitFor(() => expect(facts.hasNews).toBe(false));
  await vi.waitFor(() => expect(reports.flatMap((report) => report.volumes ?? [])).toHaveLength(3_000));
  expect(refused).toEqual([]);
  expect(reports.map(({ complete }) => complete)).toEqual(reports.map((_, index) => index === 0));
  const known = new Map(reports.flatMap(({ replicas }) => replicas).map((fact) => [fact.replica as string, fact]));
  expect(known.size).toBe(30);
  for (const fact of known.values()) expect(details(fact)).toEqual(details(largest(0)));
  expect(reports.filter((report) => report.facts !== null)).toHaveLength(1);
}, 30_000);

test("a list of volumes that no report has room for is left out whole, and asked for no further", async () => {
  const volumes = Array.from({ length: 9_000 }, (_, i) => `berth_${i}`.padEnd(255, "v"));
  const { reporter, reports, facts, open } = reporting({ volumes });
  facts.put(largest(1), { readySinceMs: 0, seenMs: 0 });
  open();
  await vi.waitFor(() => expect(facts.hasNews).toBe(false));
  facts.put(largest(2), { readySinceMs: 0, seenMs: 0 });
  reporter.changed();
  await vi.waitFor(() => expect(facts.hasNews).toBe(false));
  expect(reports.map((report) => report.volumes)).toEqual([null, null]);
});

test("whether volumes to drop are there is said for each set that names them, also when the list is as before", async () => {
  const reports: ReportRequest[] = [];
  const accepted = { generation: 1, drops: false };
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

test("what was told without an acknowledgement is told again, also when it is as it was before that (F23)", async () => {
  let isReachable = true;
  const { reports, reporter, open } = reporting({
    isReachable: () => isReachable,
    isAnswerLost: ({ engine }) => {
      if (engine.reachable) return false;
      isReachable = true;
      return true;
    },
  });
  open();
  const reachable = () => reports.map(({ engine }) => engine.reachable);
  await vi.waitFor(() => expect(reachable()).toEqual([true]));
  isReachable = false;
  reporter.changed();
  await vi.waitFor(() => expect(reachable()).toEqual([true, false, true]));
});
