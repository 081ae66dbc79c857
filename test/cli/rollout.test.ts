import { describe, expect, test } from "vitest";
import { appState } from "../../cli/commands/apps.ts";
import { appDiff, appLock, appRollout, appUnlock } from "../../cli/commands/rollout.ts";
import { app } from "./resources.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

const deployment = {
  id: "d_aaaaaaaaaaaaaaaa" as const,
  namespace: "default",
  app: "shop",
  revision: 7,
  fromRevision: 5,
  kind: "deploy" as const,
  state: "running" as const,
  message: "deploy",
  createdBy: "admin",
  pausedBy: null,
  canariesHealthy: false,
  promoted: false,
  started: "2026-01-01T00:00:00.000Z",
  finished: null,
};

function speaking(shown = app({ deployment })) {
  const said: string[] = [];
  const { client } = clientWith(({ method, path }) => {
    if (method !== "GET") said.push(`${method} ${path}`);
    return answer(200, path.includes("/deployments/") ? deployment : shown);
  });
  const terminal = recordingTerminal();
  return { said, terminal, shell: shellOf({ client, terminal }) };
}

describe("words to a rollout", () => {
  test.each([
    ["pause", "paused: what has begun is finished, and nothing new is begun until berth resume shop"],
    ["resume", "resumed; follow it with: berth ps shop"],
    ["promote", "promoted: the canaries take over, and the rest follows; follow it with: berth ps shop"],
    ["abort", "aborted; follow what becomes of it with: berth ps shop"],
  ] as const)("%s goes to the deployment that runs", async (verb, done) => {
    const { said, terminal, shell } = speaking();
    await appRollout(shell, "shop", { verb, yes: true });
    expect(said).toEqual([`POST /v1/namespaces/default/deployments/${deployment.id}/${verb}`]);
    expect(terminal.text()).toContain(done);
  });

  test("with none under way the last one is named", async () => {
    const { said, shell } = speaking(app({ deployment: { ...deployment, state: "failed" } }));
    await expect(appRollout(shell, "shop", { verb: "pause" })).rejects.toThrow("no deployment of shop is under way: the last one failed");
    expect(said).toEqual([]);
  });

  test.each([
    [{ pausedBy: "ann" }, "paused"],
    [{ canariesHealthy: true }, "to be promoted"],
    [{ canariesHealthy: true, promoted: true }, "deploying"],
    [{}, "deploying"],
  ])("an app's state while %j is %s", (over, text) => {
    expect(appState(app({ deployment: { ...deployment, ...over } })).text).toBe(text);
  });
});

test("a lock is taken with a reason and lifted", async () => {
  const { said, terminal, shell } = speaking();
  await appLock(shell, "shop", { message: "the sale" });
  await appUnlock(shell, "shop");
  expect(said).toEqual(["PUT /v1/namespaces/default/apps/shop/lock", "DELETE /v1/namespaces/default/apps/shop/lock"]);
  expect(terminal.text()).toContain("shop is locked until: berth unlock shop");
});

test("a diff is a tree with signs", async () => {
  const diff = {
    from: 5,
    to: 7,
    services: [
      { service: "api", change: "added", differences: [] },
      { service: "web", change: "changed", differences: ["image a → b"] },
    ],
    others: ["config motd removed"],
  };
  const { client } = clientWith(() => answer(200, diff));
  const terminal = recordingTerminal();
  await appDiff(shellOf({ client, terminal }), "shop", {});
  expect(terminal.text().trimEnd().split("\n")).toEqual(["revision 5 → 7", "+ api", "~ web", "    image a → b", "~ config motd removed"]);
});
