/**
 * The Http port over undici, and the dialling that WebSockets share: through HTTPS_PROXY, with a custom CA or a pinned
 * certificate key.
 *
 * Trust. With a pin, the certificate's key must be exactly that one and nothing else is asked (the control plane's own
 * certificate is self-signed). Without one, the chain must end in a known CA and the name must match. A failure on
 * dates alone is tolerated while this machine's wall clock is before the agent's own build: edge boards boot in 1970,
 * and what is received is signed under the pinned root anyway. Nothing is sent before the decision.
 */
import { createHash, X509Certificate } from "node:crypto";
import { connect as connectTcp, type Socket as TcpSocket } from "node:net";
import { connect as connectTls, rootCertificates, type TLSSocket } from "node:tls";
import { Agent } from "undici";
import { type Http, HttpError } from "../ports.ts";

/** A manifest of 10,000 assignments is 4 MB. */
const BODY_MAX_BYTES = 16 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;
const CONNECT_ANSWER_MAX_BYTES = 16_384;

export interface Trust {
  /** SHA-256 of the certificate's SubjectPublicKeyInfo, base64url; null: by CA. */
  readonly spki: string | null;
  /** PEM of CAs besides the well-known ones. */
  readonly ca: string | null;
  /** Dates alone may fail while the wall clock is before this. */
  readonly notBeforeWallMs: number;
  readonly wallMs: () => number;
}

/** As curl reads them; lower case wins. */
export interface ProxyEnvironment {
  readonly https_proxy?: string | undefined;
  readonly HTTPS_PROXY?: string | undefined;
  readonly http_proxy?: string | undefined;
  readonly HTTP_PROXY?: string | undefined;
  readonly all_proxy?: string | undefined;
  readonly ALL_PROXY?: string | undefined;
  readonly no_proxy?: string | undefined;
  readonly NO_PROXY?: string | undefined;
}

/** The proxy for a target, or null to go direct. NO_PROXY: names with their subdomains, addresses, `host:port`, `*`. */
export function proxyFor(target: URL, env: ProxyEnvironment): URL | null {
  const { https_proxy = env.HTTPS_PROXY, http_proxy = env.HTTP_PROXY, all_proxy = env.ALL_PROXY, no_proxy = env.NO_PROXY } = env;
  const own = target.protocol === "https:" || target.protocol === "wss:" ? https_proxy : http_proxy;
  const proxy = own === undefined || own === "" ? all_proxy : own;
  if (proxy === undefined || proxy === "") return null;
  const host = target.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  const port = portOf(target);
  for (const raw of (no_proxy ?? "").split(/[\s,]+/)) {
    const [, name = "", ownPort] = /^\*?\.?(.*?)(?::(\d+))?$/.exec(raw.toLowerCase()) ?? [];
    if (raw === "*") return null;
    if (name === "" || (ownPort !== undefined && Number(ownPort) !== port)) continue;
    if (host === name || host.endsWith(`.${name}`)) return null;
  }
  return new URL(proxy.includes("://") ? proxy : `http://${proxy}`);
}

const portOf = (url: URL): number => (url.port !== "" ? Number(url.port) : url.protocol === "https:" || url.protocol === "wss:" ? 443 : 80);

/** An open connection to the target's host, checked. Rejects with HttpError. */
export async function dial(
  target: URL,
  options: { readonly trust: Trust; readonly env: ProxyEnvironment },
): Promise<TcpSocket | TLSSocket> {
  const proxy = proxyFor(target, options.env);
  const isSecure = target.protocol === "https:" || target.protocol === "wss:";
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const raw = proxy === null ? await openTcp(host, portOf(target)) : await tunnel(proxy, `${target.hostname}:${portOf(target)}`);
  return isSecure ? secure(raw, host, options.trust) : raw;
}

