import { shareOf } from "../../../worker/share.ts";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { Manifest } from "../../../shared/wire/poll.ts";
import { contentHash, canonicalJson, hashText } from "../../../shared/model/content.ts";
import { NOW, REV } from "../../../worker/store/commit-types.ts";
import { Link, type LinkRow } from "../../../worker/shard/link.ts";
import { ControlPlane } from "./control-plane.ts";
import type { FakeAgent } from "./fake-agent.ts";

let plane: ControlPlane;
let agent: FakeAgent;
beforeEach(async () => {
  plane = await ControlPlane.start();
  agent = await plane.node();
});
afterEach(() => plane.stop());

const errorOf = async (answer: Response) => ((await answer.json()) as { error: { code: string; reason: string } }).error;
const CONFIG = "worker_processes 1;\n";
const IMAGE = "registry.example.com/shop/web:1";

function spec(namespace: string) {
  const body = canonicalJson({
    namespace,
    app: "shop",
    service: "web",
    workload: { image: IMAGE },
    reservation: {},
    configs: { nginx: hashText(CONFIG) },
    volumes: {},
  });
  return { hash: hashText(body), body };
}

/** Assigns a replica to a node, as the planner's commit does. */
async function assign(node: string, namespace = "default", n = 1): Promise<{ replica: string; rev: number; spec: string }> {
  const { hash, body } = spec(namespace);
  const replica = `r_${"abcdefgh".repeat(2).slice(0, 15)}${"abcdefghijklmnop"[n]}`;
  const appId = `app_${namespace
    .padEnd(16, "a")
    .replaceAll(/[^a-z]/g, "a")
    .slice(0, 16)}`;
  const rev = await plane.commit({
    changes: [
      {
        op: "insert",
        table: "apps",
        rows: [{ id: appId, namespace, name: "shop", revision: 1, deleting: false, deleteVolumes: false, lockMessage: "", createdMs: NOW }],
        onConflict: "keep",
      },
      {
        op: "insert",
        table: "bodies",
        rows: [
          { hash, kind: "spec", body, createdMs: NOW },
          { hash: hashText(CONFIG), kind: "config", body: CONFIG, createdMs: NOW },
        ],
        onConflict: "keep",
      },
      {
        op: "insert",
        table: "images",
        rows: [{ appId, revision: 1, reference: IMAGE, digest: null, imageId: null, resolver: node }],
        onConflict: "keep",
      },
      {
        op: "insert",
        table: "replicas",
        rows: [
          {
            id: replica,
            appId,
            service: "web",
            slot: String(n),
            nodeId: node,
            spec: hash,
            revision: 1,
            desired: "run",
            reason: "initial",
            assignedMs: NOW,
            attempt: 0,
            stoppedMs: null,
          },
        ],
      },
      { op: "update", table: "nodes", rows: [{ id: node, generation: REV }] },
    ],
  });
  return { replica, rev, spec: hash };
}

async function refusedAfterHold(): Promise<void> {
  const held = agent.request("POST", "/agent/v1/poll", agent.pollBody());
  await plane.held(1);
  await plane.clock.advance(5_000);
  const answer = await held;
  expect(answer.status).toBe(403);
  expect((await errorOf(answer)).code).toBe("quarantined");
}

