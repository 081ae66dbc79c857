/** Small parts of the agent, each against what it promises. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { readCommandLine } from "../../agent/command-line.ts";
import { describeEngineProblem, describePlatformProblem, engineSocket } from "../../agent/engine/detect.ts";
import { pullFailure } from "../../agent/engine/docker-streams.ts";
import {
  assertContainerId,
  assertObjectName,
  assertReference,
  type Engine,
  EngineError,
  type EngineFailure,
  type EngineInfo,
  type Login,
  type LogLine,
} from "../../agent/engine/engine.ts";
import { LINE_MAX, splitLog } from "../../agent/engine/log-frames.ts";
import { imageKeyOf, pullImage, pullReference, runReference } from "../../agent/images.ts";
import { prepareIdentity } from "../../agent/enrol.ts";
import { identityFile } from "../../agent/identity.ts";
import { main } from "../../agent/main.ts";
import { nodeClock } from "../../agent/node-clock.ts";
import type { Log } from "../../agent/ports.ts";
import type { NodeId } from "../../shared/model/name.ts";
import type { JoinToken } from "../../shared/wire/enroll.ts";
import { openDisk } from "../../agent/node-disk.ts";
import { Observed } from "../../agent/observed.ts";
import { SealedFile } from "../../agent/sealed-file.ts";
import { describeStepFailure } from "../../agent/step-failure.ts";
import { Channels, type ChannelsInput } from "../../agent/channels.ts";
import { POLICY_DEFAULT } from "../../agent/policy.ts";
import type { Session } from "../../agent/link/transport.ts";
import type { ChannelAsk } from "../../shared/wire/poll.ts";
import { environmentText, passedOn, unitText } from "../../agent/unit.ts";
import { networkName } from "../../shared/converge/names.ts";
import { loginCommandIn } from "../../shared/model/image.ts";
import { image, ref } from "../core/converge/world.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-parts-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const silent = { warn: () => undefined } as unknown as Log;

describe("a pull that failed", () => {
  test.each<[string, EngineFailure]>([
    ['Head "https://r.test/v2/web/manifests/1": no basic auth credentials', "denied"],
    ['Head "https://r.test/v2/web/manifests/1": unauthorized: authentication required', "denied"],
    [
      "pull access denied for web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
      "denied",
    ],
    ['failed to resolve reference "r.test/web:1": unexpected status from HEAD request: 403 Forbidden', "denied"],
    ["error from registry: denied", "denied"],
    ["manifest for r.test/web:9 not found: manifest unknown: manifest unknown", "notFound"],
    ["name unknown: repository name not known to registry", "notFound"],
    ['failed to resolve reference "r.test/web:9": r.test/web:9: not found', "notFound"],
    ["open /var/lib/docker/tmp/x: permission denied", "failed"],
    ['Get "https://r.test/v2/web/manifests/401": dial tcp 192.0.2.1:443: connect: connection refused', "failed"],
    ['Get "https://r.test/v2/": dial tcp: lookup r.test: no such host', "failed"],
    ['Get "https://r.test/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)', "failed"],
    ["received unexpected HTTP status: 503 Service Unavailable", "failed"],
    ["toomanyrequests: You have reached your pull rate limit", "failed"],
    ["failed to register layer: write /x: no space left on device", "noSpace"],
  ])("%s: %s", (message, failure) => expect(pullFailure(message)).toBe(failure));

  test.each<[EngineFailure, number, string]>([
    ["denied", 1, "pullFailed"],
    ["denied", 2, "pullFailed"],
    ["denied", 3, "pullDenied"],
    ["notFound", 3, "imageNotFound"],
    ["failed", 30, "pullFailed"],
  ])("%s for the %i. time in a row is reported as %s", (code, count, reason) =>
    expect(describeStepFailure("pull", new EngineError(code, "words"), count).reason).toBe(reason),
  );

  const pullOf = (error: EngineError, login: Login | null) =>
    pullImage(
      {
        kind: "pull",
        key: "k",
        imageKey: "k",
        image: image({ reference: "r.test:5000/team/web:1", digest: null }),
        policy: "missing",
        namespace: "shops",
        app: "shop",
        revision: 1,
      },
      {
        engine: { image: () => Promise.resolve(null), pull: () => Promise.reject(error) } as unknown as Engine,
        list: { entries: () => [], put: async () => {} },
        login,
        onProgress: () => undefined,
        signal: new AbortController().signal,
      },
    ).then(
      () => "nothing",
      (thrown: Error) => thrown.message,
    );

  test("names the command that mends it, with the registry and namespace it is for", async () => {
    const said = await pullOf(new EngineError("denied", "no basic auth credentials"), null);
    expect(said).toContain("r.test:5000 needs a login for r.test:5000/team/web:1");
    expect(loginCommandIn(said)).toBe("berth registry login r.test:5000 -n shops");
    const refused = await pullOf(new EngineError("denied", "unauthorized"), { username: "ada", password: "hidden-words" });
    expect(refused).toContain("does not accept the login of ada");
    expect(refused).not.toContain("hidden-words");
  });

  test("names the image that is not there, and offers no login", async () => {
    const said = await pullOf(new EngineError("notFound", "manifest unknown"), null);
    expect(said).toContain("there is no image r.test:5000/team/web:1");
    expect(loginCommandIn(said)).toBeNull();
  });

  test.each(["shops", "team_a", "shop.eu", "a-b", "x"])("names the namespace %s whole, also at a sentence's end", (namespace) => {
    const command = `berth registry login r.test:5000 -n ${namespace}`;
    for (const end of ["", ".", ", then deploy again"]) expect(loginCommandIn(`give it one: ${command}${end}`)).toBe(command);
  });
});

describe("a log that is followed", () => {
  test("ends with a sentence when the owner forbids reading logs, and goes on when the policy changes otherwise", async () => {
    let policy = POLICY_DEFAULT;
    const sent: string[] = [];
    const closed = Promise.withResolvers<void>();
    const following = Promise.withResolvers<AbortSignal>();
    const channels = new Channels({
      engine: {
        logs: (_: string, { signal }: { signal: AbortSignal }) => {
          following.resolve(signal);
          return new Promise<void>((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
        },
      },
      ledger: { record: () => ({ containerId: "c" }) },
      log: silent,
      sockets: {
        dial: async () => ({ send: async (text: string) => void sent.push(text), close: closed.resolve, closed: closed.promise }),
      },
      transport: { url: "http://x", authorization: async () => "" },
      policy: () => policy,
    } as unknown as ChannelsInput);
    const ask = { id: "ch1", kind: "logs", replica: "r", follow: true, tail: 0, sinceMs: null, timestamps: false } as unknown as ChannelAsk;
    channels.answer(ask, {} as Session, new AbortController().signal);
    const signal = await following.promise;
    policy = { ...POLICY_DEFAULT, hostNetwork: true };
    channels.policyChanged();
    expect(signal.aborted).toBe(false);
    policy = { ...POLICY_DEFAULT, logs: false };
    channels.policyChanged();
    await closed.promise;
    expect(sent.map((text) => JSON.parse(text))).toEqual([
      { kind: "end", reason: "error", message: expect.stringContaining('"logs" in its policy.json') },
    ]);
  });
});

describe("the systemd unit", () => {
  const verify = async (text: string): Promise<string> => {
    const file = join(dir, "berth-agent.service");
    await writeFile(file, text);
    // It exits 0 on a bad unit: what it says is what counts.
    return (await promisify(execFile)("systemd-analyze", ["verify", "--man=no", file])).stderr;
  };

  test("is one that systemd takes without a word", async () => {
    expect(
      await verify(
        unitText({
          node: process.execPath,
          script: "/usr/local/lib/berth/agent.mjs",
          dataDir: "/var/lib/berth",
          environmentFile: "/var/lib/berth/service.env",
        }),
      ),
    ).toBe("");
  });

  /** A mount namespace of its own, whose /run and /etc/systemd/system nobody else sees. */
  const apart = (script: string, env: Record<string, string> = {}) =>
    promisify(execFile)(
      "unshare",
      ["--mount", "sh", "-euc", `mount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /etc/systemd/system\n${script}`],
      {
        env: { ...process.env, ...env },
      },
    ).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  const root = join(import.meta.dirname, "../..");
  const agent = `${process.execPath} ${join(root, "agent/main.ts")}`;
  const makeMember = async (dataDir: string): Promise<void> => {
    const file = identityFile(await openDisk(dataDir), silent);
    const token = { id: "j_aaaaaaaaaaaaaaaa", url: "https://berth.test", root: "r" } as unknown as JoinToken;
    const fresh = await prepareIdentity(token, file, nodeClock);
    const enrolled = { node: "n_aaaaaaaaaaaaaaaa" as NodeId, name: "till1", site: "berlin", cluster: "c", admission: "admitted" as const };
    await file.write({ ...fresh!, enrolled });
  };

  test.each([
    ["install --data-dir /tmp", "berth agent: no systemd runs here; start the agent with: agent.mjs run, or berth agent\n"],
    [
      "install --data-dir /nowhere",
      "berth agent: this machine has not joined a cluster; get a line to paste with: berth join-token create\n",
    ],
    ["uninstall", "berth agent: no systemd runs here, so there is no service to remove\n"],
  ])("%s says in a sentence what is missing", async (command, sentence) => {
    expect(await apart(`${agent} ${command}`)).toMatchObject({ code: 1, stdout: "", stderr: sentence });
  });

  test.each([
    ["agent.mjs", agent],
    ["berth agent", `${process.execPath} ${join(root, "cli/berth.mjs")} agent`],
  ])("is put in place by %s, started, and removed again", async (_name, agent) => {
    await makeMember(join(dir, "data"));
    await writeFile(join(dir, "systemctl"), `#!/bin/sh\necho "$@" >> ${dir}/calls\n`, { mode: 0o755 });
    const ran = await apart(
      `mkdir -p /run/systemd/system\n${agent} install --data-dir ${dir}/data --engine /e.sock\ncp /etc/systemd/system/berth-agent.service ${dir}/unit.service\ncp -p ${dir}/data/service.env ${dir}\n` +
        `${agent} uninstall\nls /etc/systemd/system`,
      { PATH: `${dir}:${process.env["PATH"] ?? ""}`, HTTPS_PROXY: "http://alice:s3cret@proxy:3128" },
    );
    expect(ran).toMatchObject({
      code: 0,
      stdout: "berth-agent.service runs, and starts at each boot\nremoved berth-agent.service; containers go on running\n",
      stderr: "",
    });
    expect((await readFile(join(dir, "calls"), "utf8")).trim().split("\n")).toEqual([
      "daemon-reload",
      "enable berth-agent.service",
      "restart berth-agent.service",
      "disable --now berth-agent.service",
      "daemon-reload",
    ]);
    const unit = await readFile(join(dir, "unit.service"), "utf8");
    expect(unit).toContain(`"${process.execPath}" "${root}/agent/main.ts" "run" "--data-dir" "${dir}/data" "--engine" "/e.sock"`);
    expect(unit).toContain(`\nEnvironmentFile=-${dir}/data/service.env\n`);
    expect(unit).not.toContain("s3cret");
    expect(await readFile(join(dir, "service.env"), "utf8")).toContain('HTTPS_PROXY="http://alice:s3cret@proxy:3128"\n');
    expect((await stat(join(dir, "service.env"))).mode & 0o777).toBe(0o600);
    await expect(stat(join(dir, "data", "service.env"))).rejects.toThrow("ENOENT");
    expect(await verify(unit)).toBe("");
  });

  test("keeps odd paths whole", async () => {
    const text = unitText({ node: process.execPath, script: "/opt/a b/$x %i.mjs", dataDir: '/data/"q"' });
    expect(text).toContain('"/opt/a b/$$x %%i.mjs" "run" "--data-dir" "/data/\\"q\\""');
    expect(await verify(text)).toBe("");
  });

  test("keeps odd settings whole, in a file that only root reads", () => {
    expect(environmentText({ HTTPS_PROXY: 'http://u:p%40$x`"\\@proxy' })).toBe('HTTPS_PROXY="http://u:p%40\\$x\\`\\"\\\\@proxy"\n');
    expect(() => environmentText({ NO_PROXY: "a\nLD_PRELOAD=/x" })).toThrow("line break");
  });

  test("refuses a path with a line break", () => {
    expect(() => unitText({ node: "/n", script: "/a\nExecStartPre=/bin/evil", dataDir: "/d" })).toThrow("line break");
  });

  test("names no address that nobody has made", () => {
    expect(unitText({ node: "/n", script: "/s", dataDir: "/d" })).not.toContain("http");
  });

  test("has all that curl and the agent read of a proxy, from whoever installs it", () => {
    const login = {
      HTTP_PROXY: "http://a:1",
      http_proxy: "http://b:1",
      https_proxy: "http://c:1",
      DOCKER_HOST: "unix:///s",
      HOME: "/root",
    };
    const { HOME: _, ...passed } = login;
    expect(passedOn(login)).toEqual(passed);
  });

  test("ends the agent and none of its containers, and tries for ever", () => {
    const text = unitText({ node: "/n", script: "/s", dataDir: "/d" });
    expect(text).toContain("KillMode=process\n");
    expect(text).toContain("Restart=always\n");
    expect(text).toContain("StartLimitIntervalSec=0\n");
  });
});

