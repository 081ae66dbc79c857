import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { base64url, CompactEncrypt, compactVerify, generateKeyPair, exportJWK, importJWK } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KeySet, X25519Jwk } from "../../../shared/wire/keys.ts";
import { createCluster, KEY_RING_FILE, ROOT_KEY_FILE } from "../../../worker/init.ts";
import { keyFilesIn } from "../../../worker/key-files.ts";
import { KeyRing, makeSigner, newKeyRing, thumbprint } from "../../../worker/keys.ts";
import type { Signer } from "../../../worker/ports.ts";
import { openDatabaseInMemory } from "../../../worker/store/database-embedded.ts";
import { Store } from "../../../worker/store/store.ts";
import { memoryFiles, random } from "./control-plane.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("a signer", () => {
  let ring: KeyRing;
  let wallMs: number;
  let signer: Signer;
  beforeEach(async () => {
    ring = await newKeyRing(random);
    wallMs = 1_800_000_000_000;
    signer = await makeSigner(ring, () => wallMs);
  });

  test("derives one session key for a node and number, and another for every other", async () => {
    const key = base64url.encode(await signer.sessionKey("n_aaaaaaaaaaaaaaaa", 12));
    expect(key).toHaveLength(43);
    expect(base64url.encode(await (await makeSigner(ring)).sessionKey("n_aaaaaaaaaaaaaaaa", 12))).toBe(key);
    const others = await Promise.all([
      signer.sessionKey("n_aaaaaaaaaaaaaaaa", 1),
      signer.sessionKey("n_aaaaaaaaaaaaaaab", 12),
      (await makeSigner(await newKeyRing(random))).sessionKey("n_aaaaaaaaaaaaaaaa", 12),
    ]);
    expect(new Set([key, ...others.map((other) => base64url.encode(other))]).size).toBe(4);
  });

  test("takes its nonces for ten minutes, on every process of the cluster", async () => {
    const nonce = await signer.nonce();
    const other = await makeSigner(ring, () => wallMs);
    expect(await other.nonceIsFresh(nonce)).toBe(true);
    wallMs += 11 * 60_000;
    expect(await signer.nonceIsFresh(nonce)).toBe(true);
    const later = await signer.nonce();
    wallMs += 60_000;
    expect(await signer.nonceIsFresh(nonce)).toBe(false);
    wallMs -= 3 * 60_000; // a clock that jumped back: more than a minute ahead is not taken
    expect(await signer.nonceIsFresh(later)).toBe(false);
  });

  test("F56: takes no nonce from before it was made, and its own also when the clock is put back", async () => {
    wallMs += 3 * 60_000;
    const before = await signer.nonce();
    wallMs += 10_000;
    const restarted = await makeSigner(ring, () => wallMs);
    expect(await signer.nonceIsFresh(before)).toBe(true);
    expect(await restarted.nonceIsFresh(before)).toBe(false);
    const own = await restarted.nonce();
    expect(await restarted.nonceIsFresh(own)).toBe(true);
    expect(await signer.nonceIsFresh(own)).toBe(true);
    wallMs -= 3_600_000;
    expect(await restarted.nonceIsFresh(own)).toBe(true);
    expect(await restarted.nonceIsFresh(await restarted.nonce())).toBe(true);
  });

  test.each([
    "",
    ".",
    "0.AAAAAAAAAAAAAAAAAAAAAA",
    "zzzzzzzzz.AAAAAAAAAAAAAAAAAAAAAA",
    "../..",
    "x".repeat(256),
    "1e9.AAAAAAAAAAAAAAAAAAAAAA",
    "-1.AAAAAAAAAAAAAAAAAAAAAA",
  ])("does not take %s for a nonce", async (nonce) => {
    expect(await signer.nonceIsFresh(nonce)).toBe(false);
  });

  test("does not take another slice's MAC, nor another cluster's nonce", async () => {
    const [slice = "", mac = ""] = (await signer.nonce()).split(".");
    const next = (Number.parseInt(slice, 36) + 1).toString(36);
    expect(await signer.nonceIsFresh(`${next}.${mac}`)).toBe(false);
    const foreign = await makeSigner(await newKeyRing(random), () => wallMs);
    expect(await signer.nonceIsFresh(await foreign.nonce())).toBe(false);
  });

  test("opens at rest what it sealed, also after a rotation", async () => {
    const { kid, sealed } = await signer.sealAtRest(bytes("s3cret"));
    expect(sealed).not.toContain("s3cret");
    const rotated = await newKeyRing(random);
    const after = await makeSigner({ ...ring, sealing: [...rotated.sealing, ...ring.sealing] });
    expect(new TextDecoder().decode(await after.openAtRest(kid, sealed))).toBe("s3cret");
    expect((await after.sealAtRest(bytes("x"))).kid).toBe(rotated.sealing[0]?.kid);
    await expect((await makeSigner(rotated)).openAtRest(kid, sealed)).rejects.toThrow("not in this machine's key ring");
  });

  test.each([
    ["a flipped bit of the tag", (sealed: string) => `${sealed.slice(0, -2)}${sealed.at(-2) === "A" ? "B" : "A"}${sealed.at(-1)}`],
    ["another's header", (sealed: string) => [base64url.encode('{"alg":"dir","enc":"A256GCM"}'), ...sealed.split(".").slice(1)].join(".")],
  ])("F59: does not open %s", async (_, change) => {
    const { kid, sealed } = await signer.sealAtRest(bytes("s3cret"));
    await expect(signer.openAtRest(kid, change(sealed))).rejects.toThrow();
  });

  test("F59: does not open what is compressed, nor by another algorithm", async () => {
    const kid = ring.sealing[0]?.kid ?? "";
    const key = base64url.decode(ring.sealing[0]?.key ?? "");
    const zipped = await new CompactEncrypt(bytes("0".repeat(1_000_000)))
      .setProtectedHeader({ alg: "dir", enc: "A256GCM", zip: "DEF" })
      .encrypt(key);
    await expect(signer.openAtRest(kid, zipped)).rejects.toThrow();
    const wrapped = await new CompactEncrypt(bytes("x")).setProtectedHeader({ alg: "A256KW", enc: "A256GCM" }).encrypt(key);
    await expect(signer.openAtRest(kid, wrapped)).rejects.toThrow();
  });

  test("F59: seals to X25519 alone", async () => {
    const { publicKey } = await generateKeyPair("ECDH-ES", { crv: "P-256" });
    const wrong = { ...(await exportJWK(publicKey)) };
    expect(X25519Jwk.safeParse(wrong).success).toBe(false);
    // A point of small order gives everybody the same key: refused by the platform.
    await expect(signer.seal({ kty: "OKP", crv: "X25519", x: base64url.encode(new Uint8Array(32)) }, bytes("x"))).rejects.toThrow();
  });
});

