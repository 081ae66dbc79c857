/** The control plane under load, in a process of its own: `fork`ed by wake.ts with the data folder as its argument. */
import { startServer } from "../worker/node.ts";

const [dataDir = ""] = process.argv.slice(2);
const silent = {
  info: () => {},
  warn: () => {},
  error: (fields: Record<string, unknown>, message: string) => console.error(message, fields),
};
const server = await startServer({ dataDir, host: "127.0.0.1", port: 0, log: silent });

process.on("message", (message) => {
  if (message === "rss") {
    // The kind that gives pages back to the system, so that what is counted is what is in use.
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    process.send?.({ rss: process.memoryUsage.rss() });
  }
  if (message === "stop") server.close().then(() => process.exit(0));
});
process.on("disconnect", () => process.exit(0));
process.send?.({ url: server.url, adminToken: server.adminToken });
