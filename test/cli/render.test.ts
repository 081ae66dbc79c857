import { describe, expect, test } from "vitest";
import type { DeployPlan, Replica } from "../../shared/api/resources.ts";
import { addressesOf } from "../../cli/render/address.ts";
import { age, bar, bytes, duration, parseDuration, seconds } from "../../cli/render/amount.ts";
import { Live } from "../../cli/render/live.ts";
import { changesOf, planLines } from "../../cli/render/plan.ts";
import { phaseOf, Rollout } from "../../cli/render/rollout.ts";
import { styleFor, wantsColour } from "../../cli/render/style.ts";
import { tableLines } from "../../cli/render/table.ts";
import { treeLines } from "../../cli/render/tree.ts";
import { visible, visibleLog } from "../../cli/render/visible.ts";
import { clip, widthOf } from "../../cli/render/width.ts";
import { plannedReplica, plannedService, replica } from "./resources.ts";
import { recordingTerminal } from "./terminal.ts";

const plain = styleFor(false);

describe("text from elsewhere", () => {
  const rows: [string, string, string][] = [
    ["cursor movement", "\u001b[2Jgone", "\\x1b[2Jgone"],
    ["window title", "\u001b]0;root\u0007", "\\x1b]0;root\\x07"],
    ["C1 control", "a\u009b31mb", "a\\x9b31mb"],
    ["carriage return", "ok\rfailed", "ok\\x0dfailed"],
    ["new line", "one\ntwo", "one\\x0atwo"],
    ["right-to-left override", "a\u202eb", "a\\u202eb"],
    ["plain and wide letters", "grün 船", "grün 船"],
  ];
  test.each(rows)("%s is made visible", (_name, text, expected) => expect(visible(text)).toBe(expected));

  test("log lines lose colours and keep everything else visible", () => {
    expect(visibleLog("\u001b[32mGET\u001b[0m\t/ \u001b[1A")).toBe("GET    / \\x1b[1A");
    expect(visibleLog("windows\r")).toBe("windows");
  });

  test("cells of a table are made visible", () => {
    const [, row] = tableLines([{ header: "node", cell: (name: string) => name }], ["\u001b[2Jx"], { style: plain, columns: null });
    expect(row).toBe("\\x1b[2Jx");
  });
});

describe("width", () => {
  test.each([
    ["ascii", "abc", 3],
    ["wide", "船ab", 4],
    ["combining", "e\u0301", 1],
    ["coloured", "\u001b[32mab\u001b[0m", 2],
  ])("%s", (_name, text, width) => expect(widthOf(text)).toBe(width));
  test.each([
    ["fits", "abc", 3, "abc"],
    ["cut", "abcdef", 4, "abc…"],
    ["wide letters are not halved", "船船船", 4, "船…"],
    ["colour is closed", "\u001b[32mabcdef\u001b[0m", 4, "\u001b[32mabc…\u001b[0m"],
    ["no room", "abc", 0, ""],
  ])("clip: %s", (_name, text, width, expected) => expect(clip(text, width)).toBe(expected));
});

describe("amounts", () => {
  test.each([
    [0, "0s"],
    [999, "0s"],
    [8_000, "8s"],
    [65_000, "1m5s"],
    [600_000, "10m"],
    [5_400_000, "1h30m"],
    [86_400_000 * 12, "12d"],
  ])("duration %d", (ms, text) => expect(duration(ms)).toBe(text));
  test("ages are never negative", () => expect(age("2026-01-01T00:00:05.000Z", Date.parse("2026-01-01T00:00:00.000Z"))).toBe("0s"));
  test("age of nothing", () => expect(age(null, 0)).toBe("-"));
  test.each([
    ["90s", 90_000],
    ["5m", 300_000],
    ["7d", 604_800_000],
    ["250ms", 250],
    ["5", null],
    ["1w", null],
    ["-1s", null],
  ])("parse %s", (text, ms) => expect(parseDuration(text)).toBe(ms));
  test("seconds", () => expect([seconds(440), seconds(75_000)]).toEqual(["0.4 s", "1m15s"]));
  test("bytes", () => expect([bytes(12), bytes(1_500), bytes(2_300_000)]).toEqual(["12 B", "1.5 kB", "2.3 MB"]));
  test.each([
    [0, 100, "░░░░ 0 B of 100 B"],
    [50, 100, "██░░ 50 B of 100 B"],
    [500, 100, "████ 500 B of 100 B"],
    [7, 0, "7 B"],
  ])("bar %d of %d", (current, total, text) => expect(bar(current, total, 4)).toBe(text));
});

describe("colour", () => {
  test.each([
    ["a terminal", true, {}, true],
    ["a pipe", false, {}, false],
    ["NO_COLOR", true, { NO_COLOR: "1" }, false],
    ["an empty NO_COLOR says nothing", true, { NO_COLOR: "" }, true],
    ["FORCE_COLOR in a pipe", false, { FORCE_COLOR: "1" }, true],
    ["a dumb terminal", true, { TERM: "dumb" }, false],
  ])("%s", (_name, isTty, env, expected) => expect(wantsColour(isTty, env)).toBe(expected));
});

