/**
 * The control plane as one Node process over one libSQL file: `berth server`, and inside `berth up`. Makes everything that
 * the app needs from the world, and stops in the order in which nothing is lost: no new requests, held ones answered,
 * running ones finished, then the database.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { createServer as createHttpServer, type Server } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { isIP, type Socket } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join, resolve } from "node:path";
import { getRequestListener } from "@hono/node-server";
import pino from "pino";
import { errorText } from "./error-text.ts";
import { ServerUrl } from "../shared/api/resources.ts";
import type { AddressInfo } from "./address.ts";
import { createApp } from "./app.ts";
import { hashToken, isToken, newToken } from "./auth.ts";
import type { Context } from "./context.ts";
import { makeDist } from "./dist.ts";
import { BerthError } from "./errors.ts";
import { createCluster, type KeyFiles } from "./init.ts";
import { keyFilesIn } from "./key-files.ts";
import { makeSigner, thumbprint } from "./keys.ts";
import { externalAddresses, temporaryAddresses } from "./local-addresses.ts";
import { newId } from "./new-id.ts";
import type { Clock, Log, Random } from "./ports.ts";
import { makeRegistry } from "./registry.ts";
import { Rehearsals } from "./rehearsals.ts";
import { rollBack } from "./roll-back.ts";
import { upgradeChannel } from "./routes/agent/upgrade.ts";
import { Channels } from "./shard/channels.ts";
import { makePlanning } from "./shard/planning.ts";
import { Shard } from "./shard/shard.ts";
import { makeTicking } from "./shard/ticking.ts";
import { Snapshots } from "./snapshots.ts";
import { collect } from "./store/collect.ts";
import { NOW } from "./store/commit-types.ts";
import { openDatabaseFile } from "./store/database-embedded.ts";
import { readTokens } from "./store/read-tokens.ts";
import { readClusterInfo } from "./store/read-cluster.ts";
import { Store } from "./store/store.ts";
import { renewDaily } from "./certificate-renewal.ts";
import { ownCertificate, type ServerCertificate, suppliedCertificate } from "./tls.ts";

export interface ServerOptions {
  readonly dataDir: string;
  /** Address to listen on; anything but loopback is served over TLS. */
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** PEM files; without them and off loopback the cluster makes a certificate of its own. */
  readonly cert?: string;
  readonly key?: string;
  /** A proxy in front terminates TLS: plain HTTP here, whatever the address. */
  readonly behindProxy?: boolean;
  /** How machines reach it, where that is not the address listened on. */
  readonly url?: string;
  /** Hosts with port whose image registries speak plain HTTP, besides loopback. */
  readonly plainRegistries?: readonly string[];
  readonly log?: Log;
}

export interface RunningServer {
  readonly url: string;
  /** What it listens on, where 0 was asked for. */
  readonly port: number;
  readonly address: AddressInfo;
  /** Thumbprint of the cluster's root key. */
  readonly root: string;
  /** What the data folder's `admin-token` holds; null when the operator took the file away. */
  readonly adminToken: string | null;
  close(): Promise<void>;
}

const ADMIN_TOKEN_FILE = "admin-token";
/** Requests that run get this long to finish when the server stops. */
const FINISH_MS = 10_000;
/** A header block of ours is under 2 KB; a body of 1 MB at 50 KB/s takes 20 s. */
const LIMITS = {
  maxHeaderSize: 16_384,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 5_000,
} as const;
const HANDSHAKE_MS = 10_000;
const COLLECT_EVERY_MS = 600_000;

