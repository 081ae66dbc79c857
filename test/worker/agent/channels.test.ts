import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { LogFrame } from "../../../shared/wire/channel.ts";
import type { ChannelAsk } from "../../../shared/wire/poll.ts";
import { upgradeChannel } from "../../../worker/routes/agent/upgrade.ts";
import type { AgentEnd, LogAsk } from "../../../worker/shard/channels.ts";
import { BerthError } from "../../../worker/errors.ts";
import { shareOf } from "../../../worker/share.ts";
import { ControlPlane, until } from "./control-plane.ts";
import type { FakeAgent } from "./fake-agent.ts";

const line = (text: string): LogFrame => ({ kind: "line", stream: "stdout", at: null, text, cut: false });
const END: LogFrame = { kind: "end", reason: "eof", message: "" };

let plane: ControlPlane;
let agent: FakeAgent;
beforeEach(async () => {
  plane = await ControlPlane.start();
  agent = await plane.node();
});
afterEach(() => plane.stop());

const ask = (changes: Partial<LogAsk> = {}): LogAsk => ({
  nodeId: agent.node,
  token: "t_a",
  share: shareOf({ tokenId: "t_a", namespace: null }),
  replica: "r_aaaaaaaaaaaaaaaa" as ChannelAsk["replica"],
  follow: true,
  tail: 100,
  sinceMs: null,
  timestamps: false,
  ...changes,
});

/** Reads in the background, as an operator's request does. */
function read(changes: Partial<LogAsk> = {}) {
  const frames: LogFrame[] = [];
  const done = (async () => {
    for await (const frame of plane.context.channels.open(ask(changes))) frames.push(frame);
  })();
  // Each test awaits it and sees how it ended; until then it is nobody's.
  done.catch(() => {});
  return { frames, done };
}

const fakeEnd = (): AgentEnd & { calls: string[] } => {
  const calls: string[] = [];
  return { calls, pause: () => void calls.push("pause"), resume: () => void calls.push("resume"), close: () => void calls.push("close") };
};

async function asked(): Promise<ChannelAsk> {
  const [first] = (await agent.poll())?.channels ?? [];
  if (first === undefined) throw new Error("nothing was asked");
  return first;
}

