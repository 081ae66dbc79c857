/** Plain node:http, one connection for each request that is under way: what agents behind NAT are to a server. */
import { Agent, request } from "node:http";
import type { Send } from "../test/worker/agent/fake-agent.ts";

export const connections = (count: number): Agent => new Agent({ keepAlive: true, maxSockets: count });

export function sender(url: string, agent: Agent): Send {
  return (path, init) =>
    new Promise((resolve, reject) => {
      const headers = Object.fromEntries(new Headers(init?.headers));
      const sent = request(`${url}${path}`, { method: init?.method ?? "GET", headers, agent }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => {
          const status = answer.statusCode ?? 0;
          resolve(
            new Response(status === 204 ? null : Buffer.concat(chunks), { status, headers: answer.headers as Record<string, string> }),
          );
        });
        answer.on("error", reject);
      });
      // A kept connection that the server closed just then: as any client does, once more on another.
      sent.on("error", (error) => (sent.reusedSocket ? resolve(sender(url, agent)(path, init)) : reject(error)));
      sent.end(init?.body as string | undefined);
    });
}
