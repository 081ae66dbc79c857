/**
 * The control plane's own certificate, for a server without one of its own: a P-256 leaf under a certificate
 * authority whose key is the cluster's root key. Agents and CLI contexts pin the root by its thumbprint and the leaf by
 * its public key (SPKI), so nobody has to install a certificate anywhere.
 *
 * The leaf key is made once and kept: its pin stands in join tokens. Certificates around it are made anew when the
 * names change or their end is near: at the start, and daily while it runs. While the root key is away the old one is served
 * to its end, and each look says what is wrong with it.
 */
import "reflect-metadata";
import { createHash, createPrivateKey, createPublicKey, type JsonWebKey, X509Certificate as NodeCertificate, webcrypto } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { counted } from "../shared/text/counted.ts";
import type { KeyFiles } from "./init.ts";
import { ROOT_KEY_FILE } from "./init.ts";
import type { Log } from "./ports.ts";

export interface ServerCertificate {
  /** PEM, leaf first. */
  readonly cert: string;
  /** PEM, PKCS #8. */
  readonly key: string;
  /** SHA-256 of the leaf's SubjectPublicKeyInfo, base64url. */
  readonly spki: string;
}

const LEAF_KEY_FILE = "tls.json";
const DAY_MS = 86_400_000;
/** Long, because nothing but the pin makes it trusted, and agents behind a dead clock must still connect. */
const LEAF_DAYS = 825;
const ROOT_DAYS = 36_500;
const RENEW_DAYS = 60;
const MEND = `put ${ROOT_KEY_FILE} back into the folder of the keys for one start, or pass --cert and --key`;

/** Makes or reuses the certificate for these host names and addresses. `dir` is public: it holds certificates, no keys. */
export async function ownCertificate(parts: {
  readonly files: KeyFiles;
  readonly dir: string;
  readonly hosts: readonly string[];
  readonly nowMs: number;
  readonly log: Log;
}): Promise<ServerCertificate> {
  const { files, dir, hosts, nowMs, log } = parts;
  const key = createPrivateKey({ key: await leafKey(files), format: "jwk" });
  const keyPem = key.export({ format: "pem", type: "pkcs8" }).toString();
  const spki = spkiOf(createPublicKey(key).export({ format: "der", type: "spki" }));
  const path = join(dir, "server.crt");
  const cert = existsSync(path) ? readFileSync(path, "utf8") : null;
  const held = cert === null ? null : inspect(cert, { hosts, spki });
  const isNearEnd = held !== null && held.endMs < nowMs + RENEW_DAYS * DAY_MS;
  if (held !== null && !isNearEnd && held.missing.length === 0) return { cert: held.cert, key: keyPem, spki };

  const rootText = await files.read(ROOT_KEY_FILE);
  if (rootText === null) {
    if (held === null || held.endMs < nowMs)
      throw new Error(`the certificate has to be made anew and ${ROOT_KEY_FILE} is not here; ${MEND}`);
    // Names come and go with docker's networks: whoever pins its key connects under any of them.
    if (held.missing.length > 0) log.warn({ missing: held.missing }, `the server's certificate lacks names of this machine; ${MEND}`);
    const daysLeft = Math.floor((held.endMs - nowMs) / DAY_MS);
    if (isNearEnd) log.warn({ daysLeft }, `the server's certificate ends in ${counted(daysLeft, "day")}; ${MEND}`);
    return { cert: held.cert, key: keyPem, spki };
  }
  const root = await authority(JSON.parse(rootText), nowMs);
  const publicKey = await webcrypto.subtle.importKey(
    "spki",
    createPublicKey(key).export({ format: "der", type: "spki" }),
    { name: "ECDSA", namedCurve: "P-256" },
    true,
    ["verify"],
  );
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: "CN=berth control plane",
    issuer: root.certificate.subject,
    notBefore: new Date(nowMs - DAY_MS),
    notAfter: new Date(nowMs + LEAF_DAYS * DAY_MS),
    signingKey: root.key,
    signingAlgorithm: { name: "Ed25519" },
    publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(hosts.map((host) => ({ type: isIP(host) === 0 ? "dns" : "ip", value: host }))),
    ],
  });
  const made = `${leaf.toString("pem")}\n${root.certificate.toString("pem")}\n`;
  mkdirSync(dir, { recursive: true });
  replaceFile(join(dir, "root.crt"), `${root.certificate.toString("pem")}\n`);
  replaceFile(path, made);
  return { cert: made, key: keyPem, spki };
}

