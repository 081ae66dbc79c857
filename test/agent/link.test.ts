/** Everything that can stand between an agent and its control plane: nothing of it stops a container, and nothing false gets in. */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { base64url, CompactSign, importJWK } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { AgentError, installService, joinCluster } from "../../agent/main.ts";
import { installUnit } from "../../agent/unit.ts";
import { JOSE_TYPES } from "../../shared/wire/jose.ts";
import { NONCE_HEADER, PROTOCOL_HEADER } from "../../shared/wire/version.ts";
import { makeSigner, newEd25519, newKeyRing, thumbprint } from "../../worker/keys.ts";
import { until } from "../e2e/hosts/until.ts";
import { newReplicaId } from "./control-plane.ts";
import { appOf, Ground } from "./ground.ts";

vi.mock("../../agent/unit.ts", async (original) => ({
  ...(await original<object>()),
  hasSystemd: () => true,
  installUnit: vi.fn(async () => undefined),
}));

let ground: Ground;
let web: { tag: string; digest: string };

beforeAll(async () => {
  ground = await Ground.make("agentlink");
  web = await ground.registry.push("web:1");
});
afterAll(async () => {
  await ground?.close();
});
beforeEach(async () => {
  await ground.fresh();
});
afterEach(async () => {
  await ground.end();
});

const failure = async (work: Promise<unknown>): Promise<AgentError> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AgentError);
  return error as AgentError;
};
const running = async (): Promise<string> => {
  const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
  await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
  return replica ?? "";
};
const untouched = async (during: () => Promise<void>): Promise<void> => {
  const before = (await ground.containers()).map(({ Id, State }) => `${Id} ${State.StartedAt} ${State.Running}`);
  await during();
  expect((await ground.containers()).map(({ Id, State }) => `${Id} ${State.StartedAt} ${State.Running}`)).toEqual(before);
};
const stranger = async () => makeSigner(await newKeyRing({ bytes: (count) => new Uint8Array(randomBytes(count)) }));
const said = (words: string) =>
  until(`"${words}" to be said`, () => ground.said.find((sentence) => sentence.includes(words)), { detail: () => ground.said.join("\n") });
const warned = (words: string) =>
  until(`"${words}" in the log`, () => ground.logged.some(({ fields }) => JSON.stringify(fields).includes(words)));