describe("the command line", () => {
  test("writes nothing of other people's to root's terminal that could move its cursor", async () => {
    const written: string[] = [];
    const write = vi.spyOn(process.stderr, "write").mockImplementation((text) => written.push(String(text)) > 0);
    try {
      const root = "A".repeat(43);
      const token = { v: 1, id: `jt_${"a".repeat(16)}`, seed: root, url: "http://127.0.0.1:9", root } satisfies Record<
        keyof Omit<JoinToken, "spki">,
        unknown
      >;
      const joinToken = `berth_join_${Buffer.from(JSON.stringify(token)).toString("base64url")}`;
      expect(await main(["join", joinToken, "--data-dir", join(dir, "data"), "--engine", "/\u001b[2J.sock"])).toBe(1);
    } finally {
      write.mockRestore();
    }
    expect(written.join("")).toMatch(/^berth agent: no container engine answers at \/\\x1b\[2J\.sock[^\u001b]*\n$/);
  });

  test.each([
    [
      ["join", "berth_join_x", "--name", "n1"],
      { kind: "command", command: "join", token: "berth_join_x", flags: { name: "n1", foreground: false } },
    ],
    [["join", "T", "--foreground", "--data-dir=/d"], { kind: "command", command: "join", flags: { dataDir: "/d", foreground: true } }],
    [["run", "--ca", "/c.pem", "--engine", "/s"], { kind: "command", command: "run", flags: { caFile: "/c.pem", engineSocket: "/s" } }],
    [[], { kind: "help" }],
    [["run", "--help"], { kind: "help" }],
    [["--version"], { kind: "version" }],
    [["join"], { kind: "wrong", message: "join needs a token, as berth join-token create prints it, in BERTH_JOIN_TOKEN" }],
    [["dance"], { kind: "wrong", message: "unknown command dance; there are join, run, install, uninstall" }],
    [["run", "extra"], { kind: "wrong", message: "unexpected argument extra" }],
    [["run", "--data-dir"], { kind: "wrong", message: "--data-dir needs a value" }],
    [["run", "--nope"], { kind: "wrong", message: "unknown option --nope" }],
  ])("%j", (argv, expected) => {
    expect(readCommandLine(argv, {})).toMatchObject(expected);
  });

  test("takes the token from the environment, where other users cannot see it, and for joining alone", () => {
    const env = { BERTH_JOIN_TOKEN: "berth_join_x" };
    expect(readCommandLine(["join"], env)).toMatchObject({ command: "join", token: "berth_join_x" });
    expect(readCommandLine(["run"], env)).toMatchObject({ command: "run", token: undefined });
  });
});

describe("the picture of the engine", () => {
  const running = {
    id: "c".repeat(64),
    name: "web",
    labels: {},
    imageId: "sha256:1",
    status: "running" as const,
    pid: 1,
    exitCode: 0,
    oomKilled: false,
    health: "none" as const,
    startedWallMs: 5,
    finishedWallMs: null,
    healthySinceWallMs: null,
    ports: [],
    tty: false,
  };
  const ended = { ...running, status: "exited" as const, pid: 0, exitCode: 1, finishedWallMs: 6 };

  test.each([
    ["ended while the engine was away: with it", { runsAtMs: 100, goneAtMs: 200 }, true],
    ["was started after the engine had come back: by itself", { runsAtMs: 300, goneAtMs: 200 }, false],
    ["ended while the engine was there: by itself", { runsAtMs: 100, goneAtMs: null }, false],
  ])("a container that %s", (_, { runsAtMs, goneAtMs }, isInterrupted) => {
    let bootMs = runsAtMs;
    const observed = new Observed({ bootMs: () => bootMs, wallMs: () => 0, after: () => () => {} });
    observed.see(running);
    bootMs = 400;
    observed.see(ended, { engineGoneMs: goneAtMs });
    expect(observed.container(running.id)?.interrupted).toBe(isInterrupted);
  });
});

describe("which engine", () => {
  const info = (changes: Partial<EngineInfo> = {}): EngineInfo => ({
    version: "20.10.24",
    apiVersion: "1.41",
    cgroup: "1",
    storage: "overlay2",
    name: "h",
    os: "linux",
    logDriver: "json-file",
    isRootless: false,
    isPodman: false,
    isDesktop: false,
    ...changes,
  });
  test.each([
    ["Docker 20.10", info(), null],
    ["a newer one", info({ apiVersion: "1.52" }), null],
    ["an older one", info({ apiVersion: "1.40", version: "19.03" }), "needs 1.41"],
    ["Podman", info({ isPodman: true }), "Podman"],
    ["rootless", info({ isRootless: true }), "rootless"],
    ["Docker Desktop", info({ isDesktop: true }), "Desktop"],
    ["Windows containers", info({ os: "windows" }), "windows"],
  ])("%s", (_, given, expected) => {
    const problem = describeEngineProblem(given);
    if (expected === null) expect(problem).toBeNull();
    else expect(problem).toContain(expected);
  });

  test.each([
    [undefined, { path: "/var/run/docker.sock" }],
    ["unix:///run/x.sock", { path: "/run/x.sock" }],
    ["/run/y.sock", { path: "/run/y.sock" }],
    ["tcp://10.0.0.1:2375", { problem: expect.stringContaining("local socket") }],
    ["ssh://host", { problem: expect.stringContaining("local socket") }],
  ])("DOCKER_HOST=%s", (host, expected) => {
    expect(engineSocket(host)).toEqual(expected);
  });

  test("Linux only, by name", () => {
    expect([describePlatformProblem("linux"), describePlatformProblem("darwin"), describePlatformProblem("win32")]).toEqual([
      null,
      expect.stringContaining("macOS"),
      expect.stringContaining("Windows"),
    ]);
  });
});

describe("what may stand in a path of the engine's (B70)", () => {
  const refuses = (check: (text: string) => void, texts: readonly string[]) => {
    for (const text of texts) expect(() => check(text), text).toThrow();
  };
  test("ids", () => {
    expect(() => assertContainerId("a".repeat(64))).not.toThrow();
    refuses(assertContainerId, ["", "a".repeat(63), "A".repeat(64), `${"a".repeat(63)}/`, "../images", `${"a".repeat(64)}\n`]);
  });
  test("names", () => {
    expect(() => assertObjectName("berth_default_shop_data")).not.toThrow();
    refuses(assertObjectName, ["", ".", "..", "a/b", "a?x=1", "a%2e", "-a", "a b", "a".repeat(256)]);
  });
  test("references", () => {
    for (const good of ["nginx:1", "localhost:5000/a/b:t", `a@sha256:${"0".repeat(64)}`, `sha256:${"0".repeat(64)}`])
      expect(() => assertReference(good), good).not.toThrow();
    refuses(assertReference, [
      "",
      "a/../../containers/x",
      "a//b",
      "./a",
      "x?fromSrc=y",
      "a b",
      "a#b",
      "%2e%2e/a",
      `a:${"t".repeat(600)}`,
      "a\n",
    ]);
  });
});

describe("images", () => {
  const digest = `sha256:${"d".repeat(64)}`;
  test.each([
    ["a tag", image({ reference: "r:5000/a:1", digest: null }), "r:5000/a:1"],
    ["no tag: the engine would pull them all", image({ reference: "r:5000/a", digest: null }), "r:5000/a:latest"],
    ["latest by name", image({ reference: "a:latest", digest: null }), "a:latest"],
    ["a digest", image({ reference: "r:5000/a:1", digest }), `r:5000/a@${digest}`],
    ["a reference with a digest", image({ reference: `a:1@${digest}`, digest }), `a@${digest}`],
    ["an image id", image({ imageId: digest, digest: null }), digest],
  ])("%s is asked for as it must be", (_, given, expected) => {
    expect(pullReference(given)).toBe(expected);
  });

  test("a container is made from what cannot move", () => {
    expect(runReference(image({ reference: "a:1", digest }), "sha256:id")).toBe(`a@${digest}`);
    expect(runReference(image({ reference: "a:1", digest: null }), "sha256:id")).toBe("sha256:id");
  });

  test("what a tag meant for one revision says nothing of the next", () => {
    const tag = image({ digest: null });
    expect(imageKeyOf(ref({ image: tag, revision: 1 }))).not.toBe(imageKeyOf(ref({ image: tag, revision: 2 })));
    expect(imageKeyOf(ref({ revision: 1 }))).toBe(imageKeyOf(ref({ revision: 2 })));
  });
});

test("no two apps share a network's name", () => {
  const parts = ["a", "b", "a-b", "a--b", "b-a", "a_b", "a.b"];
  const names = parts.flatMap((namespace) => parts.map((app) => networkName(namespace, app)));
  expect(new Set(names).size).toBe(parts.length ** 2);
  expect(networkName("default", "shop")).toBe("berth-default-shop");
});

describe("log lines", () => {
  const frame = (stream: 1 | 2, text: string): Uint8Array => {
    const payload = Buffer.from(text);
    const header = Buffer.alloc(8);
    header.writeUInt8(stream, 0);
    header.writeUInt32BE(payload.length, 4);
    return Buffer.concat([header, payload]);
  };
  const read = async (chunks: readonly Uint8Array[], options: { isTty?: boolean; hasTimestamps?: boolean } = {}): Promise<LogLine[]> => {
    const lines: LogLine[] = [];
    const source = (async function* () {
      yield* chunks;
    })();
    await splitLog(source, { isTty: false, hasTimestamps: false, ...options, onLine: async (line) => void lines.push(line) });
    return lines;
  };
  const texts = async (...given: Parameters<typeof read>) =>
    (await read(...given)).map(({ stream, text, cut }) => `${stream} ${text}${cut ? " (cut)" : ""}`);

  test("of both streams, whole lines and the rest", async () => {
    expect(await texts([frame(1, "a\nb"), frame(2, "x\n"), frame(1, "c\nrest")])).toEqual([
      "stdout a",
      "stderr x",
      "stdout bc",
      "stdout rest",
    ]);
  });

  test("whatever the pieces in which they come", async () => {
    const whole = Buffer.concat([frame(1, "héllo\n"), frame(2, "wörld\n")]);
    for (let size = 1; size < 12; size++) {
      const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) => whole.subarray(index * size, (index + 1) * size));
      expect(await texts(pieces)).toEqual(["stdout héllo", "stderr wörld"]);
    }
  });

  test("of a terminal are as they come", async () => {
    expect(await texts([Buffer.from("a\r\nb\r\n")], { isTty: true })).toEqual(["stdout a", "stdout b"]);
  });

  test("are cut at their bound, the rest of them dropped, the next whole", async () => {
    const long = "x".repeat(LINE_MAX + 5);
    const [first, second] = await read([frame(1, long), frame(1, `${long}\nnext\n`)]);
    expect([first?.text.length, first?.cut, second?.text, second?.cut]).toEqual([LINE_MAX, true, "next", false]);
  });

  test("have the engine's time when it was asked for", async () => {
    const [stamped, bare] = await read([frame(1, "2026-01-02T03:04:05.123456789Z text\nno time\n")], { hasTimestamps: true });
    expect([stamped?.at, stamped?.text, bare?.at, bare?.text]).toEqual(["2026-01-02T03:04:05.123456789Z", "text", null, "no time"]);
  });
});

