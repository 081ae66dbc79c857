import { expect, test } from "vitest";
import { appRm } from "../../cli/commands/apps.ts";
import { app } from "./resources.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

const gone = { error: { code: "not_found", message: "there is no app shop", reason: "app", details: [], retryable: false } };
const notes = ["these volumes are deleted with it: data on node-1"];

test("rm --delete-data of an app that is gone names the volumes it left, and drops them after a yes", async () => {
  const { client, requests } = clientWith(({ method }) => (method === "GET" ? answer(404, gone) : answer(200, { removed: "shop", notes })));
  const terminal = recordingTerminal();
  const rm = (options: { yes: boolean; deleteData: boolean }) =>
    appRm(shellOf({ client, terminal }), "shop", { ...options, detach: false });
  await expect(rm({ yes: true, deleteData: false })).rejects.toMatchObject({ exitCode: 1, next: "berth ls" });
  await expect(rm({ yes: false, deleteData: true })).rejects.toThrow(/DELETE the data it left behind\? these volumes .* data on node-1/);
  expect(requests.filter(({ method, path }) => method === "DELETE" && !path.includes("dryRun=true"))).toEqual([]);
  await rm({ yes: true, deleteData: true });
  expect(terminal.text()).toBe(
    `nothing wants the data that shop left behind any more; each node deletes its part as soon as it hears of it, one that is away when it is back\n  ${notes[0]}\n`,
  );
});

test("rm --delete-data says that the nodes have yet to delete what the app had", async () => {
  const volumes = [{ name: "data", service: "db", slot: "0", node: "node-1" }];
  let isThere = true;
  const { client } = clientWith(({ method }) => {
    if (method === "GET") return isThere ? answer(200, { ...app(), volumes }) : answer(404, gone);
    isThere = false;
    return answer(200, { removed: "shop", notes });
  });
  const terminal = recordingTerminal();
  await appRm(shellOf({ client, terminal }), "shop", { yes: true, deleteData: true, detach: false });
  expect(terminal.text()).toContain(
    "shop is removed; each node deletes its part as soon as it hears of it, one that is away when it is back\n",
  );
});
