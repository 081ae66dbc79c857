import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { DeployPlan } from "../../shared/api/resources.ts";
import { deploy, type DeployOptions } from "../../cli/commands/deploy.ts";
import type { OutputFormat } from "../../cli/shell.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

const IMAGE = "registry.test/web:1";
const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const pinned = (letter: string): string => `${IMAGE}@${digest(letter)}`;
const OPTIONS: DeployOptions = { file: [], envFile: [], profile: [], build: true, plan: false, report: false, yes: true, detach: true };

let dir: string;
const { PATH } = process.env;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-deploy-"));
  await writeFile(join(dir, "compose.yaml"), `name: shop\nservices:\n  web:\n    image: ${IMAGE}\n    build: .\n`);
  process.env["PATH"] = `${dir}${delimiter}${PATH}`;
});
afterEach(async () => {
  process.env["PATH"] = PATH;
  process.exitCode = 0;
  await rm(dir, { recursive: true, force: true });
});

/** A docker client that notes what it is told, and has pushed `built`. */
async function fakeDocker(inspect: string): Promise<void> {
  const script = `#!/bin/sh\necho "$1" >> "${dir}/docker.log"\n[ "$1" != image ] || { ${inspect}; }\n`;
  await writeFile(join(dir, "docker"), script);
  await chmod(join(dir, "docker"), 0o755);
}
const pushes = (letter: string): Promise<void> => fakeDocker(`echo '["registry.test/web@${digest(letter)}"]'`);
const told = async (): Promise<string[]> => (await readFile(join(dir, "docker.log"), "utf8").catch(() => "")).split("\n").slice(0, -1);

/** A control plane at which the app runs `deployed`; null: it has no such app. */
async function deployTo(deployed: string | null, options: Partial<DeployOptions> = {}, output: OutputFormat = "table") {
  const wanted: string[] = [];
  const { client } = clientWith(({ method, path, body = "" }) => {
    if (method === "GET" && path.includes("/replicas")) return answer(200, { items: [] });
    if (method === "GET" && deployed === null)
      return answer(404, { error: { code: "not_found", message: "no app", reason: "app", details: [], retryable: false } });
    if (method === "GET") return answer(200, { spec: { services: { web: { workload: { image: deployed } } } } });
    const { image } = (JSON.parse(body) as { spec: { services: { web: { workload: { image: string } } } } }).spec.services.web.workload;
    wanted.push(`${path.includes("dryRun") ? "plan" : "apply"} ${image}`);
    const unchanged = image === deployed;
    const counts = { create: 0, replace: unchanged ? 0 : 1, remove: 0, keep: 0, unplaced: 0 };
    const difference = `image ${deployed} → ${image}`;
    const plan: DeployPlan = {
      namespace: "default",
      app: "shop",
      fromRevision: 3,
      unchanged,
      services: [
        { service: "web", action: "update", differences: [difference], order: "stop-first", orderReason: "", replicas: [], counts },
      ],
      volumes: [],
      notes: [],
    };
    const deployment = unchanged || path.includes("dryRun") ? null : { id: "d_aaaaaaaaaaaaaaaa" };
    return answer(200, { plan, deployment });
  });
  const terminal = recordingTerminal();
  const error = await deploy(shellOf({ client, terminal, cwd: dir, output }), [], { ...OPTIONS, ...options }).catch(
    (thrown: unknown) => thrown,
  );
  return { wanted, docker: await told(), text: terminal.text(), errors: terminal.errors(), error };
}

test("deploy --build builds nothing before the yes", async () => {
  await pushes("b");
  const { wanted, docker, error, text } = await deployTo(IMAGE, { yes: false });
  expect([docker, wanted]).toEqual([[], [`plan ${IMAGE}`]]);
  expect(text).toMatch(/^shop in default: nothing to do/);
  expect(error).toMatchObject({ exitCode: 2, message: expect.stringContaining(`Build and push ${IMAGE}, then do what that changes`) });
});

test("deploy --build shows the plan, builds, pushes, and deploys what it pushed", async () => {
  await pushes("b");
  const { wanted, docker, text, errors } = await deployTo(pinned("a"));
  expect(docker).toEqual(["build", "push", "image"]);
  // What runs now is in the first plan, so that it says what changes besides.
  expect(wanted).toEqual([`plan ${pinned("a")}`, `apply ${pinned("b")}`]);
  expect(errors).toContain(`${IMAGE} is built anew, which replaces web where it comes out different`);
  const steps = [
    "nothing to do, revision 3",
    `✓ pushing ${IMAGE}`,
    `image ${pinned("a")} → ${pinned("b")}`,
    "deployment d_aaaaaaaaaaaaaaaa has begun",
  ];
  const places = steps.map((step) => text.indexOf(step));
  expect(places, text).toEqual([...places].sort((a, b) => a - b));
  expect(places).not.toContain(-1);
});

test("deploy --build of a new app", async () => {
  await pushes("a");
  expect((await deployTo(null)).wanted).toEqual([`plan ${IMAGE}`, `apply ${pinned("a")}`]);
});

test("deploy --build of what is deployed already says so", async () => {
  await pushes("a");
  const { wanted, text } = await deployTo(pinned("a"));
  expect(wanted).toEqual([`plan ${pinned("a")}`, `apply ${pinned("a")}`]);
  expect(text.trimEnd().split("\n").at(-1)).toBe("nothing to do: what was built is deployed already");
});

test("deploy --build --plan builds nothing and says that", async () => {
  await pushes("b");
  const { docker, wanted, errors } = await deployTo(pinned("a"), { plan: true, yes: false });
  expect([docker, wanted, process.exitCode]).toEqual([[], [`plan ${pinned("a")}`], 0]);
  expect(errors).toContain(`a plan builds nothing: ${IMAGE} may come out different, which replaces web`);
});

test("deploy --build -o json prints the answer alone", async () => {
  await pushes("b");
  const { text } = await deployTo(pinned("a"), {}, "json");
  expect(JSON.parse(text)).toMatchObject({ plan: { unchanged: false }, deployment: { id: "d_aaaaaaaaaaaaaaaa" } });
});

test.each([
  ["fails", "exit 1"],
  ["is silent", "echo null"],
  ["talks of something else", "echo '<html>'"],
])("a docker client that %s when it is asked what it pushed is told in a sentence, and nothing is deployed", async (_name, inspect) => {
  await fakeDocker(inspect);
  const { wanted, error } = await deployTo(pinned("a"));
  expect(wanted).toEqual([`plan ${pinned("a")}`]);
  expect(error).toMatchObject({
    exitCode: 1,
    message: `docker does not say under which digest ${IMAGE} was pushed`,
    next: `docker image inspect ${IMAGE}`,
  });
});
