/** Where images come from: registries that want a login, that lack the image or are away, and images built by `deploy --build`. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cluster } from "./cluster.ts";
import type { Host } from "./hosts/host.ts";
import { Lab } from "./hosts/lab.ts";
import type { Registry } from "./hosts/registry.ts";
import { until } from "./hosts/until.ts";

let lab: Lab;
let cluster: Cluster;
let h1: Host;
let open: Registry;
let locked: Registry;

beforeAll(async () => {
  lab = await Lab.create({ name: "images" });
  await lab.bareRoot();
  cluster = new Cluster(lab);
  open = await lab.registry();
  locked = await lab.registry({ auth: { user: "puller", password: "hunter22" } });
  [h1] = await Promise.all([lab.host("h1"), cluster.startServer()]);
  await cluster.mustBerth(["site", "create", "berlin"]);
  await cluster.join(h1, "berlin");
}, 300_000);

afterAll(async () => {
  await lab?.close();
}, 60_000);

const compose = (image: string) => `
services:
  web:
    image: ${image}
    stop_grace_period: 1s
    x-berth:
      minHealthy: 1s
`;

/** Well under the five minutes that a replica has to get healthy. */
const SOON_MS = 45_000;

describe("a registry that wants a login", () => {
  test("fails the deployment at the third refusal, says so while it happens, and names the command that mends it", async () => {
    const { tag } = await locked.push("private/web:1");
    const began = performance.now();
    const failed = await cluster.deploy("private", compose(tag));
    expect(performance.now() - began).toBeLessThan(SOON_MS);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toContain(`pullFailed: ${locked.address} needs a login for ${tag}`);
    expect(failed.stderr).toContain(`web slot 0 on h1 cannot start: ${locked.address} needs a login for ${tag}`);
    expect(failed.stderr).toContain(`next: berth registry login ${locked.address} -n default`);

    expect(await cluster.mustBerth(["ps", "private"])).toContain("preparing: pullDenied");
    expect(await cluster.mustBerth(["why", "private"])).toContain(`${locked.address} needs a login`);
    expect(await cluster.mustBerth(["events", "private"])).toContain("needs a login");
  });

  test("refuses a wrong password in other words, and never repeats it", async () => {
    await cluster.mustBerth(["registry", "login", locked.address, "--username", "puller", "--password", "wrong-words"]);
    const failed = await cluster.deploy("private", compose(`${locked.address}/private/web:1`));
    expect(failed.stderr).toContain(`${locked.address} does not accept the login of puller`);
    expect(`${failed.stdout}${failed.stderr}`).not.toContain("wrong-words");
  });

  test("the right login is all that a waiting replica needs, and the same deploy again succeeds", async () => {
    await cluster.mustBerth(["registry", "login", locked.address, "--username", "puller", "--password", "hunter22"]);
    await cluster.settled("private", 1);
    await cluster.mustDeploy("private", compose(`${locked.address}/private/web:1`));
    await cluster.mustBerth(["rm", "private", "-y"]);
  });
});

describe("an image that its registry does not have", () => {
  test("fails the update with its name, and what ran goes on", async () => {
    const { tag } = await open.push("shop/web:1");
    await cluster.mustDeploy("shop", compose(tag));
    const [before] = await cluster.settled("shop", 1);
    const missing = `${open.address}/shop/web:2`;
    const failed = await cluster.deploy("shop", compose(missing));
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain(`there is no image ${missing}`);
    expect(failed.stderr).not.toContain("registry login");
    const [after] = await cluster.settled("shop", 1);
    expect(after?.containerId).toBe(before?.containerId);
  });

  test("the same deploy again succeeds once it was pushed", async () => {
    const { tag } = await open.push("shop/web:2");
    await cluster.mustDeploy("shop", compose(tag));
    expect((await cluster.app("shop")).services[0]?.ready).toBe(1);
  });

  test("a registry that is away is waited for", async () => {
    const { tag } = await open.push("shop/web:3");
    await open.stop();
    const deploying = cluster.deploy("shop", compose(tag));
    const waiting = await until(
      "several tries",
      async () => {
        const [replica] = (await cluster.replicas("shop")).filter(({ state }) => state === "preparing");
        return replica !== undefined && Date.now() - Date.parse(replica.assigned) > 12_000 ? replica : undefined;
      },
      { timeoutMs: 60_000 },
    );
    expect(waiting.reason).toBe("pullFailed");
    expect((await cluster.deployments("shop"))[0]?.state).toBe("running");
    await open.start();
    expect((await deploying).code).toBe(0);
  });
});

describe("deploy --build", () => {
  const project = async (dockerfile: string) => {
    const dir = join(lab.dir, "built");
    await mkdir(join(dir, "web"), { recursive: true });
    await writeFile(join(dir, "web", "Dockerfile"), dockerfile);
    await writeFile(join(dir, "web", "page"), "from the build\n");
    await writeFile(
      join(dir, "compose.yaml"),
      `
services:
  web:
    image: ${open.address}/built/web:1
    build:
      context: web
      args: { WORDS: "two words" }
    x-berth:
      minHealthy: 1s
`,
    );
    return { cwd: dir, env: { DOCKER_HOST: `unix://${h1.socket}` } };
  };

  test("builds with the docker client, pushes, and runs what was built", async () => {
    const { tag } = await open.push("base:1");
    const where = await project(
      `FROM ${tag}\nARG WORDS\nRUN echo "$WORDS" > /words\nCOPY page /page\nCMD ["sh", "-c", "cat /page /words; exec sleep 100000"]\n`,
    );
    const said = await cluster.mustBerth(["deploy", "--build", "-y"], where);
    expect(said).toContain(`building ${open.address}/built/web:1 for web`);
    expect(said).toContain(`pushing ${open.address}/built/web:1`);
    await cluster.settled("built", 1);
    const logs = await until("its output", async () => {
      const text = await cluster.mustBerth(["logs", "built"]);
      return text.includes("two words") ? text : undefined;
    });
    expect(logs).toContain("from the build");
  });

  test("a build that fails ends with the last lines of it and the command to try again, and deploys nothing", async () => {
    const before = await cluster.deployments("built");
    const where = await project(`FROM ${open.address}/base:1\nRUN echo this is why >&2; exit 7\n`);
    const failed = await cluster.berth(["deploy", "--build", "-y"], where);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain("this is why");
    expect(failed.stderr).toMatch(/next: docker build .*--tag \S+\/built\/web:1/);
    expect(await cluster.deployments("built")).toEqual(before);
  });

  test("an engine that does not answer is said by the client's own words", async () => {
    const where = await project("FROM scratch\n");
    const failed = await cluster.berth(["deploy", "--build", "-y"], { ...where, env: { DOCKER_HOST: "unix:///nowhere/docker.sock" } });
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain("unix:///nowhere/docker.sock");
  });
});
