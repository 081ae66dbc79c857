/**
 * Whom the CLI talks to. A context pins the cluster's root key, and perhaps the served certificate's own key: then the
 * connection is accepted for that key alone, whoever signed it. Without a pin the machine's own authorities decide.
 *
 * The check happens before a byte of a request, and so the token, is written.
 */
import { createHash } from "node:crypto";
import { Agent as HttpAgent } from "node:http";
import { type AgentOptions, Agent as HttpsAgent } from "node:https";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { CliError, EXIT } from "../exit.ts";
import { readNamed } from "../read-named.ts";

export interface Pins {
  /** RFC 7638 thumbprint (SHA-256, base64url) of the cluster's root key. */
  readonly root: string | null;
  /** SHA-256 of the served certificate's SubjectPublicKeyInfo, base64url. */
  readonly spki: string | null;
}

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("base64url");

interface ServedCertificate {
  readonly publicKey: import("node:crypto").KeyObject;
  verify(key: import("node:crypto").KeyObject): boolean;
  readonly issuerCertificate?: ServedCertificate | undefined;
}

const spkiOf = (certificate: ServedCertificate): string => sha256(certificate.publicKey.export({ type: "spki", format: "der" }));

/** RFC 7638 for Ed25519 (RFC 8037): members in lexical order, no white space. Null for any other key. */
function thumbprintOf(certificate: ServedCertificate): string | null {
  const { kty, crv, x } = certificate.publicKey.export({ format: "jwk" });
  return kty === "OKP" && crv === "Ed25519" && x !== undefined ? sha256(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`) : null;
}

/** A served chain is at most leaf, intermediate, root here; more is somebody else's. */
const CHAIN_MAX = 4;

/** Whether the certificate, or one that signed it in the served chain, is the one that was pinned. */
export function matchesPins(served: ServedCertificate, pins: Pins): boolean {
  if (pins.spki !== null && spkiOf(served) === pins.spki) return true;
  if (pins.root === null) return false;
  let certificate = served;
  for (let depth = 0; depth < CHAIN_MAX; depth++) {
    if (thumbprintOf(certificate) === pins.root) return true;
    const issuer = certificate.issuerCertificate;
    if (issuer === undefined || !certificate.verify(issuer.publicKey)) return false;
    certificate = issuer;
  }
  return false;
}

class PinnedAgent extends HttpsAgent {
  readonly #pins: Pins;

  constructor(options: AgentOptions, pins: Pins) {
    // A resumed session shows no certificate to compare: each connection makes a full handshake.
    super({ ...options, rejectUnauthorized: false, maxCachedSessions: 0 });
    this.#pins = pins;
  }

  override createConnection(
    options: Parameters<HttpsAgent["createConnection"]>[0],
    done: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const check = (socket: TLSSocket): void => {
      const verify = (): void => {
        const served = socket.getPeerX509Certificate();
        if (served !== undefined && matchesPins(served as ServedCertificate, this.#pins)) {
          done(null, socket);
          return;
        }
        const seen = served === undefined ? "none" : spkiOf(served as ServedCertificate);
        const error = new CliError(
          "the control plane's certificate is not the one that this context pins: somebody stands in between, or the cluster was set up anew",
          {
            exitCode: EXIT.unreachable,
            details: [`pinned root ${this.#pins.root ?? "-"}, key ${this.#pins.spki ?? "-"}; served key ${seen}`],
            next: "berth cluster info   (on the control plane's machine, to compare)",
          },
        );
        socket.destroy();
        done(error, socket);
      };
      if ((socket as TLSSocket & { readonly secureConnecting?: boolean }).secureConnecting === true)
        socket.once("secureConnect", verify).once("error", (error) => done(error, socket));
      else verify();
    };
    const made = super.createConnection(options, (error, socket) =>
      error === null || error === undefined ? check(socket as TLSSocket) : done(error, socket),
    );
    if (made !== null && made !== undefined) check(made as TLSSocket);
    return undefined;
  }
}

/** Connections are kept for the next request of the same command, and do not keep the process alive. */
const KEPT: AgentOptions = { keepAlive: true, maxSockets: 8 };

/** The connection pool for an address. Proxies are those of HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
export function agentFor(url: URL, pins: Pins, env: NodeJS.ProcessEnv): HttpAgent | HttpsAgent {
  const options: AgentOptions = { ...KEPT, proxyEnv: env };
  if (url.protocol === "http:") return new HttpAgent(options);
  // BERTH_CA: an authority in a file, as scripts and tests have it. Pins go before it.
  const authority = env["BERTH_CA"];
  if (authority !== undefined && authority !== "" && pins.root === null && pins.spki === null)
    return new HttpsAgent({ ...options, ca: readNamed("BERTH_CA", authority) });
  return pins.root === null && pins.spki === null ? new HttpsAgent(options) : new PinnedAgent(options, pins);
}
