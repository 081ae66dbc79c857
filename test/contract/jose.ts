/**
 * What berth relies on from jose, as tests over the real one and the simulator's stand-in (test/sim/jose-contract.test.ts):
 * what one makes the other opens, and what one refuses the other refuses.
 *
 * Where they differ and it cannot matter:
 * - Their refusals are other errors; berth reads nothing but that there is one.
 * - `typ`, `exp` and which keys a header may hold are berth's own checks (agent/crypto.ts, worker/routes/agent/jws.ts):
 *   both let every header through that is signed.
 * - Unencoded payloads (`b64: false`, RFC 7797): the real one reads them, the stand-in refuses them. Neither takes such a
 *   signature for one of the encoded payload, and berth refuses the header.
 */
import { describe, expect, test } from "vitest";

export type Jose = Pick<
  typeof import("jose"),
  | "base64url"
  | "CompactEncrypt"
  | "CompactSign"
  | "GeneralSign"
  | "calculateJwkThumbprint"
  | "compactDecrypt"
  | "compactVerify"
  | "exportJWK"
  | "flattenedVerify"
  | "generateKeyPair"
  | "importJWK"
  | "importPKCS8"
>;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (from: Uint8Array): string => new TextDecoder().decode(from);
const PAYLOAD = '{"a":1,"é":"€"}';
/** RFC 8037, appendix A.1; the other of the same length. */
const SIGN = {
  kty: "OKP",
  crv: "Ed25519",
  x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
  d: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
} as const;
/** RFC 7748, section 6.1: Alice. */
const SEAL = {
  kty: "OKP",
  crv: "X25519",
  x: "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo",
  d: "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo",
} as const;
const SECRET = Uint8Array.from({ length: 32 }, (_, at) => at);
const HEADER = { alg: "Ed25519", typ: "berth-test+jws", kid: "k" };
const publicOf = ({ kty, crv, x }: { kty: string; crv: string; x: string }) => ({ kty, crv, x });

const ED25519 = { algorithms: ["Ed25519"] };
const HS256 = { algorithms: ["HS256"] };
const ECDH = { keyManagementAlgorithms: ["ECDH-ES"], contentEncryptionAlgorithms: ["A256GCM"], maxDecompressedLength: 0 };
const DIRECT = { keyManagementAlgorithms: ["dir"], contentEncryptionAlgorithms: ["A256GCM"], maxDecompressedLength: 0 };

const refused = (work: () => Promise<unknown>): Promise<string> =>
  Promise.resolve()
    .then(work)
    .then(
      () => "accepted",
      (error: unknown) => (error instanceof Error ? "refused" : `threw ${String(error)}`),
    );

/** A compact form with one part replaced. */
const withPart = (compact: string, at: number, change: (part: string) => string): string =>
  compact
    .split(".")
    .map((part, index) => (index === at ? change(part) : part))
    .join(".");
const flipped = (part: string): string => `${part[0] === "A" ? "B" : "A"}${part.slice(1)}`;
const encoded = (value: unknown): string => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

