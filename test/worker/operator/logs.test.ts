import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import type { LogLine } from "../../../shared/api/resources.ts";
import { id, replicaRow } from "../../store/rows.ts";
import { settle } from "../agent/control-plane.ts";
import { appSpec, World, type WorldOptions } from "./world.ts";

const LOGS = "/v1/namespaces/default/apps/shop/logs";

/** Two replicas, each on its own node. */
async function twoReplicas(over: { status?: "lost" } = {}, options: WorldOptions = {}): Promise<World> {
  const world = await World.start(options);
  await world.node(1);
  await world.node(2, over);
  await world.deploy(appSpec("shop"));
  const { body } = await world.get<{ id: string }>("/v1/namespaces/default/apps/shop");
  await world.plane.commit({
    changes: [
      {
        op: "insert",
        table: "replicas",
        rows: [1, 2].map((number) => replicaRow(number, { appId: body.id, slot: String(number - 1), nodeId: id("n", number) })),
      },
    ],
  });
  await world.context.shard.refresh();
  return world;
}

const open = (world: World, query = "", { token = world.admin, ...rest }: { token?: string; signal?: AbortSignal } = {}) =>
  world.app.request(`${LOGS}${query}`, { headers: { authorization: `Bearer ${token}` }, ...rest });

/** The agent's end of the channel that a node is asked for. */
function agentEnd(world: World, number: number) {
  const [ask] = world.context.channels.takeAsks(id("n", number), []);
  if (ask === undefined) throw new Error(`node ${number} was not asked`);
  const state = { ask, isClosed: false, isPaused: false };
  const sink = world.context.channels.join(id("n", number), ask.id, {
    pause: () => {
      state.isPaused = true;
    },
    resume: () => {
      state.isPaused = false;
    },
    close: () => {
      state.isClosed = true;
    },
  });
  return { ...sink!, state, say: (text: string) => sink!.frame({ kind: "line", stream: "stdout", at: null, text, cut: false }) };
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

const linesOf = (text: string): LogLine[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as LogLine);

describe("logs", () => {
  test("B76: are refused to a token that has its share of all of their nodes open", async () => {
    const world = await twoReplicas();
    const held = [];
    for (let i = 0; i < 16; i++) held.push(await open(world, "?follow=true&slot=0"));
    const refused = await open(world, "?slot=0");
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({
      error: { code: "rate_limited", message: expect.stringMatching(/^16 log streams of this token/) },
    });
    const some = await open(world, "?follow=true");
    await settle();
    const second = agentEnd(world, 2);
    second.frame({ kind: "end", reason: "eof", message: "" });
    expect(linesOf(await some.text())).toMatchObject([{ kind: "missing", slot: "0", message: expect.stringMatching(/^16 log streams/) }]);
    await Promise.all(held.map((response) => response.body?.cancel()));
  });

  test("B76: of one namespace are one share, however many tokens it has", async () => {
    const world = await twoReplicas();
    const tokens = [await world.token("viewer", "default"), await world.token("viewer", "default")];
    const held = [];
    for (let i = 0; i < 16; i++) held.push(await open(world, "?follow=true&slot=0", { token: tokens[i % 2]! }));
    const refused = await open(world, "?slot=0", { token: tokens[0]! });
    expect([refused.status, await refused.json()]).toMatchObject([
      429,
      { error: { message: expect.stringMatching(/^16 log streams of namespace default from this node/) } },
    ]);
    // What is left is for others.
    held.push(await open(world, "?follow=true&slot=0"));
    expect(held.map(({ status }) => status)).toEqual(held.map(() => 200));
    await Promise.all(held.map((response) => response.body?.cancel()));
  });

  test("of all replicas come as lines with where they are from", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?tail=5&follow=true&timestamps=true&since=2026-01-01T00:00:00Z");
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    await settle();
    const [first, second] = [agentEnd(world, 1), agentEnd(world, 2)];
    expect(first.state.ask).toMatchObject({ replica: id("r", 1), follow: true, tail: 5, timestamps: true, sinceMs: Date.UTC(2026, 0, 1) });
    first.say("one");
    second.say("two");
    first.frame({ kind: "end", reason: "eof", message: "" });
    second.frame({ kind: "end", reason: "eof", message: "" });
    const lines = linesOf(await response.text());
    expect(lines.map((line) => (line.kind === "line" ? `${line.node} ${line.slot} ${line.text}` : line.message)).sort()).toEqual([
      "node-1 0 one",
      "node-2 1 two",
    ]);
  });

  test("of a node that is lost, does not answer or fails are a line, and the others' still come", async () => {
    const world = await twoReplicas({ status: "lost" });
    const response = await open(world);
    await settle();
    const first = agentEnd(world, 1);
    first.say("one");
    first.frame({ kind: "end", reason: "error", message: "the container is gone" });
    const lines = linesOf(await response.text());
    expect(lines.map((line) => (line.kind === "line" ? line.text : `${line.node}: ${line.message}`)).sort()).toEqual([
      "node-1: the container is gone",
      "node-2: node-2 is lost: it has not been heard for a while",
      "one",
    ]);
  });

  test("of a node that never dials are a line after its time", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?slot=1");
    const text = response.text();
    await settle();
    await world.plane.clock.advance(11_000);
    expect(linesOf(await text)).toMatchObject([{ kind: "missing", node: "node-2", message: "the node did not answer within 10 s" }]);
  });

  test("of a slot or a service alone ask that node alone", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?slot=0&service=web");
    await settle();
    expect(world.context.channels.takeAsks(id("n", 2), [])).toEqual([]);
    agentEnd(world, 1).frame({ kind: "end", reason: "eof", message: "" });
    expect(await response.text()).toBe("");
  });

  test("end at the agents when the reader goes away", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?follow=true");
    await settle();
    const ends = [agentEnd(world, 1), agentEnd(world, 2)];
    ends[0]!.say("one");
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    await settle();
    expect(ends.map(({ state }) => state.isClosed)).toEqual([true, true]);
  });

  test("are given back by a reader that goes away with lines still to come", async () => {
    const world = await twoReplicas();
    // One more than a token may have open of a node.
    for (let time = 0; time < 17; time++) {
      const response = await open(world, "?follow=true&slot=0");
      expect(response.status).toBe(200);
      await settle();
      const end = agentEnd(world, 1);
      for (let line = 0; line < 100; line++) end.say(`${line}`);
      await settle();
      await response.body!.cancel();
      await settle();
      expect(end.state.isClosed).toBe(true);
    }
  });

  test("of replicas that all have much to say come in turn, each in its order", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?follow=true");
    await settle();
    const ends = [agentEnd(world, 1), agentEnd(world, 2)];
    for (let line = 0; line < 500; line++) for (const end of ends) end.say(`${line}`);
    const reader = response.body!.getReader();
    const read: LogLine[] = [];
    while (read.length < 100) {
      // At the pace of a reader that lets all of them be ready.
      await new Promise((resume) => setImmediate(resume));
      const { value } = await reader.read();
      read.push(...linesOf(new TextDecoder().decode(value)));
    }
    const textsOf = (slot: string) => read.flatMap((line) => (line.kind === "line" && line.slot === slot ? [line.text] : []));
    for (const slot of ["0", "1"]) {
      const texts = textsOf(slot);
      expect(texts.length).toBeGreaterThan(40);
      expect(texts).toEqual(texts.map((_, line) => `${line}`));
    }
    await reader.cancel();
  });

  test("that nobody reads are left with the agent: what waits here is bounded", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?follow=true&slot=0");
    await settle();
    const end = agentEnd(world, 1);
    const text = "x".repeat(16_000);
    for (let line = 0; line < 200; line++) end.say(text);
    await settle();
    expect(end.state.isPaused).toBe(true);
    await response.body!.cancel();
  });

  test("cost a line the same however long they are followed and whoever is quiet", async () => {
    const world = await twoReplicas();
    const response = await open(world, "?follow=true");
    await settle();
    const talker = agentEnd(world, 1);
    const reader = response.body!.getReader();
    const readLines = async (count: number) => {
      for (let line = 0; line < count; line++) {
        talker.say("line");
        await reader.read();
      }
    };
    await readLines(2_000);
    const before = heapBytes();
    await readLines(20_000);
    // A few hundred bytes for each of them would be over 5 MB.
    expect(heapBytes() - before).toBeLessThan(2_000_000);
    await reader.cancel();
  });

  test("of thousands of replicas are 50 that are read, and a line for each of the others", async () => {
    const world = await twoReplicas();
    const { body } = await world.get<{ id: string }>("/v1/namespaces/default/apps/shop");
    const rows = Array.from({ length: 4_000 }, (_, i) =>
      replicaRow(i + 3, { appId: body.id, slot: String(i + 2), nodeId: id("n", i % 2 ? 1 : 2) }),
    );
    await world.plane.commit({ changes: [{ op: "insert", table: "replicas", rows }] });
    const { user } = process.cpuUsage();
    const response = await open(world);
    await settle();
    for (const number of [1, 2])
      for (const ask of world.context.channels.takeAsks(id("n", number), [])) {
        const sink = world.context.channels.join(id("n", number), ask.id, { pause: () => {}, resume: () => {}, close: () => {} });
        sink!.frame({ kind: "end", reason: "eof", message: "" });
      }
    const lines = linesOf(await response.text());
    const tookMs = (process.cpuUsage().user - user) / 1000;
    const unread = lines.filter((line) => line.kind === "missing" && line.message.startsWith("logs of at most 50 replicas"));
    expect(unread.length).toBe(4_002 - 50);
    // 32 are read, as many as a token may of two nodes; it is a tenth of this of a quiet core.
    expect(lines.length).toBe(4_002 - 32);
    expect(tookMs).toBeLessThan(1_500);
  });

  test("end at the agents when the connection is cut", async () => {
    const world = await twoReplicas();
    const leaving = new AbortController();
    await open(world, "?follow=true", { signal: leaving.signal });
    await settle();
    const ends = [agentEnd(world, 1), agentEnd(world, 2)];
    leaving.abort();
    await settle();
    expect(ends.map(({ state }) => state.isClosed)).toEqual([true, true]);
  });

  describe("of a token that goes while they are followed end, and say so", () => {
    const GONE = "the token of this stream was deleted or has expired";
    /** A stream of each replica by a viewer of the namespace, with a line read of the first, and one by the admin. */
    async function followed(expiresMs: number | null = null) {
      // Silent nodes are not looked for: that would be commits.
      const world = await twoReplicas({}, { timing: { missedSlackMs: 600_000, jitter: 0, jitterFirst: 0 } });
      const token = await world.token("viewer", "default", expiresMs);
      const others = await open(world, "?follow=true&slot=0");
      await settle();
      const other = agentEnd(world, 1);
      const response = await open(world, "?follow=true", { token });
      await settle();
      const ends = [agentEnd(world, 1), agentEnd(world, 2)];
      const areClosed = () => ends.map(({ state }) => state.isClosed);
      const finish = async () => {
        expect(linesOf(await response.text())).toMatchObject([
          { kind: "missing", message: GONE },
          { kind: "missing", message: GONE },
        ]);
        expect(other.state.isClosed).toBe(false);
        await others.body!.cancel();
      };
      return { world, token, areClosed, finish };
    }

    test("by its deletion", async () => {
      const { world, token, areClosed, finish } = await followed();
      const { body } = await world.get<{ token: string }>("/v1/whoami", { token });
      expect((await world.call("DELETE", `/v1/tokens/${body.token}`)).status).toBe(200);
      await settle();
      expect(areClosed()).toEqual([true, true]);
      await finish();
    });

    test("with its namespace", async () => {
      const { world, areClosed, finish } = await followed();
      await world.plane.commit({ changes: [{ op: "delete", table: "tokens", keys: [{ namespace: "default" }] }] });
      await settle();
      expect(areClosed()).toEqual([true, true]);
      await finish();
    });

    test("by its expiry, without any commit", async () => {
      const { world, areClosed, finish } = await followed(Date.now() + 60_000);
      // The database's clock is the real one.
      await world.context.store.database.write(["update tokens set expires_ms = 1 where role = 'viewer'"]);
      await world.plane.clock.advance(50_000);
      expect(areClosed()).toEqual([false, false]);
      await world.plane.clock.advance(10_000);
      expect(areClosed()).toEqual([true, true]);
      await finish();
    });

    test("and not for another commit", async () => {
      const { world, areClosed } = await followed();
      await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
      await settle();
      expect(areClosed()).toEqual([false, false]);
    });

    test("also when it went before they were open", async () => {
      const world = await twoReplicas();
      const token = await world.token("viewer", "default");
      const { channels } = world.context;
      const refusal = channels.refusal.bind(channels);
      channels.refusal = (asked) => {
        channels.refusal = refusal;
        void world.context.store.database.write(["delete from tokens where role = 'viewer'"]);
        return refusal(asked);
      };
      const response = await open(world, "?follow=true", { token });
      expect(linesOf(await response.text())).toMatchObject([{ message: GONE }, { message: GONE }]);
    });
  });

  test("are not asked for when the connection was cut before", async () => {
    const world = await twoReplicas();
    const leaving = new AbortController();
    const opening = open(world, "?follow=true", { signal: leaving.signal });
    leaving.abort();
    expect(await (await opening).text()).toBe("");
    expect(world.context.channels.takeAsks(id("n", 1), [])).toEqual([]);
  });

  test("with nothing to read are empty, and of what is not there a 404", async () => {
    const world = await twoReplicas();
    expect(await (await open(world, "?service=other")).text()).toBe("");
    expect((await world.get("/v1/namespaces/default/apps/nope/logs")).status).toBe(404);
    for (const query of ["?tail=-1", "?tail=100000", "?since=yesterday", "?follow=yes", "?x=1"])
      expect((await open(world, query)).status).toBe(400);
  });
});