test("tables are aligned under upper-case headers, the last column is cut to the terminal", () => {
  const columns = [
    { header: "app", cell: (row: { app: string; count: number; text: string }) => row.app },
    { header: "count", cell: (row: { count: number }) => row.count, align: "right" as const },
    { header: "message", cell: (row: { text: string }) => row.text },
  ];
  const rows = [
    { app: "a", count: 7, text: "short" },
    { app: "longer", count: 1234, text: "a message of many words" },
  ];
  expect(tableLines(columns, rows, { style: plain, columns: 25 })).toEqual([
    "APP     COUNT  MESSAGE",
    "a           7  short",
    "longer   1234  a message…",
  ]);
});

test("trees", () => {
  expect(treeLines([{ text: "a", children: [{ text: "b" }, { text: "c", children: [{ text: "d" }] }] }, { text: "e" }])).toEqual([
    "├─ a",
    "│  ├─ b",
    "│  └─ c",
    "│     └─ d",
    "└─ e",
  ]);
});

describe("plan", () => {
  const planOf = (parts: Partial<DeployPlan>): DeployPlan => ({
    namespace: "default",
    app: "shop",
    fromRevision: 7,
    unchanged: false,
    services: [],
    volumes: [],
    notes: [],
    ...parts,
  });

  test("says what is made, replaced and removed, and where", () => {
    const plan = planOf({
      services: [
        plannedService({
          service: "web",
          action: "update",
          differences: ["image web:1 → web:2"],
          order: "stop-first",
          orderReason: "host port 80",
          replicas: [
            plannedReplica({ slot: "0", action: "replace", from: "a", to: "b", reason: "update" }),
            plannedReplica({ slot: "1", action: "remove", from: "a", to: null, reason: "scale" }),
            plannedReplica({ slot: "2", action: "create", from: null, to: null, reason: "memory", message: "2 of 2 nodes lack 512 MiB" }),
          ],
          counts: { create: 1, replace: 1, remove: 1, keep: 0, unplaced: 1 },
        }),
        plannedService({ service: "db", action: "keep", counts: { create: 0, replace: 0, remove: 0, keep: 1, unplaced: 0 } }),
      ],
      volumes: [{ name: "data", action: "create" }],
      notes: ["web and db talk to each other"],
    });
    expect(planLines(plan, plain)).toEqual([
      "shop in default: from revision 7",
      "├─ ~ web  1 to make, 1 to replace, 1 to remove, 1 not placed",
      "│  ├─ image web:1 → web:2",
      "│  ├─ old before new: host port 80",
      "│  ├─ ~ web/0 a → b  update",
      "│  ├─ - web/1 on a  scale",
      "│  └─ ! web/2 not placed  2 of 2 nodes lack 512 MiB",
      "├─ = db  1 kept",
      "├─ + volume data",
      "└─ web and db talk to each other",
    ]);
    expect(changesOf(plan)).toBe(3);
  });

  test("many replicas are shown by node", () => {
    const replicas = Array.from({ length: 40 }, (_, slot) =>
      plannedReplica({ slot: `${slot}`, action: "create", to: slot % 2 === 0 ? "a" : "b" }),
    );
    const plan = planOf({
      services: [
        plannedService({ service: "web", action: "create", replicas, counts: { create: 40, replace: 0, remove: 0, keep: 0, unplaced: 0 } }),
      ],
    });
    expect(planLines(plan, plain).slice(1)).toEqual(["└─ + web  40 to make", "   ├─ + 20 on a", "   └─ + 20 on b"]);
  });

  test("nothing to do", () =>
    expect(planLines(planOf({ unchanged: true }), plain)).toEqual(["shop in default: nothing to do, revision 7 is what was asked for"]));
});

