import { World } from "./world.ts";
const t0=performance.now();
const world = new World({ seed: process.argv[2] ?? "1", nodes: 5, sites: 2 });
try {
await world.build();
console.log("built", world.nowMs, world.kernel.steps, performance.now()-t0);
world.registry.push("registry.test/web:1");
await world.play(async () => {
  console.log(JSON.stringify(await world.ask("PUT", "/v1/namespaces/default/apps/shop", { spec: { name: "shop", services: { web: { replicas: 4, workload: { image: "registry.test/web:1", healthcheck: {test:["CMD","true"], intervalMs: 1000} } } } } })).slice(0,300));
}, 60000);
await world.kernel.run(world.nowMs + 60_000);
console.log(world.database.look("select state, count(*) n from observations group by 1"), world.database.look("select state,message from deployments"));
await world.kernel.run(20*60_000);
console.log(world.nowMs, world.kernel.steps, performance.now()-t0, world.kernel.trace.lines, world.kernel.trace.digest());
} catch (e) { console.log(e); console.log(world.kernel.trace.tail(30).map(l=>l.slice(0,300)).join("\n")); }