describe("a cluster", () => {
  let folder: string;
  let store: Store;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "berth-keys-"));
    store = await Store.open(await openDatabaseInMemory());
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test("is made once, with keys that only their owner can read", async () => {
    const files = keyFilesIn(join(folder, "keys"));
    const made = await createCluster({ store, files, random });
    expect(made.created).toBe(true);
    expect(readdirSync(join(folder, "keys")).sort()).toEqual([KEY_RING_FILE, ROOT_KEY_FILE]);
    for (const name of [KEY_RING_FILE, ROOT_KEY_FILE]) expect(statSync(join(folder, "keys", name)).mode & 0o777).toBe(0o600);
    const again = await createCluster({ store, files, random });
    expect(again).toEqual({ created: false, ring: made.ring });
  });

  test("has a key set that verifies under the root key and names the lease key", async () => {
    const { ring } = await createCluster({ store, files: memoryFiles(), random });
    const cluster = await store.cluster();
    const { payload, protectedHeader } = await compactVerify(cluster.keySet, await importJWK(cluster.rootKey, "Ed25519"), {
      algorithms: ["Ed25519"],
    });
    expect(protectedHeader).toEqual({ alg: "Ed25519", typ: "berth-keys+jwt", jwk: cluster.rootKey });
    expect(KeySet.parse(JSON.parse(new TextDecoder().decode(payload)))).toMatchObject({
      iss: cluster.clusterId,
      era: cluster.era,
      version: 1,
      keys: [{ kid: await thumbprint(ring.lease[0]!.jwk), use: "lease" }],
    });
    expect(cluster.keySet).not.toContain(ring.lease[0]!.jwk.d);
  });

  test("goes on where a crash between its keys and its row left it", async () => {
    const files = memoryFiles();
    await createCluster({ store: await Store.open(await openDatabaseInMemory()), files, random });
    const before = new Map(files.files);
    expect((await createCluster({ store, files, random })).created).toBe(true);
    expect(files.files).toEqual(before);
  });

  test("F47: whose keys are missing or damaged does not start, and no message shows a key", async () => {
    const files = memoryFiles();
    await createCluster({ store, files, random });
    await expect(createCluster({ store, files: memoryFiles(), random })).rejects.toThrow("missing");
    const damaged = memoryFiles();
    damaged.files.set(KEY_RING_FILE, `${files.files.get(KEY_RING_FILE)}}`);
    const error = await createCluster({ store, files: damaged, random }).catch((thrown: Error) => thrown);
    expect(String(error)).toContain("damaged");
    expect(String(error)).not.toContain(KeyRing.parse(JSON.parse(files.files.get(KEY_RING_FILE)!)).secret);
  });

  test("whose keys others may read does not start", async () => {
    const files = keyFilesIn(folder);
    await createCluster({ store, files, random });
    chmodSync(join(folder, KEY_RING_FILE), 0o644);
    await expect(createCluster({ store, files, random })).rejects.toThrow("can be read by other users");
  });

  test("never overwrites a key", async () => {
    const files = keyFilesIn(folder);
    await files.create("root.json", "one");
    await expect(files.create("root.json", "two")).rejects.toThrow();
    expect(await files.read("root.json")).toBe("one");
    expect(readdirSync(folder)).toEqual(["root.json"]);
  });
});
