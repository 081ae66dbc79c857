/** The Node entry over real sockets: what only a real server can get wrong. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHash, X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { type RunningServer, type ServerOptions, startServer } from "../../../worker/node.ts";
import { VERSION } from "../../../worker/version.ts";
import { collectLog } from "../agent/control-plane.ts";

const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "berth-node-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

async function start(
  options: Partial<ServerOptions> = {},
): Promise<RunningServer & { dataDir: string; log: ReturnType<typeof collectLog>; token: string }> {
  const dataDir = options.dataDir ?? folder();
  const log = collectLog();
  const server = await startServer({ dataDir, host: "127.0.0.1", port: 0, log, ...options });
  onTestFinished(() => server.close());
  return { ...server, dataDir, log, token: server.adminToken! };
}

const get = (server: { url: string; token: string }, path: string, init: RequestInit = {}) =>
  fetch(`${server.url}${path}`, { ...init, headers: { authorization: `Bearer ${server.token}`, ...init.headers } });

/** What comes back for bytes as they are. */
function raw(port: number, bytes: string, { waitMs = 5_000 } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    let text = "";
    const timer = setTimeout(() => socket.destroy(), waitMs);
    socket.on("data", (chunk) => {
      text += String(chunk);
    });
    socket.on("error", reject);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(text);
    });
  });
}

test("starts, makes the first admin token for the owner alone, and says what it is", async () => {
  const server = await start();
  const path = join(server.dataDir, "admin-token");
  expect(readFileSync(path, "utf8").trim()).toBe(server.adminToken);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await (await get(server, "/v1/whoami")).json()).toMatchObject({ name: "admin", role: "admin", namespace: null });
  expect(await (await get(server, "/v1/cluster")).json()).toMatchObject({ version: VERSION });
  expect(VERSION).toBe(
    (JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string }).version,
  );
});

test("keeps everything over a restart, and the file alone holds it all", async () => {
  const dataDir = folder();
  const first = await start({ dataDir });
  await get(first, "/v1/sites", { method: "POST", body: JSON.stringify({ name: "berlin" }) });
  const { clusterId } = (await (await get(first, "/v1/cluster")).json()) as { clusterId: string };
  await first.close();
  expect(statSync(join(dataDir, "berth.db-wal"), { throwIfNoEntry: false })?.size ?? 0).toBe(0);
  const second = await start({ dataDir });
  expect(second.adminToken).toBe(first.adminToken);
  expect(await (await get(second, "/v1/cluster")).json()).toMatchObject({ clusterId });
  expect(((await (await get(second, "/v1/sites")).json()) as { items: { name: string }[] }).items.map(({ name }) => name)).toEqual([
    "berlin",
    "default",
  ]);
});

test("a first start that died before the token was stored goes on with the token in the file", async () => {
  const dataDir = folder();
  const other = await start();
  writeFileSync(join(dataDir, "admin-token"), `${other.adminToken}\n`, { mode: 0o600 });
  const server = await start({ dataDir });
  expect(server.adminToken).toBe(other.adminToken);
  expect((await get(server, "/v1/whoami")).status).toBe(200);
});

test("refuses a folder that another server has, and a port that is taken, and lets go of both", async () => {
  const server = await start();
  await expect(startServer({ dataDir: server.dataDir, host: "127.0.0.1", port: 0, log: server.log })).rejects.toThrow(/in use/);
  const dataDir = folder();
  await expect(startServer({ dataDir, host: "127.0.0.1", port: server.port, log: server.log })).rejects.toMatchObject({
    code: "EADDRINUSE",
  });
  expect((await start({ dataDir })).adminToken).not.toBeNull();
  await expect(
    startServer({ dataDir: folder(), host: "127.0.0.1", port: 0, url: "https://x.test/$(id)", log: server.log }),
  ).rejects.toThrow(/not an address/);
});

describe("stopping", () => {
  test("answers held watches and running requests, then ends", async () => {
    const server = await start();
    const { watch } = (await (await get(server, "/v1/nodes")).json()) as { watch: string };
    const held = get(server, `/v1/nodes?watch=${watch}`);
    await expect.poll(async () => (await get(server, "/healthz")).status).toBe(200);
    await new Promise((done) => setTimeout(done, 200));
    const startMs = performance.now();
    await server.close();
    expect(performance.now() - startMs).toBeLessThan(3_000);
    expect((await held).status).toBe(200);
    await expect(get(server, "/healthz")).rejects.toThrow();
  });

  test("twice is once", async () => {
    const server = await start();
    await Promise.all([server.close(), server.close()]);
  });
});

