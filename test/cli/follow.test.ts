import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Deployment } from "../../shared/api/resources.ts";
import { follow } from "../../cli/commands/follow.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

beforeEach(() => vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => vi.useRealTimers());

const deployment: Deployment = {
  id: "d_aaaaaaaaaaaaaaaa",
  namespace: "default",
  app: "shop",
  revision: 7,
  fromRevision: null,
  pausedBy: null,
  canariesHealthy: false,
  promoted: false,
  kind: "deploy",
  state: "running",
  message: "",
  createdBy: "admin",
  started: "2026-01-01T00:00:00.000Z",
  finished: null,
};
const unplaced = [{ slots: ["0", "1"], reason: "memory", message: "1 of 1 nodes lacks 512 MiB", rejected: [] }];

/** A deployment of which nothing can be placed; it ends when `isOver` says so. */
function waitingDeployment(isTty: boolean) {
  const world = { isOver: false, looks: 0 };
  const { client } = clientWith(({ path }) => {
    world.looks++;
    if (path.includes("/deployments/")) return answer(200, { ...deployment, state: world.isOver ? "succeeded" : "running" });
    if (path.includes("/why"))
      return answer(200, { items: [{ app: "shop", service: "web", at: null, explanation: { unplaced, waiting: [] } }] });
    return answer(200, { items: [] });
  });
  const terminal = recordingTerminal({ isTty, columns: 100 });
  const shell = shellOf({ client, terminal });
  return { world, terminal, ended: follow(shell, { app: "shop", deployment, before: [], timeoutMs: null }) };
}

test.each([false, true])("says what is waited for: a terminal %s", async (isTty) => {
  const { world, terminal, ended } = waitingDeployment(isTty);
  const said = "shop/web: 2 not placed: 1 of 1 nodes lacks 512 MiB";
  const until = (text: RegExp) => expect.poll(terminal.text, { interval: 20, timeout: 5_000 }).toMatch(text);
  if (isTty) await until(new RegExp(`! ${said}`));
  else {
    vi.advanceTimersByTime(20_000);
    await expect.poll(() => world.looks, { interval: 20 }).toBeGreaterThan(3);
    expect(terminal.text()).toBe("");
    vi.advanceTimersByTime(10_000);
    await until(new RegExp(`^still waiting after 3[0-9](\\.\\d )?s: ${said}\n$`));
    vi.advanceTimersByTime(30_000);
    await until(new RegExp(`still waiting after 1m[0-9s]*: ${said}\n$`));
  }
  world.isOver = true;
  await ended;
});
