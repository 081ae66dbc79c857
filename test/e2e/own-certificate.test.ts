/** A control plane with a certificate of the operator's own authority, and a node whose agent is `berth agent` in the foreground. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cluster, containersOf } from "./cluster.ts";
import { mustExecute } from "./hosts/command.ts";
import type { Host } from "./hosts/host.ts";
import { Lab } from "./hosts/lab.ts";
import type { Spawned } from "./hosts/spawned.ts";
import { until } from "./hosts/until.ts";

const berth = fileURLToPath(new URL("../../cli/berth.mjs", import.meta.url));
let lab: Lab;
let cluster: Cluster;
let h1: Host;
let image: string;
let agent: Spawned;
let ca: string;

/** An authority and a certificate of its for `address`, as an operator makes them. */
async function certificate(dir: string, address: string): Promise<void> {
  const openssl = (...args: string[]) => mustExecute(["openssl", ...args], { cwd: dir });
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl("req", "-x509", ...ec, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=the operator's authority");
  await openssl(
    "req",
    ...ec,
    "-keyout",
    "server.key",
    "-out",
    "server.csr",
    "-subj",
    "/CN=berth",
    "-addext",
    `subjectAltName=IP:${address}`,
  );
  await openssl(
    "x509",
    "-req",
    "-in",
    "server.csr",
    "-CA",
    "ca.crt",
    "-CAkey",
    "ca.key",
    "-CAcreateserial",
    "-copy_extensions",
    "copy",
    "-days",
    "30",
    "-out",
    "server.crt",
  );
}

beforeAll(async () => {
  lab = await Lab.create({ name: "owncert" });
  await certificate(lab.dir, lab.gatewayIp);
  ca = join(lab.dir, "ca.crt");
  cluster = new Cluster(lab, {
    serverArgs: ["--cert", join(lab.dir, "server.crt"), "--key", join(lab.dir, "server.key")],
    env: { BERTH_CA: ca },
  });
  const registry = await lab.registry();
  [h1] = await Promise.all([lab.host("h1"), cluster.startServer()]);
  image = (await registry.push("web:1")).tag;
}, 300_000);
afterAll(async () => {
  await lab?.close();
}, 60_000);

const startAgent = (...args: string[]): Promise<Spawned> =>
  lab.spawn([process.execPath, berth, "agent", "--data-dir", join(lab.dir, "node"), "--engine", h1.socket, ...args], {
    logFile: join(lab.dir, "agent.log"),
  });

test("the command connects by the authority, and not without it", async () => {
  expect(await cluster.mustBerth(["cluster", "info"])).toContain("root key");
  const stranger = await cluster.berth(["cluster", "info"], { env: { BERTH_CA: "" } });
  expect(stranger.code).toBe(3);
  expect(stranger.stderr).toMatch(/certificate/);
});

test("`berth agent` joins by the authority, says so, and runs what is deployed", async () => {
  const { token } = await cluster.joinToken("default");
  agent = await startAgent("--join", token, "--name", "edge", "--ca", ca);
  await until("the node", async () => (await cluster.nodes()).some(({ name, status }) => name === "edge" && status === "ready"), {
    timeoutMs: 30_000,
    detail: () => agent.logTail(),
  });
  expect(await agent.logTail()).toContain("joined as node edge of site default");
  await cluster.mustDeploy("web", `services: {web: {image: "${image}", x-berth: {minHealthy: 1s}}}\n`);
  expect((await containersOf(h1, "web")).size).toBe(1);
});

test("a second agent on the same directory is refused in a sentence", async () => {
  const second = await lab.spawn(
    [process.execPath, berth, "agent", "--data-dir", join(lab.dir, "node"), "--engine", h1.socket, "--ca", ca],
    {
      logFile: join(lab.dir, "second.log"),
    },
  );
  expect((await second.exited).code).not.toBe(0);
  expect(await second.logTail()).toContain("another agent runs with the data directory");
});

test("ended by a signal it leaves the containers, and started again without a token it has them still", async () => {
  const before = await containersOf(h1, "web");
  await agent.stop("SIGTERM", 15_000);
  expect((await agent.exited).code).toBe(0);
  expect(await containersOf(h1, "web")).toEqual(before);
  agent = await startAgent("--ca", ca);
  await cluster.settled("web", 1);
  expect(await containersOf(h1, "web")).toEqual(before);
});

test("without the authority it says what it does not trust", async () => {
  await agent.stop("SIGTERM", 15_000);
  agent = await startAgent();
  await until("the refusal", async () => /certificate/.test(await agent.logTail()), { timeoutMs: 20_000, detail: () => agent.logTail() });
  await agent.stop("SIGTERM", 15_000);
});