/** Rejects with `code: "EADDRINUSE"` when the port is taken, and with DatabaseInUseError when another server has the folder. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  if (options.url !== undefined && !ServerUrl.safeParse(options.url).success)
    throw new Error(`${options.url} is not an address like https://berth.example.com:7420 (scheme, host and port alone)`);
  const dataDir = resolve(options.dataDir);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const log = options.log ?? stderrLog();
  const database = await openDatabaseFile(join(dataDir, "berth.db"));
  const stops: (() => Promise<void> | void)[] = [() => database.close()];
  try {
    const store = await Store.open(database);
    const files = keyFilesIn(join(dataDir, "keys"));
    const { ring } = await createCluster({ store, files, random });
    const adminToken = await ensureAdminToken(store, keyFilesIn(dataDir));
    const make = () => certificateOf(options, { files, dir: join(dataDir, "tls"), log });
    const certificate = await make();
    const door = new Door(certificate);
    stops.push(() => door.close());
    const port = await door.listen(options.host, options.port);
    const address = addressOf(options, { port, certificate });

    const snapshots = new Snapshots(store);
    const signer = await makeSigner(ring);
    const shard: Shard = new Shard({
      store,
      clock,
      random,
      log,
      planning: makePlanning({ store, snapshots, rollBack: (ask) => rollBack(context, ask) }),
      ticking: makeTicking({ store, signer }),
    });
    const channels = new Channels({ clock, random, wake: (id) => shard.wake(id) });
    const registry = makeRegistry({ plain: new Set(options.plainRegistries ?? []), log });
    const rehearsals = new Rehearsals(clock);
    const context: Context = { store, shard, channels, snapshots, rehearsals, signer, registry, clock, random, log, address };
    await shard.start();
    stops.push(async () => {
      await shard.stop();
      channels.stop();
    });
    stops.push(collectRegularly(store, log));
    if (certificate !== null)
      stops.push(
        renewDaily({
          served: certificate,
          make: async () => (await make()) ?? certificate,
          serve: (made) => door.secure(made),
          clock,
          log,
        }),
      );
    door.open(createApp(context, makeDist(join(dataDir, "dist"))).fetch, context);
    log.info({ url: address.url, version: process.version }, "listening");

    let closing: Promise<void> | null = null;
    const close = async () => {
      door.refuseNew();
      // In the opposite order of starting: what answers held requests stops before the door waits for them.
      for (const stop of stops.reverse()) await stop();
      log.info({}, "stopped");
    };
    const { cluster } = await readClusterInfo(store, null);
    return {
      url: address.url,
      port,
      address,
      root: await thumbprint(cluster.rootKey),
      adminToken,
      close: () => {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    for (const stop of stops.reverse()) await stop();
    throw error;
  }
}

type Fetch = ReturnType<typeof createApp>["fetch"];

/** The listening socket. Opened before the app is made, because the app has to know its port. */
class Door {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #fetch: Fetch = () => refusal("the control plane is starting");
  #isClosing = false;

  constructor(certificate: ServerCertificate | null) {
    const listener = getRequestListener(
      (request, env) => (this.#isClosing ? refusal("the control plane is stopping") : this.#fetch(request, env)),
      { overrideGlobalObjects: false },
    );
    const handle = (...args: Parameters<typeof listener>) => void listener(...args);
    this.#server =
      certificate === null
        ? createHttpServer(LIMITS, handle)
        : (createHttpsServer(
            { ...LIMITS, cert: certificate.cert, key: certificate.key, minVersion: "TLSv1.2", handshakeTimeout: HANDSHAKE_MS },
            handle,
          ) as unknown as Server);
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  listen(host: string, port: number): Promise<number> {
    return new Promise((done, fail) => {
      this.#server.once("error", fail);
      this.#server.listen(port, host, () => {
        this.#server.off("error", fail);
        const at = this.#server.address();
        done(typeof at === "object" && at !== null ? at.port : port);
      });
    });
  }

