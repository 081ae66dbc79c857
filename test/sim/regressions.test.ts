/**
 * The named mistakes of others. Those that no simulated history can show are elsewhere: a drain does not exist yet; that
 * a node is known by what its join token and its operator say is test/worker/operator/nodes.test.ts; that a prefix finds
 * nothing of another namespace is test/worker/operator/authorization.test.ts; paths of plugins do not exist.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SCENARIOS } from "./scenarios.ts";

let player: ChildProcess;
beforeAll(() => {
  player = fork(fileURLToPath(new URL("./scenario-player.ts", import.meta.url)), {
    execArgv: ["--import", new URL("./hooks.ts", import.meta.url).href],
  });
});
afterAll(() => {
  player.kill();
});

test.each(Object.keys(SCENARIOS))("%s", async (name) => {
  const ended = new AbortController();
  const answered = once(player, "message", { signal: ended.signal }) as Promise<[readonly string[]]>;
  const gone = once(player, "exit", { signal: ended.signal }).then(([code, signal]): [string[]] => [
    [`the player ended with ${code ?? signal}`],
  ]);
  player.send(name);
  const [broken] = await Promise.race([answered, gone]);
  gone.catch(() => {});
  answered.catch(() => {});
  ended.abort();
  expect(broken).toEqual([]);
});
