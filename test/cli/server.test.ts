import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client } from "../../cli/client/client.ts";
import { readContexts } from "../../cli/client/contexts.ts";
import { httpTransport } from "../../cli/client/transport.ts";
import { CliError } from "../../cli/exit.ts";
import { buildProgram } from "../../cli/program/program.ts";
import type { Shell } from "../../cli/shell.ts";
import type { ClusterInfo } from "../../shared/api/resources.ts";
import { type RunningServer, startServer } from "../../worker/node.ts";
import { type Recorded, recordingTerminal, shellOf } from "./terminal.ts";

/** The commands against a control plane of its own: over plain HTTP on loopback, as `npm start` has it. */
let server: RunningServer;
let secure: RunningServer;
let dir: string;
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-cli-"));
  server = await startServer({ dataDir: join(dir, "plain"), host: "127.0.0.1", port: 0, log: silent });
  secure = await startServer({ dataDir: join(dir, "tls"), host: "0.0.0.0", port: 0, log: silent });
});
afterAll(async () => {
  await Promise.all([server.close(), secure.close()]);
  await rm(dir, { recursive: true, force: true });
});

const clientTo = (running: RunningServer, pins: { root: string | null; spki: string | null } = { root: null, spki: null }): Client =>
  new Client({ url: running.url, token: running.adminToken, startHint: "npm start", transport: httpTransport(running.url, pins, {}) });

interface Ran {
  readonly text: string;
  readonly errors: string;
  readonly error: CliError | null;
  readonly exitCode: number;
}

/** One command line, as typed. */
async function berth(...words: string[]): Promise<Ran> {
  const terminal: Recorded = recordingTerminal();
  const shell: Shell = shellOf({ terminal, client: clientTo(server), env: { HOME: dir }, cwd: dir });
  const program = buildProgram((command) => {
    const { output, namespace } = command.optsWithGlobals<{ output: Shell["output"]; namespace?: string }>();
    return { ...shell, output, namespace: namespace ?? "default" };
  });
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await program.parseAsync(words, { from: "user" });
    return { text: terminal.text(), errors: terminal.errors(), error: null, exitCode: Number(process.exitCode) };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return { text: terminal.text(), errors: terminal.errors(), error, exitCode: error.exitCode };
  } finally {
    process.exitCode = before;
  }
}
const json = async <T>(...words: string[]): Promise<T> => JSON.parse((await berth(...words, "-o", "json")).text) as T;

const compose = async (name: string, text: string): Promise<string> => {
  const file = join(dir, `${name}.yaml`);
  await writeFile(file, `name: ${name}\n${text}`);
  return file;
};

