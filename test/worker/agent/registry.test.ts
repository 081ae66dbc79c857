import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseImage } from "../../../shared/model/image.ts";
import type { Registry, RegistryAsk } from "../../../worker/ports.ts";
import { makeRegistry } from "../../../worker/registry.ts";
import { collectLog } from "./control-plane.ts";

const DIGEST = `sha256:${"d".repeat(64)}`;

describe("an image reference", () => {
  test.each([
    ["nginx", "docker.io", "library/nginx", "latest", null],
    ["nginx:1.27", "docker.io", "library/nginx", "1.27", null],
    ["grafana/grafana", "docker.io", "grafana/grafana", "latest", null],
    ["docker.io/nginx", "docker.io", "library/nginx", "latest", null],
    ["index.docker.io/library/nginx:1", "docker.io", "library/nginx", "1", null],
    ["localhost/app", "localhost", "app", "latest", null],
    ["127.0.0.1:5000/team/app:2", "127.0.0.1:5000", "team/app", "2", null],
    ["Registry.Example.com/app", "registry.example.com", "app", "latest", null],
    [`ghcr.io/a/b@${DIGEST}`, "ghcr.io", "a/b", null, DIGEST],
    [`ghcr.io/a/b:1@${DIGEST}`, "ghcr.io", "a/b", "1", DIGEST],
  ])("%s", (reference, registry, repository, tag, digest) => {
    expect(parseImage(reference)).toEqual({ registry, repository, tag, digest });
  });

  test("an image id is in no registry", () => {
    expect(parseImage(DIGEST)).toBeNull();
  });
});

