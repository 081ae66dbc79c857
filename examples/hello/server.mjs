// A page that says which replica answers. berth gives each container its place in the environment (BERTH_*).
import { createServer } from "node:http";
import { hostname } from "node:os";

const place = {
  app: process.env.BERTH_APP ?? "hello",
  service: process.env.BERTH_SERVICE ?? "web",
  slot: process.env.BERTH_SLOT ?? "?",
  replica: process.env.BERTH_REPLICA ?? "?",
  node: process.env.BERTH_NODE ?? "?",
  container: hostname(),
};
const greeting = process.env.GREETING ?? "Hello";
const began = Date.now();
let answered = 0;

const escaped = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
/** A colour of its own for each slot, so that three tabs are told apart at a glance. */
const hue = (150 + (Number.parseInt(place.slot, 10) || 0) * 67) % 360;

const page = () => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(place.service)}/${escaped(place.slot)} · ${escaped(greeting)}</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --accent: hsl(${hue} 55% 42%); --paper: #f6f5f1; --ink: #1c1b18; --quiet: #6d6a61; --line: #dedbd1; }
  @media (prefers-color-scheme: dark) { :root { --accent: hsl(${hue} 55% 62%); --paper: #151513; --ink: #ecebe5; --quiet: #98958b; --line: #33322d; } }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink); font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; }
  main { width: min(34rem, 100vw - 3rem); }
  .slot { font: 700 7rem/1 ui-monospace, monospace; color: var(--accent); letter-spacing: -.05em; }
  h1 { font-size: 1.5rem; margin: .75rem 0 1.75rem; text-wrap: balance; }
  dl { display: grid; grid-template-columns: 7rem 1fr; margin: 0; border-top: 1px solid var(--line); }
  dt, dd { margin: 0; padding: .55rem 0; border-bottom: 1px solid var(--line); }
  dt { color: var(--quiet); }
  dd { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
  p { color: var(--quiet); margin-top: 1.5rem; font-size: .9rem; }
  code { color: var(--ink); }
</style>
<main>
  <div class="slot">${escaped(place.service)}/${escaped(place.slot)}</div>
  <h1>${escaped(greeting)}</h1>
  <dl>
    <dt>App</dt><dd>${escaped(place.app)}</dd>
    <dt>Replica</dt><dd>${escaped(place.replica)}</dd>
    <dt>Node</dt><dd>${escaped(place.node)}</dd>
    <dt>Container</dt><dd>${escaped(place.container)}</dd>
    <dt>Up for</dt><dd>${Math.round((Date.now() - began) / 1000)} s, ${answered} pages</dd>
  </dl>
  <p>Change <code>examples/hello/compose.yaml</code>, then run <code>npx berth deploy examples/hello</code>.</p>
</main>
</html>
`;

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.writeHead(200, { "content-type": "text/plain" }).end("ok\n");
    return;
  }
  answered++;
  if (request.headers.accept?.includes("text/html")) response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page());
  else response.writeHead(200, { "content-type": "application/json" }).end(`${JSON.stringify({ greeting, ...place })}\n`);
  console.log(`${request.method} ${request.url}`);
});
server.listen(8080, () => console.log(`${place.service}/${place.slot} serves on port 8080`));

// As a container's first process it would otherwise ignore these, and every stop would wait for the kill.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