describe("joining", () => {
  test("refuses a control plane with another root key, and sends it nothing", async () => {
    const other = await thumbprint((await newEd25519()).jwk);
    const error = await failure(ground.start({ joinToken: await ground.control.joinToken({ root: other }) }));
    expect(error.message).toContain("is not the cluster that this join token is for");
    expect(ground.control.requests).toEqual(["GET /agent/v1/keys"]);
  });

  test.each([
    ["text", "hello"],
    ["cut", "berth_join_eyJ2IjoxLCJpZCI6Imp0"],
    ["empty", ""],
  ])("says what is wrong with a token that is %s", async (_, joinToken) => {
    expect(await failure(ground.start({ joinToken }))).toMatchObject({
      code: "token",
      message: expect.stringContaining("not a whole join token"),
    });
  });

  test("has its keys on disk before the first request", async () => {
    let keys: string | null = null;
    ground.control.disturb = (request) => {
      if (request.url === "/agent/v1/keys")
        readFile(join(ground.dataDir, "identity.json"), "utf8").then((text) => {
          keys ??= text;
        });
      return false;
    };
    await ground.start();
    expect(keys).toContain('"enrolled":null');
  });

  test("whose answer was lost is gone on with, with the same keys", async () => {
    let lost = 0;
    ground.control.disturb = (request, response) => {
      if (request.url !== "/agent/v1/enroll" || lost > 0) return false;
      lost++;
      const end = response.end.bind(response);
      response.end = (() => {
        response.end = end;
        response.destroy();
        return response;
      }) as typeof response.end;
      return false;
    };
    const signKeys = new Set<string>();
    ground.control.onEnrol = (payload) => signKeys.add(payload.signKey.x);
    await ground.start();
    expect([ground.control.enrolments, signKeys.size]).toEqual([2, 1]);
  });

  test("that needs approval waits, says so, and goes on when it is given", async () => {
    ground.control.admission = "pending";
    await ground.start();
    await said("berth node approve test");
    ground.control.admission = "admitted";
    await said("connected");
  });

  test("an engine that is not there is said before anything is sent", async () => {
    const error = await failure(ground.start({ engineSocket: "/nowhere/docker.sock" }));
    expect(error).toMatchObject({
      code: "engine",
      message: expect.stringContaining("no container engine answers at /nowhere/docker.sock"),
    });
    expect(ground.control.requests).toEqual([]);
  });

  test("twice with one data directory is refused, and possible when the first has ended", async () => {
    await ground.start();
    const before = await readFile(join(ground.dataDir, "identity.json"), "utf8");
    const joinToken = await ground.control.joinToken({ url: "http://127.0.0.1:9" });
    expect(await failure(ground.start({ joinToken }))).toMatchObject({
      code: "usage",
      message: expect.stringContaining("another agent runs with the data directory"),
    });
    expect(await readFile(join(ground.dataDir, "identity.json"), "utf8")).toBe(before);
    await ground.stop();
    await ground.start();
    expect(ground.control.sessions).toBeLessThanOrEqual(2);
  });

  test("as a service, with a token and a name: it joins first", async () => {
    const joinToken = await ground.control.joinToken();
    const script = "/agent.mjs";
    const options = { joinToken, name: "till1", dataDir: ground.dataDir, engineSocket: ground.host.socket, env: {}, script };
    expect(await installService(options)).toContain("starts at each boot");
    expect([ground.control.enrolments, ground.control.sessions]).toEqual([1, 0]);
    const { enrolled } = JSON.parse((await readFile(join(ground.dataDir, "identity.json"), "utf8")).split("\n")[1] ?? "");
    expect(enrolled.name).toBe("till1");
    expect(installUnit).toHaveBeenCalledWith(expect.objectContaining({ script, dataDir: ground.dataDir }));
    expect(await installService({ ...options, joinToken: undefined } as never)).toContain("starts at each boot");
  });

  test("again at a new address, while the agent runs: the agent does not put the old one back", async () => {
    await ground.start();
    await running();
    const joinToken = await ground.control.joinToken({ url: "http://127.0.0.1:9" });
    await joinCluster({ joinToken, dataDir: ground.dataDir, engineSocket: ground.host.socket, env: {} });
    const identity = async () => JSON.parse((await readFile(join(ground.dataDir, "identity.json"), "utf8")).split("\n")[1] ?? "");
    const { url, keySet } = await identity();
    expect(url).toBe("http://127.0.0.1:9");
    await ground.control.rotate();
    ground.control.replaceSession();
    await until("the new key set on the disk", async () => (await identity()).keySet !== keySet);
    expect((await identity()).url).toBe("http://127.0.0.1:9");
  });

  test("a machine of another cluster stays where it is", async () => {
    await ground.start();
    await ground.stop();
    const error = await failure(
      ground.start({ joinToken: await ground.control.joinToken({ root: await thumbprint((await newEd25519()).jwk) }) }),
    );
    expect(error.message).toContain("a node of another cluster already");
  });
});

