/** The way out: what is trusted, through which proxy, and for how long. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import { createHash, createPublicKey, type KeyObject, KeyObject as Key, webcrypto } from "node:crypto";
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { afterEach, describe, expect, test } from "vitest";
import { openHttp, proxyFor, type Trust } from "../../agent/link/http.ts";
import { openSockets } from "../../agent/link/websocket.ts";
import { HttpError } from "../../agent/ports.ts";
import { WebSocketServer } from "ws";

const DAY_MS = 86_400_000;
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const keyPair = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly spki: string;
}
interface Authority {
  readonly pem: string;
  readonly certificate: x509.X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}
const pemOf = async (key: webcrypto.CryptoKey): Promise<string> =>
  (Key.from(key) as KeyObject).export({ format: "pem", type: "pkcs8" }).toString();

async function authority(): Promise<Authority> {
  const keys = await keyPair();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: "CN=Test CA",
    notBefore: new Date(Date.now() - 1000 * DAY_MS),
    notAfter: new Date(Date.now() + 1000 * DAY_MS),
    signingAlgorithm: algorithm,
    keys: keys as never,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  return { pem: certificate.toString("pem"), certificate, keys };
}

async function leaf(ca: Authority, { daysFrom = -1, daysTo = 10, names = ["localhost"] } = {}): Promise<Certificate> {
  const keys = await keyPair();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: "02",
    subject: "CN=test",
    issuer: ca.certificate.subject,
    notBefore: new Date(Date.now() + daysFrom * DAY_MS),
    notAfter: new Date(Date.now() + daysTo * DAY_MS),
    signingKey: ca.keys.privateKey as never,
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey as never,
    extensions: [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns" as const, value })))],
  });
  const spki = createPublicKey(certificate.toString("pem")).export({ type: "spki", format: "der" });
  return {
    cert: certificate.toString("pem"),
    key: await pemOf(keys.privateKey),
    spki: createHash("sha256").update(spki).digest("base64url"),
  };
}

async function serve(
  certificate: Certificate | null,
  handler: Parameters<typeof createServer>[1] = (_, response) => response.end("hello"),
): Promise<{ url: string; server: Server; port: number }> {
  const server = (
    certificate === null
      ? createServer(handler as never)
      : createTlsServer({ cert: certificate.cert, key: certificate.key }, handler as never)
  ) as Server;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `${certificate === null ? "http" : "https"}://localhost:${port}/x`, server, port };
}

const trust = (changes: Partial<Trust> = {}): Trust => ({ spki: null, ca: null, notBeforeWallMs: 0, wallMs: Date.now, ...changes });
const get = async (
  url: string,
  { with: given = trust(), env = {}, timeoutMs = 5_000 }: { with?: Trust; env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<string> => {
  const http = openHttp({ trust: given, env });
  closers.push(() => void http.close());
  return (await http.request({ method: "GET", url, headers: {}, timeoutMs })).body;
};
const refusal = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(HttpError);
  return (error as HttpError).code;
};

describe("trust", () => {
  test("an unknown authority is refused, one that was given is not", async () => {
    const ca = await authority();
    const { url } = await serve(await leaf(ca));
    expect(await refusal(get(url))).toBe("tls");
    expect(await get(url, { with: trust({ ca: ca.pem }) })).toBe("hello");
  });

  test("a certificate for another name is refused", async () => {
    const ca = await authority();
    const { url } = await serve(await leaf(ca, { names: ["elsewhere.test"] }));
    expect(await refusal(get(url, { with: trust({ ca: ca.pem }) }))).toBe("tls");
  });

  test("the pinned key is trusted whatever the certificate says, another is not, though its authority is known", async () => {
    const ca = await authority();
    const mine = await leaf(ca, { names: ["elsewhere.test"], daysFrom: -20, daysTo: -10 });
    const other = await leaf(ca);
    expect(await get((await serve(mine)).url, { with: trust({ spki: mine.spki }) })).toBe("hello");
    expect(await refusal(get((await serve(other)).url, { with: trust({ spki: mine.spki, ca: ca.pem }) }))).toBe("pin");
  });

  test("nothing is sent to whom is not trusted", async () => {
    let asked = 0;
    const { url } = await serve(await leaf(await authority()), (_, response) => {
      asked++;
      response.end();
    });
    await refusal(get(url));
    await refusal(get(url, { with: trust({ spki: "A".repeat(43) }) }));
    expect(asked).toBe(0);
  });

  describe("dates", () => {
    const cases = [
      ["over", { daysFrom: -20, daysTo: -10 }],
      ["yet to come", { daysFrom: 10, daysTo: 20 }],
    ] as const;
    const buildMs = Date.now();
    test.each(cases)("that are %s fail on a clock that may be right", async (_, days) => {
      const ca = await authority();
      const { url } = await serve(await leaf(ca, days));
      expect(await refusal(get(url, { with: trust({ ca: ca.pem, notBeforeWallMs: buildMs, wallMs: () => buildMs }) }))).toBe("tls");
    });
    test.each(cases)("that are %s pass on a clock that must be wrong (F11)", async (_, days) => {
      const ca = await authority();
      const { url } = await serve(await leaf(ca, days));
      expect(await get(url, { with: trust({ ca: ca.pem, notBeforeWallMs: buildMs, wallMs: () => 0 }) })).toBe("hello");
    });
    test.each(cases)("that are %s pass for a known authority only, wrong clock or not", async (_, days) => {
      const { url } = await serve(await leaf(await authority(), days));
      expect(await refusal(get(url, { with: trust({ notBeforeWallMs: buildMs, wallMs: () => 0 }) }))).toBe("tls");
    });
  });
});

describe("time", () => {
  test("an answer of one byte a second ends at its limit (F29)", async () => {
    const { url } = await serve(null, (_, response) => {
      response.writeHead(200, { "content-length": "1000" });
      const timer = setInterval(() => response.write("x"), 50);
      response.on("close", () => clearInterval(timer));
    });
    expect(await refusal(get(url, { timeoutMs: 400 }))).toBe("timeout");
  });

  test("nobody there, and nobody who answers", async () => {
    expect(await refusal(get("http://127.0.0.1:1/"))).toBe("unreachable");
    const { url } = await serve(null, () => undefined);
    expect(await refusal(get(url, { timeoutMs: 200 }))).toBe("timeout");
  });

  test("an answer without end is cut at its bound", async () => {
    const { url } = await serve(null, (_, response) => {
      const chunk = Buffer.alloc(1_048_576);
      const pump = () => {
        for (let hasRoom = true; hasRoom; ) hasRoom = response.write(chunk);
        response.once("drain", pump);
      };
      response.on("error", () => undefined);
      pump();
    });
    expect(await refusal(get(url))).toBe("tooLarge");
  });
});

/** A proxy that only knows CONNECT, as those that let nothing else out. */
async function proxy({ status = "200 OK", login }: { status?: string; login?: string } = {}): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createTcpServer((client: Socket) => {
    client.on("error", () => undefined);
    client.once("data", (data) => {
      const head = data.toString();
      asked.push(head.split("\r\n")[0] ?? "");
      const isKnown = login === undefined || head.includes(`Proxy-Authorization: Basic ${Buffer.from(login).toString("base64")}`);
      if (!status.startsWith("200") || !isKnown) return client.end(`HTTP/1.1 ${isKnown ? status : "407 Login"}\r\n\r\n`);
      const [, , port] = /^CONNECT ([^:]+):(\d+)/.exec(head) ?? [];
      const target = connect(Number(port), "127.0.0.1", () => {
        client.write(`HTTP/1.1 ${status}\r\n\r\n`);
        client.pipe(target).pipe(client);
      });
      target.on("error", () => client.destroy());
      return undefined;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closers.push(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

describe("a proxy", () => {
  test("is gone through, with TLS to the target inside and its pin checked there", async () => {
    const certificate = await leaf(await authority());
    const { url, port } = await serve(certificate);
    const through = await proxy();
    expect(await get(url, { with: trust({ spki: certificate.spki }), env: { HTTPS_PROXY: through.url } })).toBe("hello");
    expect(through.asked).toEqual([`CONNECT localhost:${port} HTTP/1.1`]);
    expect(await refusal(get(url, { with: trust({ spki: "A".repeat(43) }), env: { HTTPS_PROXY: through.url } }))).toBe("pin");
  });

  test("gets its login", async () => {
    const { url } = await serve(null);
    const through = await proxy({ login: "ada:p@ss" });
    expect(await refusal(get(url, { env: { http_proxy: through.url } }))).toBe("unreachable");
    expect(await get(url, { env: { http_proxy: through.url.replace("//", "//ada:p%40ss@") } })).toBe("hello");
  });

  test("that refuses is said", async () => {
    const { url } = await serve(null);
    const through = await proxy({ status: "403 Forbidden" });
    await expect(get(url, { env: { HTTP_PROXY: through.url } })).rejects.toThrow("refused to connect");
  });

  test("carries channels too", async () => {
    const { server, port } = await serve(null);
    const sockets = new WebSocketServer({ server });
    const received: string[] = [];
    sockets.on("connection", (client, request) =>
      client.on("message", (data) => received.push(`${request.headers.authorization} ${data.toString()}`)),
    );
    const through = await proxy();
    const { signal } = new AbortController();
    const socket = await openSockets({ trust: trust(), env: { HTTP_PROXY: through.url } }).dial({
      url: `ws://localhost:${port}/c`,
      headers: { authorization: "Berth x" },
      timeoutMs: 5_000,
      signal,
    });
    await socket.send("y".repeat(100_000));
    socket.close();
    await socket.closed;
    expect(received).toEqual([`Berth x ${"y".repeat(100_000)}`]);
    expect(through.asked).toEqual([`CONNECT localhost:${port} HTTP/1.1`]);
  });

  test.each([
    ["no proxy", "https://a.test/", {}, null],
    ["one for https", "https://a.test/", { HTTPS_PROXY: "http://p:1" }, "http://p:1/"],
    ["lower case wins", "https://a.test/", { HTTPS_PROXY: "http://p:1", https_proxy: "http://q:2" }, "http://q:2/"],
    ["one for http is not for https", "https://a.test/", { http_proxy: "http://p:1" }, null],
    ["one for all", "wss://a.test/", { ALL_PROXY: "p:1" }, "http://p:1/"],
    ["an exception by name", "https://a.test/", { https_proxy: "p:1", no_proxy: "b.test,a.test" }, null],
    ["with its subdomains", "https://x.a.test/", { https_proxy: "p:1", NO_PROXY: ".a.test" }, null],
    ["written with a star", "https://x.a.test/", { https_proxy: "p:1", NO_PROXY: "*.a.test" }, null],
    ["not of another that ends alike", "https://xa.test/", { https_proxy: "p:1", no_proxy: "a.test" }, "http://p:1/"],
    ["by address", "https://10.0.0.1:7443/", { https_proxy: "p:1", no_proxy: "10.0.0.1" }, null],
    ["with this port", "https://a.test:7443/", { https_proxy: "p:1", no_proxy: "a.test:7443" }, null],
    ["with another port", "https://a.test:7443/", { https_proxy: "p:1", no_proxy: "a.test:443" }, "http://p:1/"],
    ["everything", "https://a.test/", { https_proxy: "p:1", no_proxy: "*" }, null],
  ])("is chosen: %s", (_, target, env, expected) => {
    expect(proxyFor(new URL(target), env)?.href ?? null).toBe(expected);
  });
});
