import { chmod, chown, mkdtemp, mkdir, rm, writeFile, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { z } from "zod";
import { resolveOne, shortId, shortIdOrName } from "../../cli/client/prefix.ts";
import { checkedUrl, findLocalDirectory, readContexts, refusePlaintext, resolveTarget, changeContexts } from "../../cli/client/contexts.ts";
import { appState, replicaState } from "../../cli/commands/apps.ts";
import { appPath } from "../../cli/commands/paths.ts";
import { parseCounts, REPLICAS_MAX } from "../../cli/commands/change.ts";
import { nodeState, nodeTaint } from "../../cli/commands/nodes.ts";
import { parseChanges, parsePairs } from "../../cli/commands/pairs.ts";
import { splitPlace } from "../../cli/commands/place.ts";
import { parseListen } from "../../cli/commands/server.ts";
import { buildArguments, digestOf } from "../../cli/build/build.ts";
import { withDigests } from "../../cli/commands/deploy.ts";
import { ROLES } from "../../cli/roles.ts";
import { ROLES as API_ROLES } from "../../shared/api/resources.ts";
import { makeShell } from "../../cli/shell.ts";
import { AppId, DeploymentId, JoinTokenId, NodeId, ReplicaId, TokenId } from "../../shared/model/name.ts";
import { AppSpec, REPLICAS_MAX as API_REPLICAS_MAX } from "../../shared/model/app.ts";
import { app, node, replica } from "./resources.ts";
import { recordingTerminal, shellOf } from "./terminal.ts";
import { readNamed } from "../../cli/read-named.ts";

const world = { terminal: recordingTerminal(), cwd: "/nowhere", signal: new AbortController().signal };

describe("arguments", () => {
  test.each([
    [["shop/web=5"], [{ app: "shop", service: "web", replicas: 5 }]],
    [
      ["shop/web=5", "pay/api=0"],
      [
        { app: "shop", service: "web", replicas: 5 },
        { app: "pay", service: "api", replicas: 0 },
      ],
    ],
    [["shop", "web=2"], [{ app: "shop", service: "web", replicas: 2 }]],
  ])("scale %j", (texts, expected) => expect(parseCounts(texts)).toEqual(expected));
  test.each([[["web=5"]], [["shop/web"]], [["shop/web=x"]], [["shop"]], [["a/b/c=1"]]])("scale %j says what to write", (texts) =>
    expect(() => parseCounts(texts)).toThrow(/APP\/SERVICE=NUMBER/),
  );

  test.each(["shop/web=99999999999", "shop/web=-1"])("scale %s says the range", (text) =>
    expect(() => parseCounts([text])).toThrow(`"${text}": a service may have from 0 to ${API_REPLICAS_MAX} replicas`),
  );
  test("the range is the API's", () => expect(REPLICAS_MAX).toBe(API_REPLICAS_MAX));
  test("a key with a space", () => expect(() => parseChanges(["bad key=1"], "label")).toThrow('"bad key" is no key of a label'));
  test("a taint has no effect to name", async () =>
    await expect(nodeTaint(shellOf(), "x", ["gpu=yes:NoSchedule"])).rejects.toMatchObject({
      message: expect.stringContaining("names an effect"),
      next: "berth node taint x gpu=yes",
    }));

  test("labels: set and remove", () =>
    expect(parseChanges(["zone=a", "old-", "url=http://x?a=b"], "label")).toEqual({
      set: { zone: "a", url: "http://x?a=b" },
      remove: ["old"],
    }));
  test.each(["zone", "=a", "-", ""])("label %j is refused", (text) => expect(() => parseChanges([text], "label")).toThrow(/key=value/));
  test("where nothing can be removed", () => expect(() => parsePairs(["zone-"], "label")).toThrow(/key=value/));

  test.each([
    ["127.0.0.1:7420", { host: "127.0.0.1", port: 7420 }],
    ["0.0.0.0:1", { host: "0.0.0.0", port: 1 }],
    ["[::]:7420", { host: "::", port: 7420 }],
    [":7420", { host: "0.0.0.0", port: 7420 }],
    ["7420", { host: "127.0.0.1", port: 7420 }],
    ["localhost:7420", { host: "localhost", port: 7420 }],
  ])("listen on %s", (text, expected) => expect(parseListen(text)).toEqual(expected));
  test.each(["localhost", "a:b", "1.2.3.4:70000", "::1:7420"])("%s is no place to listen", (text) =>
    expect(() => parseListen(text)).toThrow(/ADDRESS:PORT/),
  );

  test.each([
    ["shop", undefined, { app: "shop" }],
    ["shop/web", undefined, { app: "shop", service: "web" }],
    ["shop/web/3", undefined, { app: "shop", service: "web", slot: "3" }],
    ["shop", "web", { app: "shop", service: "web" }],
    [undefined, undefined, {}],
  ])("place %s %s", (first, second, expected) => expect(splitPlace(first, second)).toEqual(expected));

  test("roles are the API's", () => expect(ROLES).toEqual(API_ROLES));

  test.each([
    ["an empty app", () => splitPlace(""), /"" names no app/],
    ["an app before a slash that is none", () => splitPlace("/web"), /"\/web" names no app/],
    [
      "a namespace with a capital",
      () => makeShell({ output: "table", namespace: "Bad" }, { ...world, env: {} }),
      /"Bad" in --namespace is no name of a namespace: use 1 to 63/,
    ],
    [
      "a namespace of the environment",
      () => makeShell({ output: "table" }, { ...world, env: { BERTH_NAMESPACE: "a b" } }),
      /"a b" in BERTH_NAMESPACE is no name of a namespace/,
    ],
    ["an empty name, which would make a path another one", () => appPath("default", "", "/revisions"), /a name is empty/],
  ])("%s is refused with what it should be", (_, act, message) => expect(act).toThrow(message));

  test("a namespace that is none is told with a command that goes further", () => {
    const next = (act: () => unknown): unknown => {
      try {
        return act();
      } catch (error) {
        return error;
      }
    };
    const env = { BERTH_NAMESPACE: "a b" };
    expect(next(() => makeShell({ output: "table" }, { ...world, env }))).toMatchObject({ exitCode: 2, next: "unset BERTH_NAMESPACE" });
    expect(next(() => makeShell({ output: "table", namespace: "Bad" }, { ...world, env }))).toMatchObject({
      exitCode: 2,
      next: "berth namespace ls",
    });
    expect(makeShell({ output: "table", namespace: "good" }, { ...world, env }).namespace).toBe("good");
  });

  test("what a build pushed is deployed, and not what its tag meant before", () => {
    const digest = `sha256:${"a".repeat(64)}`;
    expect(digestOf("registry.test/web:1", ["other.test/web@sha256:b", `registry.test/web@${digest}`])).toBe(digest);
    expect(digestOf("me/web", [`docker.io/me/web@${digest}`])).toBe(digest);
    expect(digestOf("registry.test/web:1", null)).toBeNull();
    const app = AppSpec.parse({
      name: "shop",
      services: { web: { workload: { image: "registry.test/web:1" } }, db: { workload: { image: "postgres:17" } } },
    });
    const { services } = withDigests(app, new Map([["registry.test/web:1", digest]]));
    expect(services["web"]?.workload.image).toBe(`registry.test/web:1@${digest}`);
    expect(services["db"]).toEqual(app.services["db"]);
  });

  test("a build's words stay words: nothing in a Compose file becomes an option of docker", () => {
    const build = {
      service: "web",
      context: "/src",
      dockerfile: "Dockerfile.web",
      args: { A: "--privileged" },
      target: "run",
      image: "registry.test/web:1",
    };
    expect(buildArguments(build)).toEqual([
      "build",
      "--tag",
      "registry.test/web:1",
      "--file",
      "/src/Dockerfile.web",
      "--build-arg",
      "A=--privileged",
      "--target",
      "run",
      "--",
      "/src",
    ]);
    expect(buildArguments({ service: "web", context: "https://git.test/x.git", dockerfile: "D", args: {}, image: "x" })).toEqual([
      "build",
      "--tag",
      "x",
      "--file",
      "D",
      "--",
      "https://git.test/x.git",
    ]);
  });
});

describe("ids", () => {
  const items = [
    { id: "n_abcdefghijklmnop", name: "till-1" },
    { id: "n_abzzzzzzzzzzzzzz", name: "till-2" },
    { id: "n_qqqqqqqqqqqqqqqq", name: "n_ab" },
  ];
  const words = { noun: "node", list: "berth node ls" };
  test.each([
    ["a whole id", "n_abcdefghijklmnop", "till-1"],
    ["a name", "till-2", "till-2"],
    ["a unique prefix", "n_q", "n_ab"],
    ["a prefix without its kind", "abz", "till-2"],
    ["a name that looks like a prefix of others", "n_ab", "n_ab"],
  ])("%s", (_name, typed, expected) => expect(resolveOne(items, typed, words).name).toBe(expected));
  test("an ambiguous prefix names the candidates", () => {
    const error = (() => {
      try {
        resolveOne(items, "ab", words);
      } catch (thrown) {
        return thrown as { message: string; details: string[] };
      }
      return null;
    })();
    expect(error?.message).toMatch(/begins 2 ids/);
    expect(error?.details).toEqual(["n_abcdefghijklmnop (till-1)", "n_abzzzzzzzzzzzzzz (till-2)"]);
  });
  test.each(["", "n_x", "till"])("%j is nothing here", (typed) =>
    expect(() => resolveOne(items, typed, words)).toThrow(/there is no node/),
  );
  test("short", () => expect(shortId("app_abcdefghijklmnop")).toBe("app_abcdefgh"));
  test("every kind of id is known as one, and a name that looks like one is none", () => {
    const tail = "_abcdefghijklmnop";
    const kinds: readonly [string, z.ZodType][] = [
      ["app", AppId],
      ["d", DeploymentId],
      ["jt", JoinTokenId],
      ["n", NodeId],
      ["r", ReplicaId],
      ["t", TokenId],
    ];
    for (const [prefix, schema] of kinds) {
      expect(schema.safeParse(prefix + tail).success, prefix).toBe(true);
      expect(shortIdOrName(prefix + tail)).toBe(`${prefix}_abcdefgh`);
    }
    for (const name of [`team${tail}`, `n${tail}q`, `default/n${tail}`, "n_1"]) expect(shortIdOrName(name)).toBe(name);
  });
});

describe("states in a word", () => {
  test.each([
    ["pending", node({ admission: "pending", status: "lost" }), "pending"],
    ["a clone", node({ quarantined: true }), "quarantined"],
    ["lost", node({ status: "lost" }), "lost"],
    ["joined just now", node({ engine: { reported: false, reachable: false, message: "x" } }), "starting"],
    ["no engine", node({ engine: { reported: true, reachable: false, message: "x" } }), "no engine"],
    ["ready", node(), "ready"],
  ])("node: %s", (_name, item, text) => expect(nodeState(item).text).toBe(text));
  const service = {
    name: "web",
    mode: "replicated" as const,
    image: "x",
    digest: null,
    wanted: 3,
    running: 3,
    ready: 3,
    ports: [],
    removed: false,
  };
  const deployment = {
    id: "d_aaaaaaaaaaaaaaaa" as const,
    namespace: "default",
    app: "shop",
    revision: 7,
    fromRevision: null,
    kind: "deploy" as const,
    message: "",
    createdBy: "admin",
    pausedBy: null,
    canariesHealthy: false,
    promoted: false,
    started: "2026-01-01T00:00:00.000Z",
    finished: null,
  };
  test.each([
    ["all ready", app({ services: [service] }), "ready"],
    ["one short", app({ services: [{ ...service, ready: 2 }] }), "degraded"],
    ["a removed service does not count", app({ services: [{ ...service, ready: 0, removed: true }] }), "ready"],
    ["deploying", app({ services: [service], deployment: { ...deployment, state: "running" } }), "deploying"],
    ["failed, the old one serves", app({ services: [service], deployment: { ...deployment, state: "failed" } }), "deploy failed"],
    ["going", app({ deleting: true }), "removing"],
  ])("app: %s", (_name, item, text) => expect(appState(item).text).toBe(text));
  test.each([
    ["ready", replica({ readySince: "2026-01-01T00:00:00.000Z" }), "ready"],
    ["running", replica(), "running"],
    ["unhealthy", replica({ health: "unhealthy" }), "unhealthy"],
    [
      "on a lost node nothing is known",
      replica({ readySince: "2026-01-01T00:00:00.000Z", node: { ...replica().node, status: "lost" } }),
      "running, node lost",
    ],
    [
      "nothing is known without the engine",
      replica({ readySince: "2026-01-01T00:00:00.000Z", node: { ...replica().node, engineReachable: false } }),
      "running, no engine",
    ],
    ["to be stopped", replica({ readySince: "2026-01-01T00:00:00.000Z", desired: "stop" }), "ready, to stop"],
    ["failed with its reason", replica({ state: "failed", reason: "oom" }), "failed: oom"],
  ])("replica: %s", (_name, item, text) => expect(replicaState(item).text).toBe(text));
});

describe("contexts", () => {
  const stored = { name: "prod", url: "https://prod.test:7420", token: "berth_p", rootThumbprint: "r", spki: null };
  const world = async () => {
    const home = await mkdtemp(join(tmpdir(), "berth-contexts-"));
    const env: Record<string, string> = { HOME: home };
    const clone = join(home, "clone");
    await mkdir(join(clone, "deep", "er"), { recursive: true });
    return { home, env, clone };
  };
  const makeLocal = async (clone: string) => {
    await mkdir(join(clone, ".berth"));
    await writeFile(join(clone, ".berth", "admin-token"), "berth_local\n");
  };

  test("are kept for their owner alone", async () => {
    const { env, home } = await world();
    const add = (name: string) => changeContexts(env, (file) => ({ ...file, contexts: [...file.contexts, { ...stored, name }] }));
    await Promise.all(["a", "b", "c"].map(add));
    expect(
      readContexts(env)
        .contexts.map(({ name }) => name)
        .sort(),
    ).toEqual(["a", "b", "c"]);
    await changeContexts(env, () => ({ current: "prod", contexts: [stored] }));
    expect((await stat(join(home, ".config", "berth", "contexts.json"))).mode & 0o777).toBe(0o600);
    expect(readContexts(env)).toEqual({ current: "prod", contexts: [stored] });
    expect(await readFile(join(home, ".config", "berth", "contexts.json"), "utf8")).toContain("berth_p");
  });

  test("a lock that a killed command left is named, with the command that removes it, and nothing is changed", async () => {
    const { env, home } = await world();
    await changeContexts(env, () => ({ current: "prod", contexts: [stored] }));
    const lock = join(home, ".config", "berth", "contexts.json.lock");
    await writeFile(lock, "");
    vi.useFakeTimers({ toFake: ["performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const late = changeContexts(env, () => ({ current: null, contexts: [] })).catch((error: unknown) => error);
    await expect
      .poll(async () => {
        vi.advanceTimersByTime(1_000);
        return await Promise.race([late, null]);
      })
      .toMatchObject({ message: expect.stringContaining(`${lock} has been there for 5 s`), next: `rm ${lock}` });
    expect(readContexts(env).contexts).toEqual([stored]);
    await rm(lock);
    await changeContexts(env, (file) => ({ ...file, current: null }));
    expect(readContexts(env)).toEqual({ current: null, contexts: [stored] });
  });

  test("a change that is refused leaves no lock", async () => {
    const { env } = await world();
    const refused = changeContexts(env, () => {
      throw new Error("no");
    });
    await expect(refused).rejects.toThrow("no");
    await changeContexts(env, () => ({ current: null, contexts: [stored] }));
    expect(readContexts(env).contexts).toEqual([stored]);
  });

  test("a file that others can read is refused with the command that mends it", async () => {
    const { env, home } = await world();
    await mkdir(join(home, ".config", "berth"), { recursive: true });
    await writeFile(join(home, ".config", "berth", "contexts.json"), "{}", { mode: 0o644 });
    expect(() => readContexts(env)).toThrow(/others may read it/);
  });

  test("a directory of another account, or that everybody may write, is not followed", async () => {
    const { env, clone } = await world();
    await makeLocal(clone);
    const token = join(clone, ".berth", "admin-token");
    const { uid, gid } = await stat(token);
    // Only root can give a file away.
    const strangers = uid === 0 ? [token, join(clone, ".berth")] : [];
    for (const file of strangers) {
      await chown(file, 65_534, 65_534);
      expect(() => resolveTarget({ env, cwd: clone })).toThrow(/belongs to another account, so what it says is not followed/);
      await chown(file, uid, gid);
    }
    await chmod(token, 0o666);
    expect(() => resolveTarget({ env, cwd: clone })).toThrow(/may be written by everybody/);
    await chmod(token, 0o600);
    expect(resolveTarget({ env, cwd: clone })).toMatchObject({ source: "directory" });
  });

  test("a file that is named and not there, and an address that is torn, are said in a sentence", async () => {
    const { env, clone } = await world();
    expect(() => resolveTarget({ env: { ...env, BERTH_URL: "https://x.test", BERTH_TOKEN_FILE: "/nope" }, cwd: clone })).toThrow(
      "BERTH_TOKEN_FILE names /nope, and there is no such file",
    );
    expect(() => readNamed("--join-file", clone)).toThrow(`--join-file names ${clone}, and it is a directory`);
    await makeLocal(clone);
    for (const torn of ['{"url": "http', "{}"]) {
      await writeFile(join(clone, ".berth", "address.json"), torn);
      expect(() => resolveTarget({ env, cwd: clone })).toThrow(/address.json does not say where the control plane listens/);
    }
  });

  test("the order: option, environment, directory, choice", async () => {
    const { env, clone } = await world();
    const cwd = join(clone, "deep", "er");
    expect(() => resolveTarget({ env, cwd })).toThrow(/no cluster is known here/);
    await changeContexts(env, () => ({ current: "prod", contexts: [stored, { ...stored, name: "other", url: "https://other.test" }] }));
    expect(resolveTarget({ env, cwd })).toMatchObject({ source: "chosen", url: "https://prod.test:7420", pins: { root: "r", spki: null } });
    await makeLocal(clone);
    expect(findLocalDirectory(cwd)).toBe(join(clone, ".berth"));
    expect(resolveTarget({ env, cwd })).toMatchObject({ source: "directory", url: "http://127.0.0.1:7420", token: "berth_local" });
    await writeFile(join(clone, ".berth", "address.json"), JSON.stringify({ url: "https://10.0.0.1:1", root: "R", spki: "S" }));
    expect(resolveTarget({ env, cwd })).toMatchObject({ url: "https://10.0.0.1:1", pins: { root: "R", spki: "S" } });
    const named = { ...env, BERTH_URL: "https://env.test/", BERTH_TOKEN: "berth_e" };
    expect(resolveTarget({ env: named, cwd })).toMatchObject({ source: "environment", url: "https://env.test", token: "berth_e" });
    expect(resolveTarget({ context: "other", env: named, cwd })).toMatchObject({ source: "option", url: "https://other.test" });
    expect(() => resolveTarget({ context: "nosuch", env, cwd })).toThrow(/no context "nosuch"/);
  });

  test.each(["ftp://x", "nonsense", "https://user:word@x"])("%s is no address", (text) => expect(() => checkedUrl(text)).toThrow());

  test.each([
    ["https://x.test", true],
    ["http://127.0.0.1:7420", true],
    ["http://[::1]:7420", true],
    ["http://localhost", true],
    ["http://127.evil.test", false],
    ["http://10.0.0.1:7420", false],
  ])("the token goes to %s without --insecure: %s", (url, isFine) => {
    const check = (isInsecure: boolean) => () => refusePlaintext(url, isInsecure);
    if (isFine) expect(check(false)).not.toThrow();
    else expect(check(false)).toThrow(/is plain HTTP, over which anybody on the way reads the token/);
    expect(check(true)).not.toThrow();
  });

  test("the client of a shell is refused plain HTTP, and given it where that is asked for", () => {
    const terminal = recordingTerminal();
    const open = (over: object, env: Record<string, string> = {}) =>
      makeShell(
        { output: "table", ...over },
        { terminal, env: { BERTH_URL: "http://10.0.0.1", BERTH_TOKEN: "t", ...env }, cwd: "/", signal: new AbortController().signal },
      ).client();
    expect(() => open({})).toThrow(/plain HTTP/);
    expect(open({ insecure: true }).url).toBe("http://10.0.0.1");
    expect(open({}, { BERTH_INSECURE: "1" }).url).toBe("http://10.0.0.1");
  });
});