describe("a manifest", () => {
  const forged = async (
    edit: (payload: Record<string, unknown>) => Record<string, unknown>,
    header: Record<string, unknown> = {},
    key = ground.control.ring.lease[0]?.jwk,
  ) => {
    const manifest = edit(ground.control.manifest());
    const lease = ground.control.ring.lease[0];
    return new CompactSign(new TextEncoder().encode(JSON.stringify(manifest)))
      .setProtectedHeader({ alg: "Ed25519", typ: JOSE_TYPES.manifest, kid: lease?.kid ?? "", ...header })
      .sign(await importJWK(key ?? {}, "Ed25519"));
  };
  const newer = (payload: Record<string, unknown>) => ({ ...payload, generation: 99, assignments: [] });

  test.each<[string, () => Promise<string>]>([
    ["signed by another key", async () => forged(newer, {}, (await newEd25519()).jwk)],
    ["signed by a key that is not in the key set", async () => forged(newer, { kid: "unknown-kid" })],
    ["of another purpose", async () => forged(newer, { typ: JOSE_TYPES.enrolled })],
    ["that brings its own key", async () => forged(newer, { jwk: { kty: "OKP", crv: "Ed25519", x: "x" } })],
    ["for another node", async () => forged((payload) => newer({ ...payload, aud: "n_bbbbbbbbbbbbbbbb" }))],
    [
      "for a list of nodes that has this one",
      async () => forged((payload) => newer({ ...payload, aud: [payload.aud, "n_bbbbbbbbbbbbbbbb"] })),
    ],
    ["of another cluster", async () => forged((payload) => newer({ ...payload, iss: "c_other" }))],
    ["of another era than the session", async () => forged((payload) => newer({ ...payload, era: "era-0" }))],
    ["that is older than the one held", async () => forged((payload) => ({ ...payload, generation: 0, assignments: [] }))],
    ["of the same generation with other content", async () => forged((payload) => ({ ...payload, assignments: [] }))],
    [
      "with no signature",
      async () =>
        `${base64url.encode(JSON.stringify({ alg: "none", typ: JOSE_TYPES.manifest }))}.${base64url.encode(JSON.stringify(newer(ground.control.manifest())))}.`,
    ],
  ])("%s is refused", async (_, forge) => {
    await ground.start();
    await running();
    await untouched(async () => {
      const jws = await forge();
      ground.control.sendAlways = jws;
      await until("two more polls", () => ground.control.forgeries >= 2);
    });
    expect(ground.control.reports.at(-1)?.generation).toBe(1);
  });

  test("whose bodies cannot be had is not taken, and is when they can", async () => {
    await ground.start();
    await running();
    ground.control.disturb = (request, response) => {
      if (!request.url?.startsWith("/agent/v1/bodies/")) return false;
      response.destroy();
      return true;
    };
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { env: { A: "1" } }), service: "web" }]);
    await warned("is not whole");
    expect(ground.control.reports.at(-1)?.generation).toBe(1);
    ground.control.disturb = null;
    await ground.control.untilState(replica, "running");
  });

  test("with a body that is not what its hash says is not taken", async () => {
    await ground.start();
    await untouched(async () => {
      ground.control.disturb = (request, response) => {
        if (!request.url?.startsWith("/agent/v1/bodies/")) return false;
        response.writeHead(200, { [PROTOCOL_HEADER]: "1", [NONCE_HEADER]: "x" }).end("{}");
        return true;
      };
      ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
      await warned("is another one");
    });
  });

  test("of a new era is taken, though its generation is lower", async () => {
    await ground.start();
    await running();
    ground.control.assign([]);
    ground.control.assign([]);
    await until("generation 3", () => ground.control.reports.at(-1)?.generation === 3);
    ground.control.era = "era-2";
    ground.control.generation = 0;
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await ground.control.untilState(replica, "running");
    expect(ground.control.sessions).toBe(2);
  });

  test("is verified with new keys after they were rotated", async () => {
    await ground.start();
    await running();
    await ground.control.rotate();
    const replica = newReplicaId();
    ground.control.assign([{ app: appOf(web.tag), service: "web", replica }]);
    await ground.control.untilState(replica, "running");
  });
});

