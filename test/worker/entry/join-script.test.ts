import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { JOIN_SCRIPT, joinCommand } from "../../../worker/join-script.ts";

const run = (args: string[]) => spawnSync("sh", ["-s", "--", ...args], { input: JOIN_SCRIPT, encoding: "utf8" });
const token = (value: object) => `berth_join_${Buffer.from(JSON.stringify(value)).toString("base64url")}`;

test("the line pins our own certificate and trusts the machine's authorities otherwise", () => {
  expect(joinCommand({ url: "https://10.0.0.1:7443", spki: "a-b_c" }, "T")).toBe(
    "curl -fsSL -k --pinnedpubkey 'sha256//a+b/c=' https://10.0.0.1:7443/join.sh | sh -s -- T",
  );
  expect(joinCommand({ url: "https://berth.example.com", spki: null }, "T")).toBe(
    "curl -fsSL https://berth.example.com/join.sh | sh -s -- T",
  );
});

test("what is not a token is refused before anything is touched", () => {
  for (const [args, says] of [
    [[], "is not a join token"],
    [["nonsense"], "is not a join token"],
    [["berth_join_!!!!"], "damaged"],
    [[token({ v: 1 })], "names no control plane"],
    [[token({ url: "https://127.0.0.1:1" }), "--frobnicate"], "unknown argument --frobnicate"],
  ] as const) {
    const { status, stderr } = run([...args]);
    expect([args, status, stderr.includes(says)]).toEqual([args, 1, true]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  }
});

test("a script that was cut off at any line runs nothing", () => {
  const lines = JOIN_SCRIPT.split("\n");
  for (const count of [10, 30, 60, 90, lines.length - 3]) {
    const { stdout } = spawnSync("sh", ["-s", "--", "nonsense"], { input: lines.slice(0, count).join("\n"), encoding: "utf8" });
    expect(stdout).toBe("");
  }
});