/** What `maker` makes, `opener` opens. */
export function joseMakes(name: string, maker: Jose, opener: Jose): void {
  describe(`jose: ${name}`, () => {
    test("a JWS under Ed25519", async () => {
      const jws = await new maker.CompactSign(bytes(PAYLOAD)).setProtectedHeader(HEADER).sign(await maker.importJWK(SIGN, "Ed25519"));
      const opened = await opener.compactVerify(jws, await opener.importJWK(publicOf(SIGN), "Ed25519"), ED25519);
      expect([text(opened.payload), opened.protectedHeader]).toEqual([PAYLOAD, HEADER]);
      // Signatures of this kind have no chance in them: both make the same.
      const again = await new opener.CompactSign(bytes(PAYLOAD)).setProtectedHeader(HEADER).sign(await opener.importJWK(SIGN, "Ed25519"));
      expect(again).toBe(jws);
    });

    test("a JWS under HS256", async () => {
      const header = { alg: "HS256", typ: "t", kid: "n.1" };
      const jws = await new maker.CompactSign(bytes(PAYLOAD)).setProtectedHeader(header).sign(SECRET);
      const opened = await opener.compactVerify(jws, SECRET, HS256);
      expect([text(opened.payload), opened.protectedHeader]).toEqual([PAYLOAD, header]);
    });

    test("a JWS of two signatures", async () => {
      const other = await maker.generateKeyPair("Ed25519", { extractable: true });
      const jws = await new maker.GeneralSign(bytes(PAYLOAD))
        .addSignature(await maker.importJWK(SIGN, "Ed25519"))
        .setProtectedHeader(HEADER)
        .done()
        .addSignature(other.privateKey)
        .setProtectedHeader({ ...HEADER, kid: "second" })
        .sign();
      const keys = [publicOf(SIGN), await maker.exportJWK(other.publicKey)];
      for (const [at, part] of jws.signatures.entries()) {
        const flattened = { payload: jws.payload, protected: part.protected ?? "", signature: part.signature };
        const opened = await opener.flattenedVerify(flattened, await opener.importJWK(keys[at]!, "Ed25519"), ED25519);
        expect(text(opened.payload)).toBe(PAYLOAD);
        expect(
          await refused(async () => opener.flattenedVerify(flattened, await opener.importJWK(keys[1 - at]!, "Ed25519"), ED25519)),
        ).toBe("refused");
      }
    });

    test("a JWE to an X25519 key", async () => {
      const jwe = await new maker.CompactEncrypt(bytes(PAYLOAD))
        .setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM" })
        .encrypt(await maker.importJWK(publicOf(SEAL), "ECDH-ES"));
      const opened = await opener.compactDecrypt(jwe, await opener.importJWK(SEAL, "ECDH-ES"), ECDH);
      expect(text(opened.plaintext)).toBe(PAYLOAD);
      expect(Object.keys(opened.protectedHeader).sort()).toEqual(["alg", "enc", "epk"]);
    });

    test("a JWE under a key that both have", async () => {
      const jwe = await new maker.CompactEncrypt(bytes(PAYLOAD))
        .setProtectedHeader({ alg: "dir", enc: "A256GCM", kid: "s" })
        .encrypt(SECRET);
      const opened = await opener.compactDecrypt(jwe, SECRET, DIRECT);
      expect([text(opened.plaintext), opened.protectedHeader]).toEqual([PAYLOAD, { alg: "dir", enc: "A256GCM", kid: "s" }]);
    });

    test("keys, thumbprints and base64url", async () => {
      for (const [alg, options] of [
        ["Ed25519", { extractable: true }],
        ["ECDH-ES", { crv: "X25519", extractable: true }],
      ] as const) {
        const { privateKey, publicKey } = await maker.generateKeyPair(alg, options);
        const jwk = await maker.exportJWK(privateKey);
        expect(Object.keys(jwk).sort()).toEqual(["crv", "d", "kty", "x"]);
        expect(await maker.exportJWK(publicKey)).toEqual(publicOf(jwk as { kty: string; crv: string; x: string }));
        await opener.importJWK(jwk, alg);
      }
      expect(await maker.calculateJwkThumbprint(publicOf(SIGN), "sha256")).toBe("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
      const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(SIGN.d, "base64url")]);
      const pem = `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----`;
      const jws = await new maker.CompactSign(bytes("x")).setProtectedHeader(HEADER).sign(await maker.importPKCS8(pem, "Ed25519"));
      await opener.compactVerify(jws, await opener.importJWK(publicOf(SIGN), "Ed25519"), ED25519);
      for (const raw of [new Uint8Array(0), SECRET, Uint8Array.of(255, 254, 253), SECRET.subarray(1, 3)])
        expect([...opener.base64url.decode(maker.base64url.encode(raw))]).toEqual([...raw]);
      expect(maker.base64url.encode("é")).toBe(opener.base64url.encode("é"));
    });
  });
}