describe("the way to the control plane", () => {
  test("answers with a login page (F27): said, waited for, nothing stops", async () => {
    await ground.start();
    await running();
    await untouched(async () => {
      ground.control.disturb = (_, response) => {
        response.writeHead(200, { "content-type": "text/html" }).end("<html>please log in</html>");
        return true;
      };
      await said("is no berth control plane");
      ground.control.disturb = null;
      ground.said.length = 0;
      await said("connected");
    });
    expect(ground.control.sessions).toBe(1);
  });

  test("cuts held requests (F25): polls go on in the same session, and nobody is alarmed", async () => {
    ground.control.holdMs = 60_000;
    await ground.start();
    await running();
    let cuts = 0;
    ground.control.disturb = (request, response) => {
      if (request.url === "/agent/v1/poll")
        setTimeout(() => {
          cuts++;
          response.destroy();
        }, 2_300);
      return false;
    };
    ground.control.wakePolls();
    await until("two cuts", () => cuts >= 2);
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await ground.control.untilState(replica, "running");
    expect([ground.control.sessions, ground.said.filter((sentence) => sentence.includes("cannot be reached"))]).toEqual([1, []]);
  });

  test("repeats an answer to an earlier poll (F26): refused by its challenge", async () => {
    await ground.start();
    await running();
    await untouched(async () => {
      ground.control.disturb = (request, response) => {
        if (request.url !== "/agent/v1/poll") return false;
        response.writeHead(200, { [PROTOCOL_HEADER]: "1", "content-type": "application/json" });
        response.end(JSON.stringify({ challenge: "A".repeat(22), channels: [], keySetVersion: 1 }));
        return true;
      };
      await said("belongs to another request");
    });
  });

  test("loses the reply to a report (F23): what it said is said again", async () => {
    await ground.start();
    const replica = await running();
    const saidEnd = () =>
      ground.control.reports.filter(({ replicas }) => replicas.some((fact) => fact.replica === replica && fact.state === "stopped")).length;
    ground.control.disturb = (request, response) => {
      if (request.url !== "/agent/v1/report" || saidEnd() >= 2) return false;
      const end = response.end.bind(response);
      response.end = (() => {
        response.end = end;
        response.destroy();
        return response;
      }) as typeof response.end;
      return false;
    };
    ground.control.assign([]);
    await until("its end to be said three times", () => saidEnd() >= 3, { timeoutMs: 30_000 });
    await until(
      "the record to be forgotten",
      async () => !(await ground.host.run(["ls", join(ground.dataDir, "replicas")])).includes(replica),
    );
  });

  test("is gone for a while (F22, F33): what ends meanwhile is started again and told afterwards", async () => {
    await ground.start();
    const [replica] = ground.control.assign([
      {
        app: appOf(web.tag, {
          restart: { delayMs: 100 },
          entrypoint: ["/bin/sh", "-c", "while [ ! -f /tmp/fail ]; do sleep 0.1; done; rm /tmp/fail; exit 3"],
        }),
        service: "web",
      },
    ]);
    await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
    await ground.host.cutOff();
    ground.control.cut();
    ground.control.disturb = (_, response) => {
      response.destroy();
      return true;
    };
    const [container] = await ground.containers();
    await ground.exec(container?.Id ?? "", ["touch", "/tmp/fail"]);
    await until("it to run again", async () => {
      const [now] = await ground.containers();
      return now?.State.Running === true && now.State.StartedAt !== container?.State.StartedAt;
    });
    await ground.host.reconnect();
    ground.control.disturb = null;
    await ground.control.until(
      replica,
      "told",
      ({ restarts, exitCode, readyForMs }) => restarts === 1 && exitCode === 3 && readyForMs !== null,
      60_000,
    );
  });
});

describe("a session", () => {
  test("that was replaced is opened again, and its first report is complete", async () => {
    await ground.start();
    const replica = await running();
    ground.control.replaceSession();
    await until("a complete report of a new session", () =>
      ground.control.reports.some(
        ({ session, complete, replicas }) => session > 1 && complete && replicas.some((fact) => fact.replica === replica),
      ),
    );
  });

  test("whose nonce grew old goes on", async () => {
    await ground.start();
    await running();
    let refused = 0;
    ground.control.disturb = (request, response) => {
      if (request.url !== "/agent/v1/report" || refused > 0) return false;
      refused++;
      ground.control.signer.nonce().then((nonce) => {
        response.writeHead(401, { [PROTOCOL_HEADER]: "1", [NONCE_HEADER]: nonce, "content-type": "application/json" });
        response.end(JSON.stringify({ error: { code: "stale_nonce", message: "old" } }));
      });
      return true;
    };
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await ground.control.untilState(replica, "running");
    expect([refused, ground.control.sessions]).toEqual([1, 1]);
  });

  test("of a removed node ends: its containers stop, the agent ends, and starting it again changes nothing", async () => {
    const handle = await ground.start();
    await running();
    ground.control.isRemoved = true;
    ground.control.wakePolls();
    expect(await handle.ended).toBe("removed");
    expect(await ground.containers()).toEqual([]);
    expect(ground.said.at(-1)).toContain("was removed from the cluster");
    await ground.stop();
    const requests = ground.control.requests.length;
    const again = await ground.start({ joinToken: undefined } as never);
    expect(await again.ended).toBe("removed");
    expect(ground.control.requests.length).toBe(requests);
  });

  test.each([
    ["unsigned", async () => undefined],
    ["signed for another request", () => ground.control.removal("A".repeat(22))],
    ["signed by another key", async () => "eyJhbGciOiJFZDI1NTE5In0.e30.AAAA"],
  ])("a refusal that says removed, %s, is not believed however often it comes", async (_, signature) => {
    await ground.start();
    await running();
    await untouched(async () => {
      let lies = 0;
      const jws = await signature();
      ground.control.disturb = (request, response) => {
        if (lies === 4 || request.url === "/agent/v1/keys") return false;
        lies++;
        response
          .writeHead(410, { [PROTOCOL_HEADER]: "1", "content-type": "application/json" })
          .end(JSON.stringify({ error: { code: "removed", message: "you are gone" }, ...(jws === undefined ? {} : { jws }) }));
        return true;
      };
      ground.control.wakePolls();
      // Each lie is followed by a longer pause.
      await until("another session", () => ground.control.sessions === 2, { timeoutMs: 30_000 });
      expect(lies).toBe(4);
    });
  });

  test.each<[string, (challenge: string) => Promise<string>]>([
    ["signed for another purpose (F52)", (challenge) => ground.control.removal(challenge, {}, { typ: JOSE_TYPES.manifest })],
    ["another cluster's key", async (challenge) => ground.control.removal(challenge, {}, { signer: await stranger() })],
    ["of another node (F53)", (challenge) => ground.control.removal(challenge, { aud: "n_bbbbbbbbbbbbbbbb" })],
    ["by another cluster (F53)", (challenge) => ground.control.removal(challenge, { iss: "c_other" })],
    ["of an earlier attempt (F28)", () => ground.control.removal("AAAAAAAAAAAAAAAAAAAAAA")],
  ])("that is refused with a removal %s: asked for again, and said in the log", async (_, forge) => {
    await ground.start();
    await running();
    await untouched(async () => {
      ground.control.forgeRemoval = forge;
      ground.control.replaceSession();
      await until("it to be asked again", () => ground.control.sessionsRefused > 1);
      ground.control.forgeRemoval = null;
      await until("another session", () => ground.control.sessions === 3);
    });
    await warned("not believed");
  });

  test("of a removed node: the removal is believed after the lease key was rotated", async () => {
    const handle = await ground.start();
    await running();
    await ground.control.rotate();
    ground.control.isRemoved = true;
    ground.control.wakePolls();
    expect(await handle.ended).toBe("removed");
  });
});