describe("files", () => {
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  const file = async (keepPrevious = true) =>
    new SealedFile({ disk: await openDisk(dir), log, path: "a/b.json", schema: z.object({ n: z.number() }), keepPrevious });

  test("are whole or what they were, private, and leave nothing beside them", async () => {
    const one = await file();
    await one.write({ n: 1 });
    await one.write({ n: 2 });
    expect(await one.read()).toEqual({ n: 2 });
    expect((await readdir(join(dir, "a"))).sort()).toEqual(["b.json", "b.json.previous"]);
    expect((await stat(join(dir, "a/b.json"))).mode & 0o777).toBe(0o600);
  });

  test.each([
    ["empty", () => ""],
    ["cut", (text: string) => text.slice(0, -3)],
    ["changed", (text: string) => text.replace('"n":2', '"n":3')],
    ["of another form", () => "hello"],
  ])("that are %s read as the version before", async (_, spoil) => {
    const one = await file();
    await one.write({ n: 1 });
    await one.write({ n: 2 });
    const path = join(dir, "a/b.json");
    await writeFile(path, spoil(await readFile(path, "utf8")));
    expect(await one.read()).toEqual({ n: 1 });
    await rm(`${path}.previous`);
    expect(await one.read()).toBeNull();
  });

  test("outside the directory are out of reach", async () => {
    const disk = await openDisk(dir);
    await expect(disk.read("../x")).rejects.toThrow("leaves the data directory");
    await expect(disk.writeAtomic("/etc/x", "")).rejects.toThrow("leaves the data directory");
  });
});