/** A certificate that the operator supplies. Throws a sentence when key and certificate do not belong together. */
export function suppliedCertificate(certPath: string, keyPath: string): ServerCertificate {
  const cert = readPem(certPath, "--cert");
  const key = readPem(keyPath, "--key");
  let leaf: NodeCertificate;
  try {
    leaf = new NodeCertificate(cert);
  } catch (error) {
    throw new Error(`${certPath} (--cert) is not a PEM certificate`, { cause: error });
  }
  let isPair: boolean;
  try {
    isPair = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    throw new Error(`${keyPath} (--key) is not a PEM private key without a passphrase`, { cause: error });
  }
  if (!isPair) throw new Error(`the key in ${keyPath} does not belong to the certificate in ${certPath}`);
  return { cert, key, spki: spkiOf(leaf.publicKey.export({ format: "der", type: "spki" })) };
}

function readPem(path: string, option: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${option} ${path} cannot be read`, { cause: error });
  }
}

const spkiOf = (der: Buffer): string => createHash("sha256").update(der).digest("base64url");

async function leafKey(files: KeyFiles): Promise<JsonWebKey> {
  const held = await files.read(LEAF_KEY_FILE);
  if (held !== null) return JSON.parse(held);
  const pair = await webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const jwk: JsonWebKey = createPrivateKey({
    key: Buffer.from(await webcrypto.subtle.exportKey("pkcs8", pair.privateKey)),
    format: "der",
    type: "pkcs8",
  }).export({ format: "jwk" });
  await files.create(LEAF_KEY_FILE, JSON.stringify(jwk));
  return jwk;
}

async function authority(jwk: JsonWebKey, nowMs: number): Promise<{ certificate: x509.X509Certificate; key: webcrypto.CryptoKey }> {
  const key = await webcrypto.subtle.importKey("jwk", { ...jwk, key_ops: ["sign"] }, "Ed25519", false, ["sign"]);
  const publicJwk = { kty: jwk.kty ?? "OKP", crv: jwk.crv ?? "Ed25519", x: jwk.x ?? "" };
  const publicKey = await webcrypto.subtle.importKey("jwk", publicJwk, "Ed25519", true, ["verify"]);
  const keys = { privateKey: key, publicKey };
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: "CN=berth cluster root",
    notBefore: new Date(nowMs - DAY_MS),
    notAfter: new Date(nowMs + ROOT_DAYS * DAY_MS),
    signingAlgorithm: { name: "Ed25519" },
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
  });
  return { certificate, key: keys.privateKey };
}

/** Positive and 126 bits, as RFC 5280 asks. */
function serial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

interface Held {
  readonly cert: string;
  readonly endMs: number;
  /** Hosts that it is not made for. */
  readonly missing: readonly string[];
}

/** Null when it is damaged or of another key. */
function inspect(cert: string, { hosts, spki }: { readonly hosts: readonly string[]; readonly spki: string }): Held | null {
  try {
    const leaf = new NodeCertificate(cert);
    if (spkiOf(leaf.publicKey.export({ format: "der", type: "spki" })) !== spki) return null;
    const missing = hosts.filter((host) => (isIP(host) === 0 ? leaf.checkHost(host) : leaf.checkIP(host)) === undefined);
    return { cert, endMs: leaf.validToDate.getTime(), missing };
  } catch {
    // Damaged: it is made anew.
    return null;
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}