  open(fetch: Fetch, context: Context): void {
    this.#fetch = fetch;
    this.#server.on("upgrade", (request, socket, head) => {
      upgradeChannel(request, socket, head, context)
        .then((isTaken) => {
          if (!isTaken) socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        })
        .catch((error: unknown) => {
          context.log.error({ error: errorText(error) }, "an upgrade failed");
          socket.destroy();
        });
    });
  }

  /** For connections from now on. */
  secure({ cert, key }: ServerCertificate): void {
    (this.#server as unknown as HttpsServer).setSecureContext({ cert, key, minVersion: "TLSv1.2" });
  }

  refuseNew(): void {
    this.#isClosing = true;
    this.#server.close();
  }

  /** Waits for the requests that run, then cuts what is left, sockets that were upgraded included. */
  async close(): Promise<void> {
    this.refuseNew();
    const endMs = performance.now() + FINISH_MS;
    while (this.#sockets.size > 0 && performance.now() < endMs) {
      this.#server.closeIdleConnections();
      await new Promise((look) => setTimeout(look, 20));
    }
    for (const socket of this.#sockets) socket.destroy();
  }
}

function refusal(message: string): Response {
  const error = new BerthError("unavailable", message, { retryAfterS: 1 });
  return new Response(JSON.stringify(error.toBody()), {
    status: error.status,
    headers: { "content-type": "application/json", "retry-after": "1", connection: "close" },
  });
}

async function certificateOf(
  { host, cert, key, behindProxy, url }: ServerOptions,
  own: { files: KeyFiles; dir: string; log: Log },
): Promise<ServerCertificate | null> {
  if (behindProxy === true) return null;
  if (cert !== undefined && key !== undefined) return suppliedCertificate(cert, key);
  if (isLoopback(host)) return null;
  const named = url === undefined ? [] : [new URL(url).hostname.replace(/^\[|\]$/g, "")];
  const listened = isWildcard(host) ? [hostname(), ...localAddresses()] : [host];
  const hosts = [...new Set([...listened, ...named, "localhost", "127.0.0.1"])].filter(
    (name) => isIP(name) !== 0 || /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i.test(name),
  );
  return await ownCertificate({ ...own, hosts, nowMs: Date.now() });
}

/** A certificate that the operator supplied is checked by its chain and changes with each renewal: no pin. */
function addressOf(
  { host, url, cert }: ServerOptions,
  { port, certificate }: { port: number; certificate: ServerCertificate | null },
): AddressInfo {
  const spki = certificate === null || cert !== undefined ? null : certificate.spki;
  if (url !== undefined) return { url: url.replace(/\/+$/, ""), spki };
  const name = isWildcard(host) ? (localAddresses()[0] ?? "127.0.0.1") : host;
  return { url: `${certificate === null ? "http" : "https"}://${isIP(name) === 6 ? `[${name}]` : name}:${port}`, spki };
}

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || host.startsWith("127.");
const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::";

function localAddresses(): string[] {
  let list = "";
  try {
    list = readFileSync("/proc/net/if_inet6", "utf8");
  } catch {
    // Not Linux, or no IPv6.
  }
  return externalAddresses(networkInterfaces(), temporaryAddresses(list));
}

/** The first token, made with the cluster. The file comes first: a crash between the two leaves a file whose token is then stored. */
async function ensureAdminToken(store: Store, files: KeyFiles): Promise<string | null> {
  const held = (await files.read(ADMIN_TOKEN_FILE))?.trim() ?? null;
  const { tokens } = await readTokens(store, null);
  if (tokens.length > 0) return held;
  const token = held !== null && isToken(held) ? held : newToken(random);
  if (held === null) await files.create(ADMIN_TOKEN_FILE, `${token}\n`);
  const id = newId(random, "t");
  const result = await store.commit({
    changes: [
      {
        op: "insert",
        table: "tokens",
        rows: [{ id, hash: hashToken(token), name: "admin", role: "admin", namespace: null, createdMs: NOW, expiresMs: null }],
      },
    ],
    audit: { actor: "berth", verb: "create", namespace: null, object: `token/${id}`, detail: "the first admin token" },
  });
  if (result.kind !== "committed") throw new Error(`the first token could not be stored: ${result.kind}`);
  return token;
}

function collectRegularly(store: Store, log: Log): () => void {
  let cancel = () => {};
  const run = async () => {
    try {
      const { more } = await collect(store);
      schedule(more ? 1_000 : COLLECT_EVERY_MS);
    } catch (error) {
      log.warn({ error: errorText(error) }, "collecting old rows failed; trying again later");
      schedule(COLLECT_EVERY_MS);
    }
  };
  let isStopped = false;
  const schedule = (ms: number) => {
    if (!isStopped) cancel = clock.after(ms, () => void run());
  };
  schedule(60_000);
  return () => {
    isStopped = true;
    cancel();
  };
}

const random: Random = { bytes: (count) => crypto.getRandomValues(new Uint8Array(count)) };

const clock: Clock = {
  nowMs: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

function stderrLog(): Log {
  const out = pino(
    { level: process.env.BERTH_LOG ?? "info", base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
  return {
    info: (fields, message) => out.info(fields, message),
    warn: (fields, message) => out.warn(fields, message),
    error: (fields, message) => out.error(fields, message),
  };
}
