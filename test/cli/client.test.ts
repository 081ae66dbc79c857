import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { ApiError, Client, withQuery } from "../../cli/client/client.ts";
import { httpTransport } from "../../cli/client/transport.ts";
import { CliError, EXIT } from "../../cli/exit.ts";
import { answer, clientWith } from "./terminal.ts";

const refusal = (code: string, message: string, details: { path: string; message: string }[] = []) => ({
  error: { code, message, reason: code, details, retryable: false },
});
const failure = async (client: Client): Promise<CliError> => {
  const error = await client.get("/v1/cluster").catch((thrown: unknown) => thrown);
  if (!(error instanceof CliError)) throw error;
  return error;
};
const broken = (code: string) => Object.assign(new Error(`socket: ${code}`), { code });

describe("requests", () => {
  test("carry the token, and mutations a key with its time", async () => {
    const { client, requests } = clientWith(() => answer(200, {}));
    await client.get("/v1/x", { a: 1, none: undefined, b: "c d" });
    await client.post("/v1/x", { y: 1 });
    expect(requests[0]).toMatchObject({ method: "GET", path: "/v1/x?a=1&b=c%20d", headers: { authorization: "Bearer berth_x" } });
    expect(requests[0]?.headers["idempotency-key"]).toBeUndefined();
    expect(requests[1]).toMatchObject({ method: "POST", body: '{"y":1}' });
    expect(requests[1]?.headers["idempotency-key"]).toMatch(/^\d{13}-[0-9a-f]{24}$/);
  });

  test("a lost answer is asked for again under the same key, and not for ever", async () => {
    const once = clientWith((_request, count) => {
      if (count === 1) throw broken("ECONNRESET");
      return answer(200, { done: true });
    });
    expect(await once.client.post("/v1/x", {})).toEqual({ done: true });
    expect(new Set(once.requests.map((request) => request.headers["idempotency-key"])).size).toBe(1);
    const always = clientWith(() => {
      throw broken("EPIPE");
    });
    await expect(always.client.post("/v1/x", {})).rejects.toThrow(/cannot be reached/);
    expect(always.requests.length).toBe(3);
  });

  test("a list that comes in pages is asked for to its end, under the mark of the first", async () => {
    const pages = [
      { rev: 7, watch: "7.0", items: [1, 2], next: "b" },
      { rev: 8, watch: "8.0", items: [3], next: "c" },
      { rev: 9, watch: "9.0", items: [4], next: null },
    ];
    const { client, requests } = clientWith((_request, count) => answer(200, pages[count - 1]));
    expect(await client.list("/v1/x", { app: "a", watch: "6.0" })).toEqual({ rev: 7, watch: "7.0", items: [1, 2, 3, 4], next: null });
    expect(requests.map(({ path }) => path)).toEqual(["/v1/x?app=a&watch=6.0", "/v1/x?app=a&cursor=b", "/v1/x?app=a&cursor=c"]);
  });

  test("a segment is quoted", () => expect(withQuery("/v1/x", { app: "a&b=c" })).toBe("/v1/x?app=a%26b%3Dc"));
});

