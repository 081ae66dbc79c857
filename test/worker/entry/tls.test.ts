import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { keyFilesIn } from "../../../worker/key-files.ts";
import { newEd25519 } from "../../../worker/keys.ts";
import { ownCertificate, suppliedCertificate } from "../../../worker/tls.ts";

const NOW_MS = Date.UTC(2026, 0, 1);
let dir: string;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "berth-tls-"));
  await keyFilesIn(join(dir, "keys")).create("root.json", JSON.stringify((await newEd25519()).jwk));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const own = (hosts: string[], nowMs = NOW_MS) =>
  ownCertificate({ files: keyFilesIn(join(dir, "keys")), dir: join(dir, "tls"), hosts, nowMs });

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