describe("over the wire", () => {
  const bearer = (token: string) => `Authorization: Bearer ${token}\r\n`;

  test("B74: two Authorization headers are a 400", async () => {
    const server = await start();
    const text = await raw(
      server.port,
      `GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${bearer(server.token)}${bearer(`berth_${"a".repeat(39)}`)}\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain("two Authorization headers");
  });

  test.each([
    ["two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"],
    ["a length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a folded header", "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"],
    ["a bare line feed in a header", "X-A: b\nX-B: c\rd\r\n\r\n"],
  ])("B74: %s is a 400", async (_, rest) => {
    const server = await start();
    expect(await raw(server.port, `POST /v1/sites HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${bearer(server.token)}${rest}`)).toMatch(
      /^HTTP\/1\.1 400 /,
    );
  });

  test("B62: a chunked body over 1 MB is a 413", async () => {
    const server = await start();
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const sent = httpRequest(
        {
          port: server.port,
          path: "/v1/sites",
          method: "POST",
          headers: { authorization: `Bearer ${server.token}`, "transfer-encoding": "chunked" },
        },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      );
      sent.on("error", reject);
      for (let i = 0; i < 40; i++) sent.write("x".repeat(50_000));
      sent.end();
    });
    expect(status).toBe(413);
    expect((await get(server, "/healthz")).status).toBe(200);
  });

  test("headers over 16 kB are a 431", async () => {
    const server = await start();
    expect(await raw(server.port, `GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ${"a".repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("an upgrade to anything but a channel is a 404, and the socket is closed", async () => {
    const server = await start();
    const upgrade =
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    expect(await raw(server.port, `GET /v1/nodes HTTP/1.1\r\nHost: x\r\n${upgrade}`)).toMatch(/^HTTP\/1\.1 404 /);
    expect(await raw(server.port, `GET /agent/v1/channels/abc HTTP/1.1\r\nHost: x\r\n${upgrade}`)).toMatch(/^HTTP\/1\.1 401 /);
  });

  test("hands out the join script and the Node that runs the agent", async () => {
    const server = await start();
    expect(await (await fetch(`${server.url}/join.sh`)).text()).toMatch(/^#!\/bin\/sh/);
    const line = await (await fetch(`${server.url}/agent/v1/dist/node-linux-${process.arch}.sha256`)).text();
    const response = await fetch(`${server.url}/agent/v1/dist/node-linux-${process.arch}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(response.headers.get("content-length")).toBe(String(bytes.length));
    expect(line).toBe(`${createHash("sha256").update(bytes).digest("hex")}  node-linux-${process.arch}\n`);
  });

  test("logs no token and no password", async () => {
    const server = await start();
    await get(server, "/v1/namespaces/default/registries/r.test", {
      method: "PUT",
      body: JSON.stringify({ username: "u", password: "hunter2" }),
    });
    await get(server, "/v1/nope");
    await get(server, "/v1/whoami", { headers: { authorization: "Bearer berth_wrong" } });
    expect(JSON.stringify(server.log.lines)).not.toMatch(/hunter2|berth_/);
  });
});

describe("TLS", () => {
  const tlsGet = (port: number, path: string): Promise<{ status: number; spki: string; cert: X509Certificate }> =>
    new Promise((resolve, reject) => {
      const sent = httpsRequest({ host: "127.0.0.1", port, path, rejectUnauthorized: false, agent: false }, (answer) => {
        const cert = new X509Certificate((answer.socket as TLSSocket).getPeerCertificate().raw);
        const spki = createHash("sha256")
          .update(cert.publicKey.export({ type: "spki", format: "der" }))
          .digest("base64url");
        answer.resume();
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, spki, cert }));
      });
      sent.on("error", reject);
      sent.end();
    });

  test("off loopback it is served under the cluster's own certificate, whose key is pinned in join lines", async () => {
    const server = await start({ host: "0.0.0.0" });
    expect(server.url).toMatch(/^https:/);
    const { status, spki, cert } = await tlsGet(server.port, "/healthz");
    expect([status, spki]).toEqual([200, server.address.spki]);
    expect(cert.checkIP("127.0.0.1")).toBeDefined();
    expect(cert.verify(new X509Certificate(readFileSync(join(server.dataDir, "tls", "root.crt"))).publicKey)).toBe(true);
  });

  test("the pin stays over restarts", async () => {
    const dataDir = folder();
    const first = await start({ dataDir, host: "0.0.0.0" });
    await first.close();
    const second = await start({ dataDir, host: "0.0.0.0", url: "https://berth.example.com:7420" });
    expect(second.address).toEqual({ url: "https://berth.example.com:7420", spki: first.address.spki });
    expect((await tlsGet(second.port, "/healthz")).cert.checkHost("berth.example.com")).toBe("berth.example.com");
  });

  test("behind a proxy it is plain, without a pin", async () => {
    const server = await start({ behindProxy: true, url: "https://berth.example.com" });
    expect(server.address).toEqual({ url: "https://berth.example.com", spki: null });
  });

  test("a supplied certificate is served, without a pin: it changes with each renewal", async () => {
    const own = await start({ host: "0.0.0.0" });
    const cert = join(own.dataDir, "tls", "server.crt");
    await expect(start({ host: "0.0.0.0", cert, key: cert })).rejects.toThrow(/key/);
  });
});

test("F29: a request that comes one byte a second is cut off, and others are answered meanwhile", { timeout: 60_000 }, async () => {
  const server = await start();
  const startMs = performance.now();
  const slow = new Promise<string>((resolve) => {
    const socket = connect(server.port, "127.0.0.1");
    let text = "";
    const drip = setInterval(() => socket.write("a"), 1_000);
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    socket.on("data", (chunk) => {
      text += String(chunk);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(drip);
      resolve(text);
    });
  });
  expect((await get(server, "/healthz")).status).toBe(200);
  expect(await slow).toMatch(/^HTTP\/1\.1 408 /);
  expect(performance.now() - startMs).toBeLessThan(20_000);
});
