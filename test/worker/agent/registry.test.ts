import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseImage } from "../../../shared/model/image.ts";
import type { Registry } from "../../../worker/ports.ts";
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
    registry = makeRegistry({ plain: new Set(), log: collectLog() });
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  const ok = (response: ServerResponse) => response.writeHead(200, { "docker-content-digest": DIGEST }).end();
  const basic = `Basic ${Buffer.from("robot:s3cret").toString("base64")}`;
  const login = { username: "robot", password: "s3cret" };

  test("says a tag's digest", async () => {
    answer = (_, response) => ok(response);
    expect(await registry.resolve(`${host}/team/app:2`, null)).toEqual({ digest: DIGEST });
    expect(asked).toEqual([{ method: "HEAD", url: "/v2/team/app/manifests/2", authorization: undefined }]);
  });

  test("is not asked about a digest", async () => {
    expect(await registry.resolve(`${host}/team/app@${DIGEST}`, null)).toEqual({ digest: DIGEST });
    expect(await registry.resolve(DIGEST, null)).toBeNull();
    expect(asked).toEqual([]);
  });

  test("that leaves the digest out is asked for the manifest, whose hash it is", async () => {
    const body = '{"schemaVersion":2}';
    answer = (request, response) => response.writeHead(200).end(request.method === "GET" ? body : undefined);
    expect(await registry.resolve(`${host}/app`, null)).toEqual({ digest: `sha256:${createHash("sha256").update(body).digest("hex")}` });
  });

  test("that wants Basic gets the credentials, and only after it has asked", async () => {
    answer = (request, response) =>
      request.headers.authorization === basic ? ok(response) : response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end();
    expect(await registry.resolve(`${host}/app`, login)).toEqual({ digest: DIGEST });
    expect(asked.map(({ authorization }) => authorization)).toEqual([undefined, basic]);
    expect(await registry.resolve(`${host}/app`, null)).toBeNull();
  });

  test("that wants a token gets one from its realm", async () => {
    answer = (request, response) => {
      if (request.url?.startsWith("/token")) return void response.end(JSON.stringify({ token: "t0ken" }));
      if (request.headers.authorization === "Bearer t0ken") return void ok(response);
      return void response.writeHead(401, { "www-authenticate": `Bearer realm="http://${host}/token",service="reg"` }).end();
    };
    expect(await registry.resolve(`${host}/team/app`, login)).toEqual({ digest: DIGEST });
    expect(asked[1]).toEqual({ method: "GET", url: "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull", authorization: basic });
  });

  test("cannot have the password sent elsewhere in the clear", async () => {
    // The same server by another name: it would answer.
    const elsewhere = `http://localhost:${host.split(":")[1]}/token`;
    answer = (_, response) => response.writeHead(401, { "www-authenticate": `Bearer realm="${elsewhere}"` }).end();
    expect(await registry.resolve(`${host}/app`, login)).toBeNull();
    expect(asked).toHaveLength(1);
  });

  test("cannot send the request elsewhere", async () => {
    answer = (_, response) => response.writeHead(307, { location: `http://${host}/elsewhere` }).end();
    expect(await registry.resolve(`${host}/app`, null)).toBeNull();
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
    expect(await registry.resolve(`${host}/app`, null)).toBeNull();
  });

  test("that cannot be reached says nothing", async () => {
    expect(await registry.resolve("127.0.0.1:1/app", null)).toBeNull();
  });
});