describe("logs", () => {
  const ask = (replica: string, changes: object = {}) =>
    ground.control.ask({
      id: "ch1",
      kind: "logs",
      replica: replica as never,
      follow: false,
      tail: 100,
      sinceMs: null,
      timestamps: false,
      ...changes,
    });
  const lines = () => ground.control.frames.flatMap((frame) => (frame.kind === "line" ? [frame] : []));
  const ended = () => until("the end of the log", () => ground.control.frames.find(({ kind }) => kind === "end"));
  /** Resolves when the container has said `last`, and the engine has kept it. */
  const talking = async (script: string, last: string): Promise<string> => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { entrypoint: ["/bin/sh", "-c", script] }), service: "web" }]);
    await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
    const { Id } = await ground.container(replica);
    await until(`"${last}" in the log`, async () => {
      const { stdout, stderr } = await ground.host.docker(["logs", "--tail", "2", Id]);
      return `${stdout}${stderr}`.includes(`${last}\n`);
    });
    return replica ?? "";
  };

  test("come with their stream, and end", async () => {
    ask(await talking("echo out; echo err >&2; exec sleep 1000", "err"));
    expect(await ended()).toEqual({ kind: "end", reason: "eof", message: "" });
    expect(
      lines()
        .map(({ stream, text, at, cut }) => ({ stream, text, at, cut }))
        .sort((a, b) => (a.text < b.text ? -1 : 1)),
    ).toEqual([
      { stream: "stderr", text: "err", at: null, cut: false },
      { stream: "stdout", text: "out", at: null, cut: false },
    ]);
  });

  test("only the last lines when asked, with their time", async () => {
    ask(await talking("for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000", "line 5"), { tail: 2, timestamps: true });
    await ended();
    expect(lines().map(({ text }) => text)).toEqual(["line 4", "line 5"]);
    expect(lines()[0]?.at).toMatch(/^20\d\d-.*Z$/);
  });

  test("are followed until the reader goes", async () => {
    ask(await talking("while :; do echo tick; sleep 0.1; done", "tick"), { follow: true, tail: 0 });
    await until("three ticks", () => lines().length >= 3);
    ground.control.closeChannels();
    await until(
      "the agent to be done with it",
      () => ground.logged.every(({ message }) => message !== "a channel failed") && ground.control.channelsOpen === 0,
    );
  });

  test("a line of a megabyte is cut and marked (B72), the next one is whole", async () => {
    ask(await talking("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo short; exec sleep 1000", "short"));
    await ended();
    expect(lines().map(({ text, cut }) => [text.length, cut])).toEqual([
      [16_000, true],
      [5, false],
    ]);
  });

  test("of a replica with no container: a sentence", async () => {
    await ground.start();
    ask(newReplicaId());
    expect(await ended()).toMatchObject({ reason: "error", message: "this replica has no container on this node" });
  });
});
