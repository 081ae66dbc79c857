/**
 * One agent a data directory: two would take the session from each other and look like a cloned machine. The lock is a
 * name in the kernel (an abstract socket), which goes with its process however that ends.
 */
import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { pause } from "./pause.ts";
import type { Clock } from "./ports.ts";

/** An agent that is being replaced takes a moment to let go. */
const PATIENCE_MS = 5_000;
const RETRY_MS = 50;

/** Gives the way to let go; null: another agent has it. */
export async function lockDirectory(dir: string, clock: Clock): Promise<(() => void) | null> {
  const name = `\0berth-agent-${createHash("sha256")
    .update(await realpath(dir))
    .digest("hex")
    .slice(0, 32)}`;
  const deadlineMs = clock.bootMs() + PATIENCE_MS;
  for (;;) {
    const server = await listen(name);
    if (server !== null) return () => void server.close();
    if (clock.bootMs() >= deadlineMs) return null;
    await pause(clock, RETRY_MS, new AbortController().signal);
  }
}

function listen(name: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((client) => client.destroy());
    server.unref();
    server.once("error", (error: NodeJS.ErrnoException) => (error.code === "EADDRINUSE" ? resolve(null) : reject(error)));
    server.listen({ path: name, exclusive: true }, () => resolve(server));
  });
}