/** What is refused. `jose` is the one that is tried; what it is tried on comes from `maker`. */
export function joseRefuses(name: string, jose: Jose, maker: Jose): void {
  describe(`jose refuses: ${name}`, () => {
    const signed = async (header: Record<string, unknown> = HEADER, payload = PAYLOAD): Promise<string> => {
      const input = `${encoded(header)}.${encoded(payload)}`;
      const { createPrivateKey, sign } = await import("node:crypto");
      return `${input}.${sign(null, Buffer.from(input), createPrivateKey({ key: SIGN, format: "jwk" })).toString("base64url")}`;
    };
    const verify = async (jws: string, options: { algorithms: string[] } = ED25519) =>
      jose.compactVerify(jws, await jose.importJWK(publicOf(SIGN), "Ed25519"), options);

    test("nothing that is sound, whatever its typ says and when it was to end", async () => {
      for (const header of [HEADER, { ...HEADER, typ: "another" }, { alg: "Ed25519" }]) {
        expect(await refused(async () => verify(await signed(header)))).toBe("accepted");
        expect(await refused(async () => verify(await signed(header, '{"exp":1}')))).toBe("accepted");
      }
    });

    test.each<[string, (jws: string) => string | Promise<string>]>([
      ["another payload", (jws) => withPart(jws, 1, () => encoded("{}"))],
      ["another header", (jws) => withPart(jws, 0, () => encoded({ ...HEADER, kid: "other" }))],
      ["another signature", (jws) => withPart(jws, 2, flipped)],
      ["a signature that is cut short", (jws) => jws.slice(0, -4)],
      ["a signature with more behind it", (jws) => `${jws}AAAA`],
      ["no signature", (jws) => withPart(jws, 2, () => "")],
      ["two parts", (jws) => jws.slice(0, jws.lastIndexOf("."))],
      ["four parts", (jws) => `${jws}.AAAA`],
      ["nothing", () => ""],
      ["a header that is no base64url", (jws) => withPart(jws, 0, () => "!!!")],
      ["a header that is no JSON", (jws) => withPart(jws, 0, () => encoded("{"))],
      ["a header that is no object", () => signed([] as never)],
      ["a header without alg", () => signed({ typ: "t" })],
      [
        "alg none",
        (jws) =>
          withPart(
            withPart(jws, 0, () => encoded({ ...HEADER, alg: "none" })),
            2,
            () => "",
          ),
      ],
      ["alg none, signed all the same", () => signed({ ...HEADER, alg: "none" })],
      ["the old name of its alg", () => signed({ ...HEADER, alg: "EdDSA" })],
      ["an alg that is no text", () => signed({ ...HEADER, alg: 1 })],
      ["crit of an extension that nobody knows", () => signed({ ...HEADER, crit: ["x"], x: 1 })],
      ["crit of what is not there", () => signed({ ...HEADER, crit: ["b64"] })],
      ["crit that is empty", () => signed({ ...HEADER, crit: [] })],
      ["crit that is no list", () => signed({ ...HEADER, crit: "b64", b64: true })],
      ["b64 that is no boolean", () => signed({ ...HEADER, crit: ["b64"], b64: "false" })],
      [
        "b64 false over the encoded payload's signature",
        (jws) => withPart(jws, 0, () => encoded({ ...HEADER, crit: ["b64"], b64: false })),
      ],
    ])("a JWS with %s", async (_, broken) => {
      const jws = await broken(await signed());
      expect(await refused(() => verify(jws))).toBe("refused");
    });

    test("a JWS whose alg the caller did not ask for, or whose key is of another kind", async () => {
      const jws = await signed();
      expect(await refused(() => verify(jws, HS256))).toBe("refused");
      const forged = await new maker.CompactSign(bytes(PAYLOAD))
        .setProtectedHeader({ alg: "HS256" })
        .sign(Buffer.from(SIGN.x, "base64url"));
      // The public key as the secret.
      expect(await refused(() => verify(forged))).toBe("refused");
      expect(await refused(() => verify(forged, { algorithms: ["HS256", "Ed25519"] }))).toBe("refused");
      expect(await refused(() => jose.compactVerify(jws, SECRET, ED25519))).toBe("refused");
      expect(await refused(async () => jose.compactVerify(jws, await jose.importJWK(publicOf(SEAL), "ECDH-ES"), ED25519))).toBe("refused");
      const other = await jose.generateKeyPair("Ed25519", { extractable: true });
      expect(await refused(() => jose.compactVerify(jws, other.publicKey, ED25519))).toBe("refused");
      const mac = await new maker.CompactSign(bytes(PAYLOAD)).setProtectedHeader({ alg: "HS256" }).sign(SECRET);
      expect(
        await refused(() =>
          jose.compactVerify(
            mac,
            SECRET.map((byte) => byte ^ 1),
            HS256,
          ),
        ),
      ).toBe("refused");
      expect(
        await refused(() =>
          jose.compactVerify(
            withPart(mac, 2, (part) => part.slice(0, 22)),
            SECRET,
            HS256,
          ),
        ),
      ).toBe("refused");
    });

    test("to sign with what does not sign", async () => {
      const signing = (header: Record<string, unknown>, key: () => Promise<never>) =>
        refused(async () => new jose.CompactSign(bytes("x")).setProtectedHeader(header as never).sign(await key()));
      expect(await signing(HEADER, async () => (await jose.importJWK(publicOf(SIGN), "Ed25519")) as never)).toBe("refused");
      expect(await signing(HEADER, async () => SECRET as never)).toBe("refused");
      expect(await signing({ alg: "none" }, async () => SECRET as never)).toBe("refused");
      expect(await signing({ alg: "HS256" }, async () => (await jose.importJWK(SIGN, "Ed25519")) as never)).toBe("refused");
      expect(await signing({ ...HEADER, crit: ["x"], x: 1 }, async () => (await jose.importJWK(SIGN, "Ed25519")) as never)).toBe("refused");
    });

    const sealed = async (header: Record<string, unknown> = { alg: "ECDH-ES", enc: "A256GCM" }): Promise<string> =>
      new maker.CompactEncrypt(bytes(PAYLOAD))
        .setProtectedHeader(header as { alg: string; enc: string })
        .encrypt(header.alg === "dir" ? SECRET : await maker.importJWK(publicOf(SEAL), "ECDH-ES"));

    test.each<[string, (jwe: string) => string]>([
      [
        "another header",
        (jwe) => withPart(jwe, 0, (part) => encoded({ ...JSON.parse(Buffer.from(part, "base64url").toString()), kid: "x" })),
      ],
      ["a key where there is none", (jwe) => withPart(jwe, 1, () => "AAAA")],
      ["another IV", (jwe) => withPart(jwe, 2, flipped)],
      ["an IV that is too short", (jwe) => withPart(jwe, 2, (part) => part.slice(0, 8))],
      ["another ciphertext", (jwe) => withPart(jwe, 3, flipped)],
      ["another tag", (jwe) => withPart(jwe, 4, flipped)],
      ["a tag that is cut short", (jwe) => withPart(jwe, 4, (part) => part.slice(0, 16))],
      ["no tag", (jwe) => withPart(jwe, 4, () => "")],
      ["four parts", (jwe) => jwe.slice(0, jwe.lastIndexOf("."))],
      ["six parts", (jwe) => `${jwe}.AAAA`],
      ["nothing", () => ""],
      [
        "another alg",
        (jwe) => withPart(jwe, 0, (part) => encoded({ ...JSON.parse(Buffer.from(part, "base64url").toString()), alg: "ECDH-ES+A256KW" })),
      ],
      [
        "another enc",
        (jwe) => withPart(jwe, 0, (part) => encoded({ ...JSON.parse(Buffer.from(part, "base64url").toString()), enc: "A128GCM" })),
      ],
    ])("a JWE with %s", async (_, broken) => {
      const [toKey, direct] = [await sealed(), await sealed({ alg: "dir", enc: "A256GCM" })];
      expect(await refused(async () => jose.compactDecrypt(broken(toKey), await jose.importJWK(SEAL, "ECDH-ES"), ECDH))).toBe("refused");
      expect(await refused(() => jose.compactDecrypt(broken(direct), SECRET, DIRECT))).toBe("refused");
    });

    test("a JWE for another, with compression, or with crit", async () => {
      const jwe = await sealed();
      const other = await jose.generateKeyPair("ECDH-ES", { crv: "X25519", extractable: true });
      expect(await refused(() => jose.compactDecrypt(jwe, other.privateKey, ECDH))).toBe("refused");
      expect(await refused(async () => jose.compactDecrypt(jwe, await jose.importJWK(SEAL, "ECDH-ES"), DIRECT))).toBe("refused");
      const direct = await sealed({ alg: "dir", enc: "A256GCM" });
      expect(
        await refused(() =>
          jose.compactDecrypt(
            direct,
            SECRET.map((byte) => byte ^ 1),
            DIRECT,
          ),
        ),
      ).toBe("refused");
      const { createCipheriv } = await import("node:crypto");
      for (const extra of [{ zip: "DEF" }, { crit: ["x"], x: 1 }, { crit: [] }]) {
        const header = encoded({ alg: "dir", enc: "A256GCM", ...extra });
        const cipher = createCipheriv("aes-256-gcm", SECRET, Buffer.alloc(12)).setAAD(Buffer.from(header));
        const ciphertext = Buffer.concat([cipher.update(PAYLOAD), cipher.final()]).toString("base64url");
        const made = `${header}..${Buffer.alloc(12).toString("base64url")}.${ciphertext}.${cipher.getAuthTag().toString("base64url")}`;
        expect(await refused(() => jose.compactDecrypt(made, SECRET, DIRECT)), JSON.stringify(extra)).toBe("refused");
      }
    });

    test.each([
      ["is missing", undefined],
      ["is of another curve", publicOf(SIGN)],
      ["is short", { ...publicOf(SEAL), x: "AAAA" }],
      ["is a point that gives everybody the same secret", { ...publicOf(SEAL), x: "A".repeat(43) }],
      ["is no object", "x"],
    ])("a JWE whose epk %s", async (_, epk) => {
      const jwe = withPart(await sealed(), 0, () => encoded({ alg: "ECDH-ES", enc: "A256GCM", ...(epk === undefined ? {} : { epk }) }));
      expect(await refused(async () => jose.compactDecrypt(jwe, await jose.importJWK(SEAL, "ECDH-ES"), ECDH))).toBe("refused");
    });

    test.each([
      ["of no kind", { crv: "Ed25519", x: SIGN.x }],
      ["of another curve than was said", { ...publicOf(SIGN), crv: "P-256" }],
      ["whose point is short", { ...publicOf(SIGN), x: "AAAA" }],
      ["without a point", { kty: "OKP", crv: "Ed25519" }],
      ["whose secret is short", { ...SIGN, d: "AAAA" }],
    ])("a key %s", async (_, jwk) => {
      expect(await refused(() => jose.importJWK(jwk, "Ed25519"))).toBe("refused");
    });

    test("a private key that is none", async () => {
      expect(await refused(() => jose.importPKCS8("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "Ed25519"))).toBe(
        "refused",
      );
    });
  });
}