function settle<S extends TcpSocket>(socket: S, event: string, what: string): Promise<S> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => socket.destroy(new HttpError("timeout", `${what}: no answer in ${CONNECT_TIMEOUT_MS / 1000} s`)),
      CONNECT_TIMEOUT_MS,
    );
    const failed = (error?: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(
        error instanceof HttpError
          ? error
          : new HttpError(
              event === "secureConnect" ? "tls" : "unreachable",
              `${what}: ${error === undefined ? "the connection was closed" : reasonOf(error)}`,
              error,
            ),
      );
    };
    socket.once("error", failed);
    socket.once("close", () => failed());
    socket.once(event, () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      socket.removeAllListeners("close");
      // Until its new owner listens: an unheard error would end the process.
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

/** Several addresses failed: the first says as much as all. */
function reasonOf(error: Error): string {
  const first = error instanceof AggregateError ? (error.errors[0] as Error) : error;
  return first.message;
}

const openTcp = (host: string, port: number): Promise<TcpSocket> =>
  settle(connectTcp({ host, port, keepAlive: true, noDelay: true }), "connect", `connecting to ${host}:${port}`);

async function tunnel(proxy: URL, authority: string): Promise<TcpSocket> {
  const host = proxy.hostname.replace(/^\[|\]$/g, "");
  const plain = await openTcp(host, portOf(proxy));
  const socket =
    proxy.protocol === "https:"
      ? await settle(connectTls({ socket: plain, servername: host }), "secureConnect", `connecting to the proxy ${proxy.host}`)
      : plain;
  const login =
    proxy.username === ""
      ? ""
      : `Proxy-Authorization: Basic ${Buffer.from(`${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`).toString("base64")}\r\n`;
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${login}\r\n`);
  const status = await connectAnswer(socket, `the proxy ${proxy.host}`);
  if (status !== 200) {
    socket.destroy();
    throw new HttpError("unreachable", `the proxy ${proxy.host} refused to connect to ${authority} (status ${status})`);
  }
  return socket;
}

/**
 * The status of the answer to CONNECT. By `readable`, which leaves the stream as new when its listener goes: whoever gets
 * the socket next begins to read as from a fresh one.
 */
function connectAnswer(socket: TcpSocket, what: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let head = "";
    const finish = (work: () => void) => {
      clearTimeout(timer);
      socket.off("readable", onReadable).off("error", onEnd).off("close", onEnd);
      work();
    };
    const timer = setTimeout(() => {
      finish(() => reject(new HttpError("timeout", `${what} did not answer in ${CONNECT_TIMEOUT_MS / 1000} s`)));
      socket.destroy();
    }, CONNECT_TIMEOUT_MS);
    const onEnd = () => finish(() => reject(new HttpError("unreachable", `${what} closed the connection`)));
    const onReadable = () => {
      for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) head += chunk.toString("latin1");
      const end = head.indexOf("\r\n\r\n");
      if (end < 0 && head.length > CONNECT_ANSWER_MAX_BYTES) socket.destroy();
      if (end < 0) return;
      const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
      const rest = head.slice(end + 4);
      finish(() => {
        if (rest !== "") socket.unshift(Buffer.from(rest, "latin1"));
        resolve(status);
      });
    };
    socket.on("readable", onReadable).once("error", onEnd).once("close", onEnd);
  });
}

async function secure(raw: TcpSocket, host: string, trust: Trust): Promise<TLSSocket> {
  const ca = trust.ca === null ? undefined : [...rootCertificates, trust.ca];
  const isAddress = /^[\d.]+$|:/.test(host);
  // Judged below, before a byte of ours is sent.
  const socket = await settle(
    connectTls({
      socket: raw,
      ...(isAddress ? {} : { servername: host }),
      rejectUnauthorized: false,
      // Named in `judge`: without a server name, as for an address, this would ask for "localhost".
      checkServerIdentity: () => undefined,
      ALPNProtocols: ["http/1.1"],
      ...(ca === undefined ? {} : { ca }),
    }),
    "secureConnect",
    `TLS with ${host}`,
  );
  const failure = judge(socket, host, trust);
  if (failure === null) return socket;
  socket.destroy();
  throw failure;
}

function judge(socket: TLSSocket, host: string, trust: Trust): HttpError | null {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return new HttpError("tls", `${host} sent no certificate`);
  if (trust.spki !== null) {
    const found = createHash("sha256")
      .update(certificate.publicKey.export({ type: "spki", format: "der" }))
      .digest("base64url");
    return found === trust.spki
      ? null
      : new HttpError(
          "pin",
          `the certificate of ${host} has another key (${found}) than the one that was pinned at joining (${trust.spki}): something stands in between, or the control plane's certificate was replaced`,
        );
  }
  const isNamed = (/^[\d.]+$|:/.test(host) ? certificate.checkIP(host) : certificate.checkHost(host)) !== undefined;
  if (!isNamed)
    return new HttpError("tls", `the certificate of ${host} is for another name (${certificate.subjectAltName ?? certificate.subject})`);
  // By OpenSSL's verdict on the chain; our own walk is only for a clock that cannot know the date.
  if (socket.authorized) return null;
  const reason = socket.authorizationError instanceof Error ? socket.authorizationError.message : String(socket.authorizationError);
  if (trust.wallMs() < trust.notBeforeWallMs && isChainTrusted(certificate, trust)) return null;
  return new HttpError("tls", `the certificate of ${host} is not trusted: ${reason}`);
}

