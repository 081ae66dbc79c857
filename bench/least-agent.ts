/**
 * The least that an agent can be with undici and dockerode: a request every five seconds, and the engine's events. What it
 * takes of memory is what no agent over these two can be below.
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import Docker from "dockerode";
import { Agent } from "undici";

const HOLD_MS = 5_000;
const [, , origin = "", socketPath = ""] = process.argv;
const engine = new Docker({ socketPath });
await engine.listContainers();
const events = await engine.getEvents();
events.on("data", () => undefined);
const dispatcher = new Agent();
for (;;) {
  const { body } = await dispatcher.request({ origin, path: "/", method: "GET" });
  await body.text();
  await pause(HOLD_MS);
}
