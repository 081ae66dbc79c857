import { expect, test } from "vitest";
import { why } from "../../cli/commands/look.ts";
import { logs } from "../../cli/commands/logs.ts";
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
