/**
 * The control plane's own certificate, for a server without one of its own: a P-256 leaf under a certificate
 * authority whose key is the cluster's root key. Agents and CLI contexts pin the root by its thumbprint and the leaf by
 * its public key (SPKI), so nobody has to install a certificate anywhere.
 *
 * The leaf key is made once and kept: its pin stands in join tokens. Certificates around it are made anew when the
 * names change or their end is near: at the start, and daily while it runs. While the root key is away the old one is served
 * to its end.
 */
import "reflect-metadata";
import { createHash, createPrivateKey, createPublicKey, type JsonWebKey, X509Certificate as NodeCertificate, webcrypto } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import type { KeyFiles } from "./init.ts";
import { ROOT_KEY_FILE } from "./init.ts";

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

/** Makes or reuses the certificate for these host names and addresses. `dir` is public: it holds certificates, no keys. */
export async function ownCertificate(parts: {
  readonly files: KeyFiles;
  readonly dir: string;
  readonly hosts: readonly string[];
  readonly nowMs: number;
}): Promise<ServerCertificate> {
  const { files, dir, hosts, nowMs } = parts;
  const key = createPrivateKey({ key: await leafKey(files), format: "jwk" });
  const keyPem = key.export({ format: "pem", type: "pkcs8" }).toString();
  const spki = spkiOf(createPublicKey(key).export({ format: "der", type: "spki" }));
  const path = join(dir, "server.crt");
  const held = existsSync(path) ? readFileSync(path, "utf8") : null;
  if (held !== null && serves(held, { hosts, spki, untilMs: nowMs + RENEW_DAYS * DAY_MS })) return { cert: held, key: keyPem, spki };

  const rootText = await files.read(ROOT_KEY_FILE);
  if (rootText === null) {
    if (held !== null && serves(held, { hosts, spki, untilMs: nowMs })) return { cert: held, key: keyPem, spki };
    throw new Error(
      `the certificate has to be made anew and ${ROOT_KEY_FILE} is not here; put the root key back for one start, or pass --cert and --key`,
    );
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
  const cert = `${leaf.toString("pem")}\n${root.certificate.toString("pem")}\n`;
  mkdirSync(dir, { recursive: true });
  replaceFile(join(dir, "root.crt"), `${root.certificate.toString("pem")}\n`);
  replaceFile(path, cert);
  return { cert, key: keyPem, spki };
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

interface Served {
  readonly hosts: readonly string[];
  readonly spki: string;
  readonly untilMs: number;
}

function serves(pem: string, { hosts, spki, untilMs }: Served): boolean {
  try {
    const leaf = new NodeCertificate(pem);
    if (spkiOf(leaf.publicKey.export({ format: "der", type: "spki" })) !== spki) return false;
    if (leaf.validToDate.getTime() < untilMs) return false;
    return hosts.every((host) => (isIP(host) === 0 ? leaf.checkHost(host) : leaf.checkIP(host)) !== undefined);
  } catch {
    // Damaged: it is made anew.
    return false;
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}
