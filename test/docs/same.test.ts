/** What the comparison lets pass and what it does not, and that a terminal is read as one shows it. */
import { expect, test } from "vitest";
import { normal } from "./same.ts";
import { screenOf } from "./screen.ts";
import { retold, storyOf } from "./story.ts";

const PS = "r_rkynpi5b  hello  web/0    office  ready         0  20s   16s  http://127.0.0.1:32768";

test.each([
  ["ids, ages and ports", PS, "r_bccberhb  hello  web/0    office  ready         0  1m2s   0s  http://127.0.0.1:49153"],
  ["the machine", PS, PS.replace("office", "till1")],
  ["which steps were slow", "✓ a/b/0  x  preparing 0.3 s  starting 0.4 s  ready 3.1 s", "✓ a/b/0  x  checking health 2.0 s  ready 3.2 s"],
  ["addresses", "  shop/web/0  http://192.0.2.11:32768", "  shop/web/0  http://10.177.29.3:32770"],
  ["revisions", "shop runs revision 9  13.4 s", "shop runs revision 27  15.1 s"],
])("may differ: %s", (_name, one, other) => {
  expect(normal(one)).toBe(normal(other));
});

test.each([
  ["a word", PS, PS.replace("ready", "running")],
  ["a column that is gone", PS, PS.replace("  0  20s", "  20s")],
  ["columns in another order", PS, PS.replace("hello  web/0", "web/0  hello")],
  ["a count", "hello/web  3 ready", "hello/web  2 ready"],
  ["loopback and elsewhere", PS, PS.replace("127.0.0.1", "192.0.2.10")],
  ["a port that was asked for", "http://127.0.0.1:7420/docs", "http://127.0.0.1:7421/docs"],
  ["a step that nobody knows", "✓ a/b/0  x  ready 3.1 s", "✓ a/b/0  x  unpacking 0.3 s  ready 3.1 s"],
  ["restarts", PS, PS.replace("ready         0", "ready         1")],
])("may not differ: %s", (_name, one, other) => {
  expect(normal(one)).not.toBe(normal(other));
});

test("lines drawn again in place are read as they end", () => {
  const output =
    "one\r\n\u001b[?25l⠋ busy\r\nrow\r\n\u001b[2A\u001b[J✓ \u001b[32mdone\u001b[0m\r\n\u001b[?25hAsk? \u001b[1G\u001b[0JAsk? [y/N] y\r\nworking\r\u001b[2Kend";
  expect(screenOf(output)).toEqual(["one", "✓ done", "Ask? [y/N] y", "end"]);
});

const DOCUMENT = [
  "# T",
  "```console terminal-1",
  "$ a b",
  "old",
  "```",
  "```yaml x.yaml",
  "k: v",
  "```",
  "```console",
  "$ c",
  "# d",
  "```",
  "```console terminal-1",
  "^C",
  "```",
  "",
].join("\n");

test("a document is a story, and is told again with what was seen", () => {
  expect(storyOf(DOCUMENT).map((step) => (step.kind === "file" ? step.path : [step.where, step.command, step.shown]))).toEqual([
    ["terminal-1", "a b", ["old"]],
    "x.yaml",
    ["here", "c", []],
    ["here", "d", []],
    ["terminal-1", null, ["^C"]],
  ]);
  const again = retold(
    DOCUMENT,
    new Map([
      [3, ["new", "more"]],
      [10, ["seen"]],
      [14, ["^C", "bye"]],
    ]),
  );
  expect(again).toBe(DOCUMENT.replace("old", "new\nmore").replace("$ c\n", "$ c\nseen\n").replace("^C", "^C\nbye"));
});