/** Every signature up to a known CA, dates left out. */
function isChainTrusted(leaf: X509Certificate, trust: Trust): boolean {
  const anchors = [...rootCertificates, ...(trust.ca === null ? [] : [trust.ca])].map((pem) => new X509Certificate(pem));
  let certificate = leaf;
  // A chain of a public CA has 3 or 4 links.
  for (let links = 0; links < 8; links++) {
    const current = certificate;
    if (anchors.some((anchor) => anchor.fingerprint256 === current.fingerprint256)) return true;
    if (anchors.some((anchor) => current.checkIssued(anchor) && current.verify(anchor.publicKey))) return true;
    const issuer = current.issuerCertificate;
    if (
      issuer === undefined ||
      issuer.fingerprint256 === current.fingerprint256 ||
      !issuer.ca ||
      !current.checkIssued(issuer) ||
      !current.verify(issuer.publicKey)
    )
      return false;
    certificate = issuer;
  }
  return false;
}

export function openHttp(options: { readonly trust: Trust; readonly env: ProxyEnvironment }): Http & { close(): Promise<void> } {
  const dispatcher = new Agent({
    connections: 8,
    pipelining: 1,
    // NATs and proxies forget idle connections: reuse only what was in use a moment ago.
    keepAliveTimeout: 8_000,
    keepAliveMaxTimeout: 8_000,
    // Time limits are the caller's, for the whole exchange.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: ({ protocol, hostname, port }, done) => {
      const target = new URL(
        `${protocol}//${hostname.includes(":") ? `[${hostname.replace(/^\[|\]$/g, "")}]` : hostname}${port === "" ? "" : `:${port}`}`,
      );
      dial(target, options).then(
        (socket) => done(null, socket),
        (error: Error) => done(error, null),
      );
    },
  });
  return {
    async request({ method, url, headers, body, timeoutMs, signal }) {
      const limit = AbortSignal.timeout(timeoutMs);
      try {
        const { origin, pathname, search } = new URL(url);
        const answer = await dispatcher.request({
          origin,
          path: pathname + search,
          method,
          headers: { ...headers },
          body: body ?? null,
          signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
        });
        const text = await readText(answer.body);
        return {
          status: answer.statusCode,
          header: (name) => {
            const value = answer.headers[name.toLowerCase()];
            return Array.isArray(value) ? (value[0] ?? null) : (value ?? null);
          },
          body: text,
        };
      } catch (error) {
        throw asHttpError(error, { isTimeout: limit.aborted, isAborted: signal?.aborted === true, timeoutMs });
      }
    },
    close: () => dispatcher.destroy(),
  };
}

async function readText(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > BODY_MAX_BYTES) throw new HttpError("tooLarge", `an answer of over ${BODY_MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function asHttpError(
  error: unknown,
  { isTimeout, isAborted, timeoutMs }: { isTimeout: boolean; isAborted: boolean; timeoutMs: number },
): HttpError {
  if (error instanceof HttpError) return error;
  if (isAborted) return new HttpError("aborted", "called off", error);
  if (isTimeout) return new HttpError("timeout", `no whole answer in ${timeoutMs / 1000} s`, error);
  const cause = error instanceof Error && error.cause instanceof HttpError ? error.cause : null;
  return cause ?? new HttpError("unreachable", error instanceof Error ? reasonOf(error) : String(error), error);
}