describe("what goes wrong is said with what to run next", () => {
  test.each([
    [
      "nothing listens",
      () => Promise.reject(broken("ECONNREFUSED")),
      EXIT.unreachable,
      /nothing answers at https:\/\/berth\.test/,
      "npm start",
    ],
    ["an unknown name", () => Promise.reject(broken("ENOTFOUND")), EXIT.unreachable, /name service/, "berth context ls"],
    [
      "a certificate of nobody known",
      () => Promise.reject(broken("DEPTH_ZERO_SELF_SIGNED_CERT")),
      EXIT.unreachable,
      /not one that this machine trusts/,
      /berth cluster info/,
    ],
    [
      "plain HTTP where TLS is expected",
      () => Promise.reject(broken("EPROTO")),
      EXIT.unreachable,
      /does not speak TLS/,
      "berth context ls",
    ],
    [
      "a login page",
      () => Promise.resolve(answer(200, "<html>", { "content-type": "text/html" })),
      EXIT.unreachable,
      /not from berth/,
      "berth context ls",
    ],
    [
      "a proxy's error page",
      () => Promise.resolve(answer(502, "<html>", { "content-type": "text/html" })),
      EXIT.unreachable,
      /answered 502/,
      "berth context ls",
    ],
    [
      "JSON of somebody else",
      () => Promise.resolve(answer(404, { message: "no route" })),
      EXIT.unreachable,
      /not from berth/,
      "berth context ls",
    ],
    [
      "an unknown token",
      () => Promise.resolve(answer(401, refusal("unauthenticated", "this token is not known here"))),
      EXIT.unreachable,
      /token is not known/,
      "berth context ls",
    ],
    ["a refusal", () => Promise.resolve(answer(422, refusal("refused", "the site has nodes"))), EXIT.failed, /the site has nodes/, null],
  ])("%s", async (_name, respond, exitCode, message, next) => {
    const error = await failure(clientWith(respond).client);
    expect(error.exitCode).toBe(exitCode);
    expect(error.message).toMatch(message);
    if (next instanceof RegExp) expect(error.next).toMatch(next);
    else expect(error.next).toBe(next);
  });

  test("details are shown, escaped, and not without end", async () => {
    const details = Array.from({ length: 50 }, (_, at) => ({ path: `spec.x${at}`, message: "\u001b[2Jbad" }));
    const error = await failure(clientWith(() => answer(400, refusal("invalid", "\u001b]0;x\u0007", details))).client);
    expect(error).toBeInstanceOf(ApiError);
    expect(error.message).toBe("\\x1b]0;x\\x07");
    expect(error.details.length).toBe(20);
    expect(error.details[0]).toBe("spec.x0: \\x1b[2Jbad");
  });
});

test("a watch goes on from each answer's mark, and loads again when the mark is too old", async () => {
  const { client, requests } = clientWith((request, count) => {
    if (request.path.includes("watch=2.0")) return answer(410, refusal("gone", "load the list again"));
    return answer(200, { rev: count, watch: `${count}.0`, items: [count] });
  });
  const seen: number[] = [];
  for await (const list of client.watch<number>("/v1/nodes", { site: "a" })) {
    seen.push(...list.items);
    if (seen.length === 3) break;
  }
  expect(seen).toEqual([1, 2, 4]);
  expect(requests.map((request) => request.path)).toEqual([
    "/v1/nodes?site=a",
    "/v1/nodes?site=a&watch=1.0",
    "/v1/nodes?site=a&watch=2.0",
    "/v1/nodes?site=a",
  ]);
});

test("streams are read line by line", async () => {
  const { client } = clientWith(() => answer(200, '{"a":1}\n{"a":2}\n', { "content-type": "application/x-ndjson" }));
  const seen: unknown[] = [];
  for await (const line of client.lines("/v1/logs")) seen.push(line);
  expect(seen).toEqual([{ a: 1 }, { a: 2 }]);
});

test("a stream that breaks off is told as such, with the exit code of a control plane that is gone", async () => {
  const server = createServer((_, response) => {
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.write('{"a":1}\n{"a":');
    setTimeout(() => response.destroy(), 20);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new Client({ url, token: null, transport: httpTransport(url, { root: null, spki: null }, {}), startHint: "npm start" });
  const seen: unknown[] = [];
  const read = async () => {
    for await (const line of client.lines("/v1/logs")) seen.push(line);
  };
  await expect(read()).rejects.toMatchObject({ exitCode: 3, message: expect.stringContaining("broke off") });
  expect(seen).toEqual([{ a: 1 }]);
  server.close();
});

test("ages are counted by the server's clock when it differs", async () => {
  const ahead = new Date(Date.now() + 3_600_000).toUTCString();
  const { client } = clientWith(() => answer(200, {}, { date: ahead }));
  await client.get("/v1/cluster");
  expect(Math.abs(client.nowMs() - Date.parse(ahead))).toBeLessThan(5_000);
});