describe("a poll", () => {
  test("is held and answered 204 when nothing is new, with nothing written", async () => {
    const revBefore = (await plane.context.store.marks()).rev;
    const held = agent.poll();
    await plane.held(1);
    await plane.clock.advance(4_999);
    expect(plane.context.shard.heldPolls).toBe(1);
    await plane.clock.advance(1);
    expect(await held).toBeNull();
    expect((await plane.context.store.marks()).rev).toBe(revBefore);
  });

  test("is held for less by chance: the first of an agent by up to nine tenths, later ones by up to one", async () => {
    const { shard } = (await plane.beside({ timing: {} })).context;
    const rows = Array.from({ length: 200 }, (_, i) => ({
      id: `n_${i}`,
      name: "",
      site: "",
      session: 1,
      generation: 0,
      status: "ready",
      quarantined: false,
      rev: 1,
    }));
    const links = rows.map((row) => new Link(row as LinkRow, 0));
    const hold = async (from: number, step: number): Promise<number[]> => {
      const startMs = plane.clock.nowMs();
      const endsMs: number[] = [];
      const held = links.map((link) => shard.hold(link, null).then(() => endsMs.push(plane.clock.nowMs() - startMs)));
      await plane.clock.advance(from - 1);
      expect(endsMs).toEqual([]);
      await plane.clock.advance(1);
      while (endsMs.length < links.length) await plane.clock.advance(step);
      await Promise.all(held);
      return endsMs;
    };
    const first = await hold(500, 500);
    expect(first.filter((ms) => ms <= 2_500).length).toBeGreaterThan(40);
    expect(first.filter((ms) => ms > 2_500).length).toBeGreaterThan(40);
    expect(Math.max(...first)).toBeLessThanOrEqual(5_000);
    expect(Math.max(...(await hold(4_500, 100)))).toBeLessThanOrEqual(5_000);
    await shard.stop();
  });

  test("is answered at once when the set is newer than the one held, signed for this node", async () => {
    const { replica, rev, spec: hash } = await assign(agent.node);
    const answer = await agent.poll();
    const manifest = Manifest.parse(await agent.verify(answer?.manifest ?? "", JOSE_TYPES.manifest, agent.node));
    expect(manifest).toMatchObject({
      generation: rev,
      era: agent.keySet.era,
      assignments: [
        {
          replica,
          namespace: "default",
          app: "shop",
          service: "web",
          slot: "1",
          revision: 1,
          spec: hash,
          image: { reference: IMAGE, digest: null, imageId: null, resolve: true },
        },
      ],
    });
    agent.generation = rev;
    const held = agent.poll();
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect(await held).toBeNull();
  });

  test("echoes the challenge of its own attempt", async () => {
    await assign(agent.node);
    const challenge = "0123456789012345678901";
    expect((await agent.poll({ challenge }))?.challenge).toBe(challenge);
  });

  test("that is held is woken by a commit, and only the node that it concerns", async () => {
    const other = await plane.node();
    const mine = agent.poll();
    const others = other.poll();
    await plane.held(2);
    await assign(agent.node);
    expect((await mine)?.manifest).toBeDefined();
    expect(plane.context.shard.heldPolls).toBe(1);
    await plane.clock.advance(5_000);
    expect(await others).toBeNull();
  });

  test("of a node that holds a newer set than the database knows is held, and logged once", async () => {
    const held = agent.poll({ generation: 1_000_000 });
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect(await held).toBeNull();
    expect(plane.log.lines.filter((line) => line.message.includes("newer set"))).toHaveLength(1);
  });

  test("of the same node again ends the older one", async () => {
    const first = agent.poll();
    await plane.held(1);
    const second = agent.poll();
    expect(await first).toBeNull();
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect(await second).toBeNull();
  });

  test("of an agent that hung up holds nothing", async () => {
    const hangUp = new AbortController();
    void agent.request("POST", "/agent/v1/poll", agent.pollBody(), { signal: hangUp.signal });
    await plane.held(1);
    hangUp.abort();
    await plane.held(0);
  });

  test("of a session that is replaced while it is held says so", async () => {
    const { session, sessionKey } = agent;
    const held = agent.request("POST", "/agent/v1/poll", agent.pollBody());
    await plane.held(1);
    await agent.openSession();
    expect(session).not.toBe(agent.session);
    expect(sessionKey).not.toEqual(agent.sessionKey);
    expect((await errorOf(await held)).code).toBe("session_replaced");
  });

  test("of a quarantined node gets nothing new until that is lifted", async () => {
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: true }] }] });
    const idle = agent.poll();
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect(await idle).toBeNull();
    await assign(agent.node);
    await refusedAfterHold();
    const lifted = agent.poll();
    await plane.held(1);
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: false }] }] });
    expect((await lifted)?.manifest).toBeDefined();
  });

  test("of a quarantined node does not get the set that was signed before either", async () => {
    await assign(agent.node);
    expect(await agent.poll()).not.toBeNull();
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: true }] }] });
    await plane.context.shard.refresh();
    await refusedAfterHold();
  });

  test("of a quarantined node that holds an older set is not told of logs either, which would confirm what it holds", async () => {
    await assign(agent.node);
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: true }] }] });
    await plane.context.shard.refresh();
    const { channels } = plane.context;
    const reading = channels.open({
      nodeId: agent.node,
      token: "t_a",
      share: shareOf({ tokenId: "t_a", namespace: null }),
      replica: "r_aaaaaaaaaaaaaaaa" as never,
      follow: true,
      tail: 1,
      sinceMs: null,
      timestamps: false,
    });
    const first = reading.next();
    await refusedAfterHold();
    channels.stop();
    await expect(first).rejects.toThrow("stopping");
  });

  test("of a quarantined node that is sent away does not make it lost before it may come back", async () => {
    await assign(agent.node);
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: true }] }] });
    await plane.context.shard.refresh();
    await refusedAfterHold();
    const status = async () => (await plane.context.shard.link(agent.node as never))?.row.status;
    await plane.clock.advance(30_000);
    expect(await status()).toBe("ready");
    await plane.clock.advance(20_000);
    await vi.waitFor(async () => expect(await status()).toBe("lost"));
  });

  test("that fails has told the node of no channel", async () => {
    await assign(agent.node);
    const { channels, signer } = plane.context;
    const reading = channels.open({
      nodeId: agent.node,
      token: "t_a",
      share: shareOf({ tokenId: "t_a", namespace: null }),
      replica: "r_aaaaaaaaaaaaaaaa" as never,
      follow: true,
      tail: 1,
      sinceMs: null,
      timestamps: false,
    });
    const first = reading.next();
    const failing = vi.spyOn(signer, "sign").mockRejectedValueOnce(new Error("no"));
    expect((await agent.request("POST", "/agent/v1/poll", agent.pollBody())).status).toBe(500);
    failing.mockRestore();
    expect((await agent.poll())?.channels).toHaveLength(1);
    channels.stop();
    await expect(first).rejects.toThrow("stopping");
  });

  test("ends when the control plane stops", async () => {
    const held = agent.poll();
    await plane.held(1);
    await plane.context.shard.stop();
    expect(await held).toBeNull();
    expect(plane.clock.timers).toBe(0);
  });
});