describe("the relay", () => {
  test("wakes the node's held poll, which names the channel, once", async () => {
    const held = agent.poll();
    await plane.held(1);
    const reading = read({ tail: 7 });
    const answer = await held;
    expect(answer?.manifest).toBeUndefined();
    expect(answer?.channels).toMatchObject([{ kind: "logs", replica: "r_aaaaaaaaaaaaaaaa", follow: true, tail: 7 }]);
    // An agent that does not dial is not answered at once again and again.
    const next = agent.poll();
    await plane.held(1);
    await plane.clock.advance(10_000);
    await next;
    await expect(reading.done).rejects.toThrow("did not answer within 10 s");
  });

  test("tells again when the answer was lost, and not what the agent has dialled", async () => {
    read();
    const { id } = await asked();
    await plane.clock.advance(2_000);
    expect((await asked()).id).toBe(id);
    await plane.clock.advance(2_000);
    const held = agent.poll({ channels: [id] });
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect(await held).toBeNull();
  });

  test("joins the two ends, in order, to the end frame", async () => {
    const reading = read();
    const end = fakeEnd();
    const sink = plane.context.channels.join(agent.node, (await asked()).id, end);
    for (const frame of [line("one"), line("two"), END, line("after the end")]) sink?.frame(frame);
    await reading.done;
    expect(reading.frames).toEqual([line("one"), line("two"), END]);
    expect(end.calls).toEqual(["close"]);
  });

  test("ends when the agent's socket closes, after what it had sent", async () => {
    const reading = read();
    const sink = plane.context.channels.join(agent.node, (await asked()).id, fakeEnd());
    sink?.frame(line("last words"));
    sink?.closed();
    await reading.done;
    expect(reading.frames).toEqual([line("last words")]);
  });

  test("closes the agent's socket when the operator goes away, also while no line comes", async () => {
    const gone = new AbortController();
    const reading = read({ signal: gone.signal });
    const end = fakeEnd();
    plane.context.channels.join(agent.node, (await asked()).id, end);
    gone.abort();
    await reading.done;
    expect(end.calls).toEqual(["close"]);
  });

  test("stops reading from the agent while the operator does not read, and goes on", async () => {
    const frames = plane.context.channels.open(ask());
    const first = frames.next();
    const end = fakeEnd();
    const sink = plane.context.channels.join(agent.node, (await asked()).id, end);
    sink?.frame(line("first"));
    expect((await first).value).toEqual(line("first"));
    const text = "x".repeat(16_000);
    for (let i = 0; i < 64; i++) sink?.frame(line(text));
    expect(end.calls).toEqual([]);
    for (let i = 0; i < 2; i++) sink?.frame(line(text));
    expect(end.calls).toEqual(["pause"]);
    for (let i = 0; i < 40; i++) await frames.next();
    expect(end.calls).toEqual(["pause", "resume"]);
    await frames.return();
    expect(end.calls).toEqual(["pause", "resume", "close"]);
  });

  test("of a token that is revoked ends without what waits in it, and no other token's does", async () => {
    const { channels } = plane.context;
    const frames = channels.open(ask());
    const first = frames.next();
    const end = fakeEnd();
    const sink = channels.join(agent.node, (await asked()).id, end);
    for (const text of ["one", "two"]) sink?.frame(line(text));
    expect((await first).value).toEqual(line("one"));
    const other = read({ token: "t_b" });
    expect([...channels.tokens()].sort()).toEqual(["t_a", "t_b"]);
    channels.revoke("t_a", new BerthError("unauthenticated", "gone"));
    expect(end.calls).toEqual(["close"]);
    sink?.frame(line("three"));
    await expect(frames.next()).rejects.toThrow("gone");
    expect(channels.tokens()).toEqual(["t_b"]);
    channels.stop();
    await expect(other.done).rejects.toThrow("stopping");
  });

  test("is one node's: another cannot join it, and nobody twice", async () => {
    const reading = read();
    const { id } = await asked();
    const { channels } = plane.context;
    expect(channels.join("n_bbbbbbbbbbbbbbbb", id, fakeEnd())).toBeNull();
    expect(channels.join(agent.node, "unknown", fakeEnd())).toBeNull();
    expect(channels.join(agent.node, id, fakeEnd())).not.toBeNull();
    expect(channels.join(agent.node, id, fakeEnd())).toBeNull();
    channels.stop();
    await expect(reading.done).rejects.toThrow("stopping");
  });

  test("B76: bounds the channels of one node", async () => {
    const all = Array.from({ length: 64 }, (_, i) => read({ share: shareOf({ tokenId: `t_${i % 4}`, namespace: null }) }));
    await expect(read().done).rejects.toMatchObject({
      code: "rate_limited",
      retryable: true,
      message: "64 log streams from this node are open, as many as may be; close some",
    });
    plane.context.channels.stop();
    await Promise.allSettled(all.map(({ done }) => done));
    read();
  });
});

test("B76: one token takes no more than its share, of a node and of all", async () => {
  const { channels } = plane.context;
  const all = Array.from({ length: 16 }, () => read());
  await expect(read().done).rejects.toMatchObject({
    code: "rate_limited",
    message: "16 log streams of this token from this node are open, as many as may be; close some",
  });
  expect(channels.refusal({ nodeId: agent.node, share: shareOf({ tokenId: "t_b", namespace: null }) })).toBeNull();
  for (let i = 16; i < 250; i++) all.push(read({ nodeId: `n_${i}` }));
  expect(channels.refusal({ nodeId: "n_other", share: shareOf({ tokenId: "t_a", namespace: null }) })).toMatchObject({
    status: 429,
    message: "250 log streams of this token are open, as many as may be; close some",
  });
  expect(channels.refusal({ nodeId: "n_other", share: shareOf({ tokenId: "t_b", namespace: null }) })).toBeNull();
  channels.stop();
  await Promise.allSettled(all.map(({ done }) => done));
  expect(channels.refusal({ nodeId: agent.node, share: shareOf({ tokenId: "t_a", namespace: null }) })).toBeNull();
});

