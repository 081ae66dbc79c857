/**
 * An agent dials a channel: `GET /agent/v1/channels/{id}` as a WebSocket, with the proof of any other request. Wired to
 * the server's `upgrade` event by the entry, since the app sees requests and not sockets.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import { LogFrame } from "../../../shared/wire/channel.ts";
import { ERA_HEADER, NONCE_HEADER, PROTOCOL_HEADER, PROTOCOL_VERSION } from "../../../shared/wire/version.ts";
import { parseJsonText } from "../../body.ts";
import type { Context } from "../../context.ts";
import { asBerthError, BerthError } from "../../errors.ts";
import type { ChannelSink } from "../../shard/channels.ts";
import { cleanText } from "./clean.ts";
import { prove } from "./proof.ts";

const PATH = /^\/agent\/v1\/channels\/([A-Za-z0-9_-]{1,64})$/;
/** A line of 16,384 characters, each of which JSON may write as six bytes. */
const MESSAGE_BYTES_MAX = 131_072;
/** A link that is dead without saying so is noticed after two of these. */
const PING_MS = 15_000;
const NOTHING = new Uint8Array(0);

const sockets = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false });

/** Takes over the socket; true when the path was a channel's, whatever the answer. */
export async function upgradeChannel(request: IncomingMessage, socket: Duplex, head: Buffer, context: Context): Promise<boolean> {
  const path = request.url ?? "/";
  const id = PATH.exec(path)?.[1];
  if (id === undefined) return false;
  // Until the WebSocket has the socket, an error on it (the agent hung up) is nobody's news.
  const ignore = () => {};
  socket.on("error", ignore);
  try {
    const asked = { method: request.method ?? "GET", path, authorization: onlyAuthorization(request) };
    const { link } = await prove(context, asked, async () => NOTHING);
    if (!context.channels.isAsked(link.row.id, id)) throw new BerthError("not_found", "no such channel is waiting for this node");
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      socket.off("error", ignore);
      join(webSocket, { context, nodeId: link.row.id, id });
    });
  } catch (error) {
    await refuse(socket, context, error);
  }
  return true;
}

/** Node keeps the first of two Authorization headers and hides the second. */
function onlyAuthorization(request: IncomingMessage): string | null {
  const all = request.headersDistinct.authorization ?? [];
  return all.length === 1 ? (all[0] ?? null) : null;
}

function join(
  webSocket: WebSocket,
  { context, nodeId, id }: { readonly context: Context; readonly nodeId: string; readonly id: string },
): void {
  const sink = context.channels.join(nodeId, id, {
    pause: () => webSocket.pause(),
    resume: () => webSocket.resume(),
    close: () => {
      // A paused socket would not read the answer to its close.
      if (webSocket.isPaused) webSocket.resume();
      webSocket.close(1000);
    },
  });
  if (sink === null) {
    webSocket.close(1008, "this channel is taken");
    return;
  }
  const stopPinging = pingWhileOpen(webSocket, context);
  webSocket.on("message", (data, isBinary) => {
    const frame = isBinary ? null : readFrame(String(data));
    if (frame === null) return webSocket.close(1007, "not a log frame");
    sink.frame(frame);
  });
  webSocket.on("error", (error) => context.log.warn({ node: nodeId, error: error.message }, "a channel's socket failed"));
  webSocket.on("close", () => {
    stopPinging();
    (sink satisfies ChannelSink).closed();
  });
}

function readFrame(text: string): LogFrame | null {
  try {
    return cleanText(LogFrame.parse(parseJsonText(text)));
  } catch {
    return null;
  }
}

function pingWhileOpen(webSocket: WebSocket, { clock }: Context): () => void {
  let isAnswered = true;
  let cancel: () => void = () => {};
  const ping = () => {
    if (webSocket.readyState !== WebSocket.OPEN) return;
    // While paused by a slow reader, pongs are not read either: silence then says nothing.
    if (!isAnswered && !webSocket.isPaused) return webSocket.terminate();
    isAnswered = false;
    webSocket.ping();
    cancel = clock.after(PING_MS, ping);
  };
  webSocket.on("pong", () => {
    isAnswered = true;
  });
  cancel = clock.after(PING_MS, ping);
  return () => cancel();
}

async function refuse(socket: Duplex, context: Context, thrown: unknown): Promise<void> {
  const error = asBerthError(thrown);
  if (error.code === "internal") context.log.error({ error: String(thrown) }, "a channel could not be opened");
  const body = JSON.stringify(error.toBody());
  const head = [
    `HTTP/1.1 ${error.status} Refused`,
    "Connection: close",
    "Content-Type: application/json",
    `Content-Length: ${new TextEncoder().encode(body).length}`,
    `${NONCE_HEADER}: ${await context.signer.nonce()}`,
    `${ERA_HEADER}: ${context.shard.cluster.era}`,
    `${PROTOCOL_HEADER}: ${PROTOCOL_VERSION}`,
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
