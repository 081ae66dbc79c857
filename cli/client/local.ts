/** The client of a control plane whose data directory is on this machine. */
import { Client } from "./client.ts";
import { readLocalTarget } from "./contexts.ts";
import { httpTransport } from "./transport.ts";

export function clientOf(dataDir: string): Client {
  const { url, token, pins, startHint } = readLocalTarget(dataDir);
  // No proxy stands between a machine and itself.
  return new Client({ url, token, startHint, transport: httpTransport(url, pins, {}) });
}