describe("a dialled channel", () => {
  let server: Server;
  let url: string;
  beforeEach(async () => {
    server = createServer(getRequestListener(plane.app.fetch));
    server.on("upgrade", (request, socket, head) => {
      upgradeChannel(request, socket, head, plane.context).then((isTaken) => {
        if (!isTaken) socket.destroy();
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  async function dial(id: string, who = agent, changes: Parameters<FakeAgent["proof"]>[1] = {}): Promise<WebSocket> {
    const path = `/agent/v1/channels/${id}`;
    const jws = await who.proof({ method: "GET", path, body: "" }, changes);
    return new WebSocket(`${url}${path}`, { headers: { authorization: `Berth ${jws}` } });
  }
  const refused = async (socket: WebSocket): Promise<{ status: number; nonce: string | undefined }> => {
    socket.on("error", () => {});
    const [, response] = await once(socket, "unexpected-response");
    return { status: response.statusCode, nonce: response.headers["berth-nonce"] };
  };

  test("carries frames to the operator and ends with the agent's last", async () => {
    const reading = read();
    const socket = await dial((await asked()).id);
    await once(socket, "open");
    socket.send(JSON.stringify(line("ü\u0000")));
    socket.send(JSON.stringify(END));
    await reading.done;
    expect(reading.frames).toEqual([line("ü\uFFFD"), END]);
    if (socket.readyState !== WebSocket.CLOSED) await once(socket, "close");
  });

  test("is closed when the operator goes away", async () => {
    const gone = new AbortController();
    read({ signal: gone.signal });
    const socket = await dial((await asked()).id);
    await once(socket, "open");
    gone.abort();
    const [code] = await once(socket, "close");
    expect(code).toBe(1000);
  });

  test("is closed when what comes is not a frame", async () => {
    const reading = read();
    const socket = await dial((await asked()).id);
    await once(socket, "open");
    socket.send('{"kind":"line"}');
    const [code] = await once(socket, "close");
    expect(code).toBe(1007);
    await reading.done;
    expect(reading.frames).toEqual([]);
  });

  test("is closed when a frame is over its size", async () => {
    read();
    const socket = await dial((await asked()).id);
    socket.on("error", () => {});
    await once(socket, "open");
    socket.send("x".repeat(200_000));
    const [code] = await once(socket, "close");
    expect([1006, 1009]).toContain(code);
  });

  test("I27: needs the proof of the node that was asked", async () => {
    const reading = read();
    const { id } = await asked();
    const other = await plane.node();
    expect((await refused(await dial(id, other))).status).toBe(404);
    expect((await refused(await dial(id, agent, { claims: { path: "/agent/v1/channels/other" } }))).status).toBe(401);
    const none = await refused(new WebSocket(`${url}/agent/v1/channels/${id}`));
    expect(none.status).toBe(401);
    expect(none.nonce).toMatch(/^[0-9a-z]+\./);
    const socket = await dial(id);
    await once(socket, "open");
    expect((await refused(await dial(id))).status).toBe(404);
    socket.send(JSON.stringify(END));
    await reading.done;
  });

  test("is terminated when the agent's link is dead", async () => {
    const reading = read();
    const socket = await dial((await asked()).id);
    await once(socket, "open");
    socket.pause(); // answers no ping from here on
    await until("the socket is watched", () => plane.clock.timers > 0);
    await plane.clock.advance(15_000);
    await plane.clock.advance(15_000);
    await reading.done;
    socket.terminate();
  });

  test("without the upgrade says what is wrong", async () => {
    read();
    const { id } = await asked();
    const answer = await agent.request("GET", `/agent/v1/channels/${id}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { reason: "upgrade" } });
  });
});