describe("a registry", () => {
  let server: Server;
  let host: string;
  let registry: Registry;
  let log: ReturnType<typeof collectLog>;
  let asked: { method: string; url: string; authorization: string | undefined }[];
  let answer: (request: IncomingMessage, response: ServerResponse) => void;
  beforeEach(async () => {
    asked = [];
    server = createServer((request, response) => {
      asked.push({ method: request.method ?? "", url: request.url ?? "", authorization: request.headers.authorization });
      answer(request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    log = collectLog();
    registry = makeRegistry({ plain: new Set(), log });
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  const resolve = (reference: string, credentials: RegistryAsk["credentials"], by = registry) =>
    by.resolve(reference, { credentials, signal: AbortSignal.timeout(5_000) });
  const ok = (response: ServerResponse) => response.writeHead(200, { "docker-content-digest": DIGEST }).end();
  const basic = `Basic ${Buffer.from("robot:s3cret").toString("base64")}`;
  const login = { username: "robot", password: "s3cret" };

  test("says a tag's digest", async () => {
    answer = (_, response) => ok(response);
    expect(await resolve(`${host}/team/app:2`, null)).toEqual({ digest: DIGEST });
    expect(asked).toEqual([{ method: "HEAD", url: "/v2/team/app/manifests/2", authorization: undefined }]);
  });

  test("is not asked about a digest", async () => {
    expect(await resolve(`${host}/team/app@${DIGEST}`, null)).toEqual({ digest: DIGEST });
    expect(await resolve(DIGEST, null)).toBeNull();
    expect(asked).toEqual([]);
  });

  test("that leaves the digest out is asked for the manifest, whose hash it is", async () => {
    const body = '{"schemaVersion":2}';
    answer = (request, response) => response.writeHead(200).end(request.method === "GET" ? body : undefined);
    expect(await resolve(`${host}/app`, null)).toEqual({ digest: `sha256:${createHash("sha256").update(body).digest("hex")}` });
  });

  test("that wants Basic gets the credentials, and only after it has asked", async () => {
    answer = (request, response) =>
      request.headers.authorization === basic ? ok(response) : response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end();
    expect(await resolve(`${host}/app`, login)).toEqual({ digest: DIGEST });
    expect(asked.map(({ authorization }) => authorization)).toEqual([undefined, basic]);
    expect(await resolve(`${host}/app`, null)).toBeNull();
  });

  test("that wants a token gets one from its realm", async () => {
    answer = (request, response) => {
      if (request.url?.startsWith("/token")) return void response.end(JSON.stringify({ token: "t0ken" }));
      if (request.headers.authorization === "Bearer t0ken") return void ok(response);
      return void response.writeHead(401, { "www-authenticate": `Bearer realm="http://${host}/token",service="reg"` }).end();
    };
    expect(await resolve(`${host}/team/app`, login)).toEqual({ digest: DIGEST });
    expect(asked[1]).toEqual({ method: "GET", url: "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull", authorization: basic });
  });

  test("cannot have the password sent elsewhere in the clear", async () => {
    // The same server by another name: it would answer.
    const elsewhere = `http://localhost:${host.split(":")[1]}/token`;
    answer = (_, response) => response.writeHead(401, { "www-authenticate": `Bearer realm="${elsewhere}"` }).end();
    expect(await resolve(`${host}/app`, login)).toBeNull();
    expect(asked).toHaveLength(1);
  });

  test("cannot send the request elsewhere", async () => {
    answer = (_, response) => response.writeHead(307, { location: `http://${host}/elsewhere` }).end();
    expect(await resolve(`${host}/app`, null)).toBeNull();
    expect(asked).toHaveLength(1);
  });

  test.each([
    ["404", 404, {}],
    ["429", 429, {}],
    ["500", 500, {}],
    ["a digest that is none", 200, { "docker-content-digest": "md5:1" }],
    ["a challenge of no kind we know", 401, { "www-authenticate": "Negotiate" }],
  ])("F21: that answers %s says nothing", async (_, status, headers) => {
    answer = (_request, response) => response.writeHead(status, headers).end();
    expect(await resolve(`${host}/app`, null)).toBeNull();
  });

  test("that cannot be reached says nothing", async () => {
    expect(await resolve("127.0.0.1:1/app", null)).toBeNull();
  });

  test("is asked no longer than its asker waits", async () => {
    const abort = new AbortController();
    answer = () => abort.abort();
    expect(await registry.resolve(`${host}/app`, { credentials: null, signal: abort.signal })).toBeNull();
  });

  test.each([
    ["manifest", 200, (request: IncomingMessage) => request.method === "GET"],
    ["token", 401, (request: IncomingMessage) => request.url?.startsWith("/token") === true],
  ])("that refuses a %s at length is not kept waiting with the rest", async (_, status, isRefused) => {
    const closed = new Promise<void>((done) => {
      answer = (request, response) => {
        if (isRefused(request)) {
          response.once("close", done);
          response.writeHead(403, { "content-length": "1000000000" }).write("x".repeat(100_000));
        } else if (request.method === "HEAD")
          response.writeHead(status, { "www-authenticate": `Bearer realm="http://${host}/token"` }).end();
      };
    });
    expect(await resolve(`${host}/app`, null)).toBeNull();
    await closed;
  });

  describe("at a link-local address", () => {
    const lines = () => log.lines.map(({ fields }) => String(fields["error"]));

    test.each(["169.254.169.254", "2852039166", "[fe80::1]", "[::ffff:169.254.169.254]"])("%s is not dialled", async (address) => {
      expect(await resolve(`${address}:5000/app`, null)).toBeNull();
      expect(lines()).toEqual([expect.stringContaining("is link-local")]);
    });

    test.each([[["169.254.169.254"]], [["fe80::1%eth0", "169.254.1.1"]]])("nor when its name resolves to %s", async (addresses) => {
      registry = named(addresses);
      expect(await resolve("metadata.test:5000/app", null)).toBeNull();
      expect(lines()).toEqual([expect.stringContaining("metadata.test is link-local")]);
    });

    test("nor when it is where tokens are said to be", async () => {
      answer = (_, response) => response.writeHead(401, { "www-authenticate": 'Bearer realm="https://169.254.169.254/token"' }).end();
      expect(await resolve(`${host}/app`, login)).toBeNull();
      expect(lines()).toEqual([expect.stringContaining("is link-local")]);
    });

    test("and elsewhere too is asked there", async () => {
      answer = (_, response) => ok(response);
      registry = named(["fe80::1", "127.0.0.1"]);
      expect(await resolve(`registry.test:${host.split(":")[1]}/app`, null)).toEqual({ digest: DIGEST });
    });

    const named = (addresses: string[]) =>
      makeRegistry({
        plain: new Set([`registry.test:${host.split(":")[1]}`]),
        log,
        resolveName: (_name, _options, done) =>
          done(
            null,
            addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
          ),
      });
  });
});