describe("against a control plane", () => {
  test("what there is at the beginning", async () => {
    expect((await berth("ls")).text).toContain("no apps in namespace default; deploy one");
    expect((await berth("node", "ls")).text).toContain("berth join-token create --site NAME");
    expect((await berth("cluster", "info")).text).toMatch(/root key: {1,}[A-Za-z0-9_-]{43}/);
    expect((await json<{ items: unknown[] }>("ps")).items).toEqual([]);
  });

  test("the audit log: what was done, chained and signed by the cluster's own keys", async () => {
    await berth("site", "create", "audited");
    expect((await berth("audit")).text).toMatch(/admin \(t_\S+\) +create +- +site\/audited/);
    const verdict = async () => json<{ rows: number; waiting: number; root: string }>("audit", "--verify");
    await expect
      .poll(verdict, { timeout: 15_000, interval: 250 })
      .toMatchObject({ waiting: 0, rows: expect.toSatisfy((rows) => rows >= 2) });
    const { rootThumbprint } = await json<ClusterInfo>("cluster", "info");
    expect((await verdict()).root).toBe(rootThumbprint);
  });

  test("sites: made, labelled, listed, removed", async () => {
    await berth("site", "create", "berlin", "-l", "zone=eu");
    await berth("site", "label", "berlin", "tier=gold", "zone-");
    expect((await berth("site", "ls")).text).toMatch(/^berlin +0 +\S+ +tier=gold$/m);
    expect((await berth("site", "rm", "berlin")).error?.message).toMatch(/add -y to say yes/);
    await berth("join-token", "create", "--site", "berlin");
    const removed = await berth("site", "rm", "berlin", "-y");
    expect(removed.text).toContain("site berlin is removed");
    expect(removed.text).toContain("1 join token for it was deleted");
    expect((await berth("site", "rm", "berlin", "-y")).error?.message).toMatch(/berlin/);
  });

  test("a token is printed once and never again", async () => {
    const made = await berth("token", "create", "ci", "--expires", "7d");
    expect(made.text).toMatch(/^berth_[a-z2-7]{39}\n$/);
    expect(made.errors).toContain("only time it is shown");
    const listed = await berth("token", "ls", "-o", "json");
    expect(listed.text).not.toContain(made.text.trim());
    const { items } = JSON.parse(listed.text) as { items: { id: string; name: string; namespace: string | null }[] };
    const token = items.find(({ name }) => name === "ci");
    expect(token?.namespace).toBe("default");
    expect((await berth("token", "rm", token?.id.slice(0, 8) ?? "")).text).toContain("worth nothing");
    expect((await json<{ items: { name: string }[] }>("token", "ls")).items.map(({ name }) => name)).not.toContain("ci");
  });

  test("a join token is one line on standard output, whatever is said beside it", async () => {
    const made = await berth("join-token", "create", "--site", "default", "--uses", "3");
    expect(made.text.trim().split("\n").length).toBe(1);
    expect(made.text).toMatch(/^\(curl .*join\.sh \|\| echo exit 1\) \| sh -s -- berth_join_/);
    expect(made.errors).toMatch(/Good for 3 machines/);
    expect((await berth("join-token", "ls")).text).toMatch(/0\/3/);
    expect((await berth("join-token", "create", "--site", "nowhere")).error?.message).toMatch(/nowhere/);
  });

  test("a registry login without a user name says what to write when nobody can be asked", async () => {
    const { error, exitCode } = await berth("registry", "login", "r.test:5000", "-n", "default");
    expect(exitCode).toBe(2);
    expect(error?.next).toBe("berth registry login r.test:5000 -u USER --password-stdin");
  });

  test("namespaces and registries", async () => {
    await berth("namespace", "create", "team");
    expect((await berth("namespace", "ls")).text).toMatch(/^team /m);
    const login = await berth("registry", "login", "registry.test", "-u", "puller", "--password", "hunter22", "-n", "team");
    expect(login.text).toContain("registry.test");
    expect(login.text + login.errors).not.toContain("hunter22");
    expect((await berth("registry", "ls", "-n", "team", "-o", "yaml")).text).toContain("username: puller");
    expect((await berth("registry", "ls")).text).toContain("no registry credentials");
    expect((await berth("registry", "rm", "nope", "-n", "team")).error).toMatchObject({
      message: "there are no credentials for nope in namespace team; it has some for registry.test",
      next: "berth registry ls -n team",
    });
    expect((await berth("registry", "rm", "nope")).error).toMatchObject({
      message: "there are no credentials for nope in namespace default; it has none",
      next: "berth registry ls -n default",
    });
    expect((await berth("registry", "rm", "nope", "-n", "nowhere")).error).toMatchObject({ next: "berth namespace ls" });
    await berth("registry", "rm", "registry.test", "-n", "team");
    await berth("namespace", "rm", "team", "-y");
    expect((await berth("namespace", "ls")).text).not.toMatch(/^team /m);
  });

  test("an app over the limit is refused before it is sent, with its biggest part", async () => {
    await writeFile(join(dir, "small.conf"), "x".repeat(300_000));
    await writeFile(join(dir, "big.conf"), "x".repeat(800_000));
    const file = await compose(
      "large",
      "services:\n  web:\n    image: a\n    configs: [small, big]\nconfigs: {small: {file: small.conf}, big: {file: big.conf}}\n",
    );
    const { error, exitCode } = await berth("deploy", "-y", file);
    expect(exitCode).toBe(1);
    expect(error?.message).toMatch(/the app has 110\d{4} bytes and may have 998000; its biggest part is config big with 800\d{3}/);
    expect(error?.details).toEqual(["put large files into an image or a volume, or make it two apps"]);
    expect((await berth("deploy", "--plan", file)).exitCode).toBe(255);
  });

  test("deploy --plan: 1 for changes, 255 for an error, and a plan that says why nothing can be placed", async () => {
    const file = await compose("shop", "services:\n  web:\n    image: web:1\n    pull_policy: never\n    deploy: { replicas: 2 }\n");
    const plan = await berth("deploy", file, "--plan");
    expect(plan.exitCode).toBe(1);
    expect(plan.text).toContain("shop in default: new");
    expect(plan.text).toMatch(/! web\/0 not placed/);
    const broken = await berth("deploy", await compose("broken", "services:\n  web:\n    imag: web:1\n"), "--plan");
    expect(broken.exitCode).toBe(255);
    expect(broken.error?.details.join("\n")).toMatch(/broken\.yaml:4:/);
    expect((await json<{ items: unknown[] }>("ls")).items).toEqual([]);
  });

  test("deploy asks where somebody can answer, and says so where nobody can", async () => {
    const file = await compose("asks", "services:\n  web:\n    image: web:1\n    pull_policy: never\n");
    const asked = await berth("deploy", file);
    expect(asked.error?.message).toMatch(/add -y to say yes/);
    expect(asked.exitCode).toBe(2);
  });

  test("deploy, look, change, remove", async () => {
    const file = await compose("shop", "services:\n  web:\n    image: web:1\n    pull_policy: never\n    deploy: { replicas: 2 }\n");
    expect((await berth("deploy", file, "-y", "--detach")).text).toMatch(/deployment d_\w+ has begun/);
    expect((await berth("deploy", file, "--plan")).exitCode).toBe(0);
    expect((await berth("ls")).text).toMatch(/^shop +deploying +web 0\/2/m);
    expect((await berth("why", "shop/web")).text).toMatch(/slot 0, 1 not placed|slot 0 not placed|not planned yet/);
    expect((await berth("inspect", "shop")).text).toMatch(/^name: shop$/m);
    const late = await berth(
      "deploy",
      await compose("shop", "services:\n  web:\n    image: web:2\n    pull_policy: never\n    deploy: { replicas: 2 }\n"),
      "-y",
      "--wait",
      "1s",
    );
    expect(late.exitCode).toBe(4);
    expect(late.text).toContain("no node can take any of this now; waiting for one that can");
    expect(late.error?.next).toBe("berth why shop");
    await berth("scale", "shop/web=3", "--detach");
    expect((await berth("ls")).text).toMatch(/web 0\/3/);
    expect((await berth("revisions", "shop")).text).toMatch(/current/);
    await berth("rollback", "shop", "-y", "--detach");
    expect((await berth("events", "shop")).text).toMatch(/started/);
    expect((await berth("logs", "shop")).error).toBeNull();
    const nothing = [
      [["ps", "shop/nope"], 'app shop has no service "nope"; it has web'],
      [["logs", "shop", "nope"], 'app shop has no service "nope"; it has web'],
      [["inspect", "shop/nope"], 'app shop has no service "nope"; it has web'],
      [["ps", "shop/web/9"], 'shop/web has no slot "9"'],
      [["logs", "shop", "web", "--slot", "9"], 'shop/web has no slot "9"'],
    ] as const;
    for (const [words, message] of nothing)
      expect((await berth(...words)).error, words.join(" ")).toMatchObject({ message, exitCode: 1, next: "berth ps shop" });
    expect((await berth("why", "shop/nope")).error).toMatchObject({ exitCode: 1, next: "berth ps" });
    expect((await berth("inspect", "shop/web")).text).toMatch(/^name: web$[\s\S]*^replicas: \[\]$/m);
    expect((await berth("rm", "shop", "-y")).text).toContain("shop is removed");
    expect((await berth("inspect", "shop")).error?.next).toBe("berth ls");
    expect((await berth("why", "shop")).error?.message).toMatch(/shop/);
  });

  test.each([
    ["an empty name", ["why", ""], '"" names no app'],
    ["an empty name that would be another path", ["rm", "", "-y"], "a name is empty"],
    ["a token that ends as it is made", ["token", "create", "x", "--role", "viewer", "--expires", "0d"], '"0d" is no lifetime'],
    [
      "a token for longer than a life",
      ["token", "create", "x", "--role", "viewer", "--expires", "99999d"],
      '"99999d" is no lifetime: write one from 1m to 3650d',
    ],
    ["a join token that ends as it is made", ["join-token", "create", "--site", "default", "--expires", "0s"], '"0s" is no lifetime'],
    ["a certificate that is not there", ["server", "--cert", "/nope", "--key", "/nope"], "--cert names /nope, and there is no such file"],
    ["an authority that is not there", ["agent", "--ca", "/nope"], "--ca names /nope, and there is no such file"],
  ])("%s is told as a wrong command line", async (_name, words, message) =>
    expect(await berth(...words)).toMatchObject({ exitCode: 2, error: { message: expect.stringContaining(message) } }),
  );

  test("a control plane that cannot start says why in a sentence", async () => {
    await writeFile(join(dir, "no.pem"), "no");
    const start = (...words: string[]) => berth("server", "--data-dir", "other", "--listen", "127.0.0.1:0", ...words);
    expect(await start("--cert", "no.pem", "--key", "no.pem")).toMatchObject({
      exitCode: 1,
      error: { message: `${join(dir, "no.pem")} (--cert) is not a PEM certificate` },
    });
    expect(await start("--data-dir", "no.pem")).toMatchObject({
      exitCode: 1,
      error: { message: expect.stringContaining(join(dir, "no.pem")) },
    });
  });

  test("a second server on a data directory that is held says whose it is", async () => {
    const { error, exitCode } = await berth("server", "--data-dir", "plain", "--listen", "127.0.0.1:0");
    expect(exitCode).toBe(1);
    expect(error?.message).toBe(
      `another control plane (process ${process.pid}) runs with the data directory ${join(dir, "plain")}: stop it, or name another directory`,
    );
    expect(error?.next).toBe(`kill ${process.pid}`);
  });

  test.each(["ps", "events", "logs", "why", "revisions", "inspect"])("berth %s of an app that is not there", async (command) => {
    const { error, exitCode } = await berth(command, "nope");
    expect([exitCode, error?.next]).toEqual([1, "berth ls"]);
    expect(error?.message).toMatch(/there is no app.*nope/);
    expect((await berth("events", "nope", "--all")).exitCode).toBe(1);
  });

  test("a name that is not there", async () => {
    expect((await berth("node", "cordon", "till")).error).toMatchObject({ message: 'there is no node "till"', next: "berth node ls" });
  });
});

