import fc from "fast-check";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { emit, emitItem } from "../../cli/render/output.ts";
import { events, why } from "../../cli/commands/look.ts";
import { logs } from "../../cli/commands/logs.ts";
import type { Place } from "../../cli/commands/place.ts";
import { replica } from "./resources.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

test("why says of each replica that is not ready what is known of it", async () => {
  const ready = { readySince: "2026-01-01T00:00:00.000Z" };
  const replicas = [
    replica({ slot: "0", ...ready }),
    replica({ slot: "1", health: "unhealthy", restarts: 3, message: "wget: connection refused" }),
    replica({ slot: "2", state: "starting", exitCode: 137, oomKilled: true }),
    replica({ slot: "3", ...ready, node: { ...replica().node, engineReachable: false } }),
    replica({ slot: "4", state: "rejected", reason: "policy", message: "privileged is not allowed" }),
  ];
  const { client } = clientWith(({ path }) =>
    answer(200, { items: path.includes("/why") ? [{ app: "shop", service: "web", at: null, explanation: null }] : replicas }),
  );
  const terminal = recordingTerminal();
  await why(shellOf({ client, terminal }), { app: "shop", service: "web" });
  expect(terminal.text().trimEnd().split("\n")).toEqual([
    "shop/web",
    "├─ not planned yet",
    "├─ slot 1 on node-a  unhealthy, restarted 3×  wget: connection refused",
    "├─ slot 2 on node-a  starting, exit code 137, killed for want of memory",
    "├─ slot 3 on node-a  running, no engine",
    "└─ slot 4 on node-a  rejected: policy  privileged is not allowed",
  ]);
});

test("no format lets a name reach the terminal with what it would obey", async () => {
  const hostile = { name: "a\u001b[2J\u009b2J\u202eb\r", plain: "one\ntwo", "k\u0007": "ü" };
  for (const output of ["json", "yaml"] as const) {
    const terminal = recordingTerminal();
    await emit(shellOf({ terminal, output }), { items: [hostile] }, () => undefined);
    expect(terminal.text(), output).not.toMatch(/[^\n\P{Cc}]|[\u202a-\u202e]/u);
    expect(parse(terminal.text()), output).toEqual({ items: [hostile] });
    await emitItem(shellOf({ terminal, output }), hostile);
    expect(terminal.text(), output).not.toMatch(/[^\n\P{Cc}]|[\u202a-\u202e]/u);
  }
});

test("whatever a text holds, the formats say it and nothing else", async () => {
  const piece = fc.constantFrom(
    ..."a \n\t\r\u0000\u001b\u007f\u0085\u009b\u061c\u200e\u2028\u202e\u2066\ufeff'\"\\|>#:-*&!{[?%",
    "word ".repeat(20),
    "---",
  );
  const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
  await fc.assert(
    fc.asyncProperty(text, fc.constantFrom("json" as const, "yaml" as const), async (said, output) => {
      const terminal = recordingTerminal();
      const value = { name: said, items: [said], in: { [said]: 1 } };
      await emit(shellOf({ terminal, output }), value, () => undefined);
      expect(terminal.text()).not.toMatch(/[^\n\t\P{Cc}]|[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u);
      expect(output === "json" ? JSON.parse(terminal.text()) : parse(terminal.text())).toEqual(value);
    }),
    { numRuns: 500, examples: [" \n", "\ufeff", "a\u0085b", "a\u202eb"].map((said) => [said, "yaml"]) },
  );
});

test("the column of who speaks is as wide from the first line as its longest name", async () => {
  const items = [
    replica({ service: "web", slot: "0" }),
    replica({ service: "web", slot: "10" }),
    replica({ service: "metrics", slot: "0" }),
  ];
  const entry = {
    kind: "line",
    replica: "r_a",
    service: "web",
    slot: "0",
    node: "node-a",
    stream: "stdout",
    at: null,
    text: "hi",
    cut: false,
  };
  const { client } = clientWith(({ path }) => {
    if (path.includes("/logs")) return answer(200, `${JSON.stringify(entry)}\n`);
    const service = new URL(path, "https://berth.test").searchParams.get("service");
    return answer(200, { items: items.filter((item) => service === null || item.service === service) });
  });
  const printed = async (place: Place) => {
    const terminal = recordingTerminal();
    await logs(shellOf({ client, terminal }), place, { follow: false, tail: 1, timestamps: false });
    return terminal.text();
  };
  expect(await printed({ app: "shop" })).toBe("web/0 node-a     | hi\n");
  // Of those that were asked for alone.
  expect(await printed({ app: "shop", service: "web", slot: "0" })).toBe("web/0 node-a | hi\n");
});

test("events name an object whole unless it is an id", async () => {
  const event = (id: string) => ({
    id: 1,
    at: "2026-01-01T00:00:00.000Z",
    rev: 1,
    namespace: null,
    object: { kind: "app", id },
    app: null,
    type: "removing",
    level: "info",
    message: "m",
  });
  const { client } = clientWith(() => answer(200, { items: [event("a_team/web_of_names"), { ...event("app_abcdefghijklmnop"), id: 2 }] }));
  const terminal = recordingTerminal({ columns: 200 });
  await events(shellOf({ client, terminal }), undefined, { follow: false, all: true });
  expect(terminal.text()).toContain("app/a_team/web_of_names ");
  expect(terminal.text()).toContain("app/app_abcdefgh ");
});

test("logs come one by one as YAML documents or lines of JSON", async () => {
  const entry = { kind: "line", replica: "r_a", service: "web", slot: "0", node: "n", stream: "stdout", at: null, text: "hi", cut: false };
  const { client } = clientWith(() => answer(200, `${JSON.stringify(entry)}\n`));
  const printed = async (output: "yaml" | "json") => {
    const terminal = recordingTerminal();
    await logs(shellOf({ client, terminal, output }), { app: "shop" }, { follow: false, tail: 1, timestamps: false });
    return terminal.text();
  };
  expect(await printed("yaml")).toMatch(/^---\nkind: line\n[\s\S]*text: hi\n/);
  expect(JSON.parse(await printed("json"))).toEqual(entry);
});