describe("a body", () => {
  test("is read by its hash, exactly as it was hashed", async () => {
    const assigned = await assign(agent.node);
    const answer = await agent.request("GET", `/agent/v1/bodies/${assigned.spec}`);
    expect(answer.status).toBe(200);
    const text = await answer.text();
    expect(hashText(text)).toBe(assigned.spec);
    expect(contentHash(JSON.parse(text))).toBe(assigned.spec);
    const config = await agent.request("GET", `/agent/v1/bodies/${hashText(CONFIG)}`);
    expect(await config.text()).toBe(CONFIG);
  });

  test("F15: is not for a quarantined node", async () => {
    const assigned = await assign(agent.node);
    await plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: true }] }] });
    await plane.context.shard.refresh();
    for (const path of [`bodies/${assigned.spec}`, "credentials/default/registry.example.com"]) {
      const answer = await agent.request("GET", `/agent/v1/${path}`);
      expect([answer.status, (await errorOf(answer)).code]).toEqual([403, "quarantined"]);
    }
  });

  test("I27: of another node's set is not there, nor one of a replica that shall stop", async () => {
    const other = await plane.node();
    const assigned = await assign(agent.node);
    for (const hash of [assigned.spec, hashText(CONFIG), "f".repeat(64)])
      expect((await other.request("GET", `/agent/v1/bodies/${hash}`)).status).toBe(404);
    await plane.commit({ changes: [{ op: "update", table: "replicas", rows: [{ id: assigned.replica, desired: "stop" }] }] });
    expect((await agent.request("GET", `/agent/v1/bodies/${assigned.spec}`)).status).toBe(404);
  });

  test.each(["..%2f..%2fetc%2fpasswd", "' or 1=1 --", "F".repeat(64), "0".repeat(63)])("B67 B69: %s is not there", async (hash) => {
    const path = `/agent/v1/bodies/${encodeURIComponent(hash)}`;
    expect((await agent.request("GET", path)).status).toBe(404);
  });
});

describe("credentials", () => {
  const put = async (namespace: string, registry: string) => {
    const { kid, sealed } = await plane.context.signer.sealAtRest(new TextEncoder().encode("s3cret"));
    return plane.commit({
      changes: [{ op: "insert", table: "registries", rows: [{ namespace, registry, username: "robot", sealed, kid, createdMs: NOW }] }],
    });
  };

  test("are named in the manifest and come sealed to the node's own key", async () => {
    const version = await put("default", "registry.example.com");
    await assign(agent.node);
    const manifest = await agent.accept();
    expect(manifest?.credentials).toEqual([{ namespace: "default", registry: "registry.example.com", version }]);
    const answer = await agent.request("GET", "/agent/v1/credentials/default/registry.example.com");
    const { sealed, version: sent } = (await answer.json()) as { sealed: string; version: number };
    expect(sent).toBe(version);
    expect(await agent.open(sealed)).toEqual({ username: "robot", password: "s3cret" });
    const other = await plane.node();
    await expect(other.open(sealed)).rejects.toThrow();
  });

  test("I27: of a registry or namespace that nothing here is pulled from are not there", async () => {
    await put("default", "registry.example.com");
    await put("default", "other.example.com");
    await put("tenant", "registry.example.com");
    const other = await plane.node();
    await assign(agent.node);
    const get = (who: FakeAgent, path: string) => who.request("GET", `/agent/v1/credentials/${path}`);
    expect((await get(agent, "default/registry.example.com")).status).toBe(200);
    expect((await get(agent, "default/other.example.com")).status).toBe(404);
    expect((await get(agent, "tenant/registry.example.com")).status).toBe(404);
    expect((await get(agent, "nobody/registry.example.com")).status).toBe(404);
    expect((await get(other, "default/registry.example.com")).status).toBe(404);
    expect((await agent.accept())?.credentials).toHaveLength(1);
  });
});