describe("a control plane with its own certificate", () => {
  const rootOf = async () =>
    (await clientTo(secure, { root: null, spki: secure.address.spki }).get<ClusterInfo>("/v1/cluster")).rootThumbprint;
  const refused = (pins: { root: string | null; spki: string | null }) =>
    clientTo(secure, pins)
      .get("/v1/cluster")
      .then(
        () => null,
        (error: unknown) => error,
      );

  test("is known by its own key or by the cluster's root, and by nothing else", async () => {
    const root = await rootOf();
    expect((await clientTo(secure, { root, spki: null }).get<ClusterInfo>("/v1/cluster")).rootThumbprint).toBe(root);
    expect(await refused({ root: null, spki: null })).toMatchObject({
      exitCode: 3,
      message: expect.stringContaining("not one that this machine trusts"),
    });
    expect(await refused({ root: "A".repeat(43), spki: null })).toMatchObject({
      exitCode: 3,
      message: expect.stringContaining("not the one that this context pins"),
    });
    expect(await refused({ root: null, spki: "A".repeat(43) })).toMatchObject({ exitCode: 3 });
  });

  test("context add asks it before it is kept, keeps the pin, and shows no token", async () => {
    const root = await rootOf();
    const terminal = recordingTerminal();
    const env = { HOME: join(dir, "home"), BERTH_TOKEN: secure.adminToken ?? "" };
    const program = () => buildProgram(() => shellOf({ terminal, env, cwd: dir }));
    await expect(
      program().parseAsync(["context", "add", "wrong", "--url", secure.url, "--root", "B".repeat(43)], { from: "user" }),
    ).rejects.toThrow(/pins/);
    expect(readContexts(env).contexts).toEqual([]);
    await program().parseAsync(["context", "add", "prod", "--url", secure.url, "--root", root], { from: "user" });
    expect(readContexts(env)).toMatchObject({ current: "prod", contexts: [{ name: "prod", url: secure.url, rootThumbprint: root }] });
    expect((await stat(join(dir, "home", ".config", "berth", "contexts.json"))).mode & 0o777).toBe(0o600);
    await program().parseAsync(["context", "ls"], { from: "user" });
    expect(terminal.text()).toMatch(/^\* +prod +https:\S+ +root$/m);
    expect(terminal.text()).not.toContain(secure.adminToken);
    expect(await readFile(join(dir, "home", ".config", "berth", "contexts.json"), "utf8")).toContain(secure.adminToken);
  });
});
