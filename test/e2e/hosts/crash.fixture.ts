// A run of the lab that is killed in its middle: hosts.test.ts starts it and sends SIGKILL.
import { childrenOf } from "./identity.ts";
import { Lab } from "./lab.ts";

const [name = ""] = process.argv.slice(2);
const lab = await Lab.create({ name });
const router = await lab.router("r1");
const [host] = await Promise.all([lab.host("h1", { behind: router }), lab.registry()]);
const image = await lab.image("web:1");
await host.engine.client.pull(image.tag);
await host.engine.client.runContainer("web", { Image: image.tag });
const agent = await host.spawn(["sleep", "infinity"]);
const beside = await lab.spawn(["sh", "-c", "sleep infinity & echo up; wait"]);
await beside.logs(/^up$/m);
const container = await host.run(["sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '"]);
if (!container.includes("httpd")) throw new Error("The container does not run on the host.");
const pids = [host.pid, agent.pid, beside.pid, ...childrenOf(beside.pid)];
console.log(JSON.stringify({ bridge: lab.bridge, dir: lab.dir, pids }));
setInterval(() => {}, 60_000);