describe("rollout", () => {
  test.each<[string, Partial<Replica>, string]>([
    ["assigned", { state: "assigned" }, "waiting for the node"],
    ["preparing without a pull", { state: "preparing" }, "preparing"],
    ["preparing with a pull", { state: "preparing", pull: { currentBytes: 1, totalBytes: 2 } }, "pulling"],
    ["running, not ready", { state: "running" }, "checking health"],
    ["running and ready", { state: "running", readySince: "2026-01-01T00:00:00.000Z" }, "ready"],
    ["to be stopped", { state: "running", desired: "stop" }, "stopping"],
    ["failed", { state: "failed" }, "failed"],
    ["rejected", { state: "rejected" }, "failed"],
    ["ended", { state: "stopped" }, "stopped"],
  ])("phase of %s", (_name, parts, phase) => expect(phaseOf(replica(parts))).toBe(phase));

  test("shows seconds for each step and a bar for a pull; replicas from before only when they end", () => {
    const rollout = new Rollout(["r_old"]);
    const old = replica({ id: "r_old" as Replica["id"], slot: "9", state: "running", readySince: "2026-01-01T00:00:00.000Z" });
    rollout.observe([old, replica({ state: "assigned" })], 0);
    rollout.observe([old, replica({ state: "preparing", pull: { currentBytes: 5, totalBytes: 10 } })], 400);
    expect(rollout.lines(1_400, plain).map((text) => text.slice(2))).toEqual([
      `shop/web/0  node-a  waiting for the node 0.4 s  pulling ${bar(5, 10, 20)} 1.0 s`,
    ]);
    rollout.observe([{ ...old, desired: "stop" }, replica({ state: "running", readySince: "2026-01-01T00:00:00.000Z" })], 2_400);
    rollout.observe([replica({ state: "running", readySince: "2026-01-01T00:00:00.000Z" })], 2_600);
    expect(rollout.takeNews()).toEqual([
      "shop/web/0 on node-a: waiting for the node",
      "shop/web/0 on node-a: pulling",
      "shop/web/9 on node-a: stopping",
      "shop/web/0 on node-a: ready after 2.4 s",
      "shop/web/9 on node-a: stopped",
    ]);
    expect(rollout.lines(3_000, plain)).toEqual(["✓ shop/web/0  node-a  waiting for the node 0.4 s  pulling 2.0 s  ready 2.4 s"]);
    expect(rollout.readyCount).toBe(1);
    expect(rollout.troubled()).toEqual([]);
  });

  test("an obstacle is shown with its replica, and told once in a log", () => {
    const rollout = new Rollout();
    const stuck = replica({ state: "preparing", reason: "pullDenied", message: "r.test needs a login" });
    rollout.observe([replica({ state: "preparing" })], 0);
    rollout.observe([stuck], 1_000);
    rollout.observe([stuck], 2_000);
    expect(rollout.takeNews()).toEqual(["shop/web/0 on node-a: preparing", "shop/web/0 on node-a: pullDenied: r.test needs a login"]);
    expect(rollout.lines(2_000, plain)[0]).toMatch(/preparing 2\.0 s {2}pullDenied: r\.test needs a login$/);
    rollout.observe([replica({ state: "preparing", pull: { currentBytes: 1, totalBytes: 2 } })], 3_000);
    expect(rollout.lines(3_000, plain)[0]).not.toContain("pullDenied");
  });

  test("a failure names its reason and is what is told of first", () => {
    const rollout = new Rollout();
    rollout.observe([replica({ state: "starting" })], 0);
    rollout.observe([replica({ state: "failed", message: "exit \u001b[31m1", logTail: ["boom"] })], 1_000);
    expect(rollout.takeNews().at(-1)).toBe("shop/web/0 on node-a: failed after 1.0 s: exit \\x1b[31m1");
    expect(rollout.troubled().map(({ logTail }) => logTail)).toEqual([["boom"]]);
  });
});

describe("live block", () => {
  test("is erased by moving over it, is never wider or higher than the terminal, and gives the cursor back", () => {
    const terminal = recordingTerminal({ isTty: true, columns: 10, rows: 4 });
    const live = new Live(terminal);
    live.draw(["a line that is too long", "b"]);
    live.draw(["a line that is too long", "b"]);
    live.draw(["1", "2", "3", "4", "5"]);
    live.finish(["done"]);
    expect(terminal.text()).toBe("\u001b[?25la line t…\nb\n\u001b[2A\u001b[J1\n2\n… and 3 …\n\u001b[3A\u001b[J\u001b[?25hdone\n");
  });
});

describe("addresses", () => {
  const bound = (target: number, hostIp: string, hostPort: number) => ({ target, protocol: "tcp" as const, hostIp, hostPort });
  test.each([
    ["both families are one address", [bound(80, "0.0.0.0", 3000), bound(80, "::", 3000)], true, ["http://127.0.0.1:3000"]],
    [
      "each family with a port of its own: the IPv4 one works",
      [bound(80, "0.0.0.0", 32768), bound(80, "::", 32769)],
      true,
      ["http://127.0.0.1:32768"],
    ],
    ["IPv6 alone", [bound(80, "::", 3000)], true, ["http://[::1]:3000"]],
    ["IPv6 alone, on another machine", [bound(80, "::", 3000)], false, ["http://[2001:db8::5]:3000"]],
    ["on another machine, its first address", [bound(80, "0.0.0.0", 3000)], false, ["http://10.0.0.5:3000"]],
    ["a bound address", [bound(443, "192.0.2.1", 443)], false, ["https://192.0.2.1:443"]],
    ["a port that is no HTTP", [bound(5432, "0.0.0.0", 5432)], true, ["127.0.0.1:5432"]],
  ])("%s", (_name, ports, isLocal, expected) =>
    expect(
      addressesOf(replica({ ports, node: { ...replica().node, addresses: ["10.0.0.5", "2001:db8::5"] } }), isLocal).map(({ url }) => url),
    ).toEqual(expected),
  );
});
