import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { renewDaily } from "../../../worker/certificate-renewal.ts";
import { keyFilesIn } from "../../../worker/key-files.ts";
import { newEd25519 } from "../../../worker/keys.ts";
import { ownCertificate, suppliedCertificate } from "../../../worker/tls.ts";
import { collectLog, VirtualClock } from "../agent/control-plane.ts";

const NOW_MS = Date.UTC(2026, 0, 1);
let dir: string;
beforeEach(async () => {
  log = collectLog();
  dir = mkdtempSync(join(tmpdir(), "berth-tls-"));
  await keyFilesIn(join(dir, "keys")).create("root.json", JSON.stringify((await newEd25519()).jwk));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

let log: ReturnType<typeof collectLog>;
const own = (hosts: string[], nowMs = NOW_MS) =>
  ownCertificate({ files: keyFilesIn(join(dir, "keys")), dir: join(dir, "tls"), hosts, nowMs, log });

test("a client that trusts the cluster's root connects, by name and by address", async () => {
  const { cert, key } = await own(["127.0.0.1", "localhost"], Date.now());
  const server = createServer({ cert, key }, (_request, response) => response.end("ok"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const root = cert.slice(cert.indexOf("-----BEGIN", 10));
  const status = await new Promise((resolve, reject) =>
    get({ host: "127.0.0.1", port, ca: root }, (answer) => resolve(answer.statusCode)).on("error", reject),
  );
  expect(status).toBe(200);
  server.close();
});

test("it is kept between starts, and made anew under the same pin for other names or near its end", async () => {
  const first = await own(["127.0.0.1"]);
  expect((await own(["127.0.0.1"])).cert).toBe(first.cert);
  const renamed = await own(["127.0.0.1", "berth.lan"]);
  expect(renamed.cert).not.toBe(first.cert);
  const later = await own(["127.0.0.1", "berth.lan"], NOW_MS + 800 * 86_400_000);
  expect(later.cert).not.toBe(renamed.cert);
  expect([renamed.spki, later.spki]).toEqual([first.spki, first.spki]);
  expect(new X509Certificate(later.cert).checkHost("berth.lan")).toBe("berth.lan");
  expect(statSync(join(dir, "keys", "tls.json")).mode & 0o077).toBe(0);
});

test("while the root key is away, it is served to its end and no longer", async () => {
  const first = await own(["127.0.0.1"]);
  rmSync(join(dir, "keys", "root.json"));
  expect((await own(["127.0.0.1"], NOW_MS + 800 * 86_400_000)).cert).toBe(first.cert);
  await expect(own(["127.0.0.1"], NOW_MS + 830 * 86_400_000)).rejects.toThrow("root.json is not here");
  rmSync(join(dir, "tls"), { recursive: true });
  await expect(own(["127.0.0.1"])).rejects.toThrow("root.json is not here");
});

test("while the root key is away, it is served under names that it lacks, which are said", async () => {
  const first = await own(["127.0.0.1"]);
  rmSync(join(dir, "keys", "root.json"));
  expect((await own(["127.0.0.1"])).cert).toBe(first.cert);
  expect(log.lines).toEqual([]);
  expect((await own(["127.0.0.1", "berth.lan", "172.18.0.1"])).cert).toBe(first.cert);
  expect(log.lines).toMatchObject([{ level: "warn", fields: { missing: ["berth.lan", "172.18.0.1"] } }]);
  expect(log.lines[0]?.message).toMatch(/root\.json.*--cert and --key/);
});

test("while the root key is away, it is under another key than its own no more", async () => {
  await own(["127.0.0.1"]);
  for (const name of ["root.json", "tls.json"]) rmSync(join(dir, "keys", name));
  await expect(own(["127.0.0.1"])).rejects.toThrow("root.json is not here");
});

test("while the root key is away, each look in the last 60 days says how many are left", async () => {
  await own(["127.0.0.1"]);
  rmSync(join(dir, "keys", "root.json"));
  const day = (days: number) => own(["127.0.0.1"], NOW_MS + days * 86_400_000);
  await day(764);
  expect(log.lines).toEqual([]);
  for (const days of [766, 767, 824.5]) await day(days);
  expect(log.lines.map(({ level, fields }) => [level, fields["daysLeft"]])).toEqual([
    ["warn", 59],
    ["warn", 58],
    ["warn", 0],
  ]);
  expect(log.lines[0]?.message).toMatch(/root\.json.*--cert and --key/);
});

test("it is made anew while the server runs, and a failure is tried again the next day", async () => {
  let days = 0;
  const clock = new VirtualClock();
  const make = vi.fn(() => own(["127.0.0.1"], NOW_MS + days * 86_400_000));
  const served = await make();
  const server = createServer({ cert: served.cert, key: served.key });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const end = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().valid_to);
        socket.destroy();
      }).on("error", reject);
    });
  const stop = renewDaily({ served, make, serve: ({ cert, key }) => server.setSecureContext({ cert, key }), clock, log });
  const day = async () => {
    days += 1;
    const calls = make.mock.calls.length;
    await clock.advance(86_400_000);
    await vi.waitFor(() => expect([make.mock.calls.length, clock.timers]).toEqual([calls + 1, 1]));
  };
  const first = await end();
  await day();
  expect(await end()).toBe(first);
  days = 800;
  make.mockRejectedValueOnce(new Error("no"));
  await day();
  expect(await end()).toBe(first);
  expect(log.lines.map(({ message }) => message)).toEqual(["the server's certificate could not be renewed; trying again tomorrow"]);
  await day();
  expect(new Date(await end()).getTime()).toBeGreaterThan(new Date(first).getTime());
  stop();
  expect(clock.timers).toBe(0);
  server.close();
});

test("a supplied pair must be one", async () => {
  const mine = await own(["127.0.0.1"]);
  writeFileSync(join(dir, "a.crt"), mine.cert);
  writeFileSync(join(dir, "a.key"), mine.key);
  expect(suppliedCertificate(join(dir, "a.crt"), join(dir, "a.key")).spki).toBe(mine.spki);
  rmSync(join(dir, "keys", "tls.json"));
  rmSync(join(dir, "tls"), { recursive: true });
  writeFileSync(join(dir, "b.key"), (await own(["127.0.0.1"])).key);
  expect(() => suppliedCertificate(join(dir, "a.crt"), join(dir, "b.key"))).toThrow(/does not belong/);
  expect(() => suppliedCertificate(join(dir, "missing.crt"), join(dir, "b.key"))).toThrow(/cannot be read/);
  expect(() => suppliedCertificate(join(dir, "b.key"), join(dir, "b.key"))).toThrow(/not a PEM certificate/);
});
