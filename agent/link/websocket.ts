/** The Sockets port over ws, dialled as every other request: through the proxy, with the CA or the pin. */
import { WebSocket } from "ws";
import { HttpError, type Socket, type Sockets } from "../ports.ts";
import { dial, type ProxyEnvironment, type Trust } from "./http.ts";

/** Bytes that may wait in the socket: more, and the writer waits. */
const BUFFER_MAX_BYTES = 262_144;
const CLOSE_TIMEOUT_MS = 5_000;

export function openSockets(options: { readonly trust: Trust; readonly env: ProxyEnvironment }): Sockets {
  return {
    async dial({ url, headers, timeoutMs, signal }) {
      const target = new URL(url);
      const connection = await dial(target, options);
      const socket = new WebSocket(url, {
        headers: { ...headers },
        createConnection: () => connection,
        handshakeTimeout: timeoutMs,
        perMessageDeflate: false,
        maxPayload: 65_536,
      });
      await new Promise<void>((resolve, reject) => {
        socket.once("open", resolve);
        socket.once("error", (error) => reject(new HttpError("unreachable", `opening a channel: ${error.message}`, error)));
        signal.addEventListener("abort", () => socket.terminate(), { once: true });
      });
      socket.on("error", () => undefined);
      return wrap(socket);
    },
  };
}

function wrap(socket: WebSocket): Socket {
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  return {
    closed,
    send: (text) =>
      new Promise((resolve, reject) => {
        if (socket.readyState !== socket.OPEN) return reject(new HttpError("unreachable", "the channel is closed"));
        socket.send(text, (error) => {
          if (error !== undefined && error !== null) reject(new HttpError("unreachable", error.message, error));
          else if (socket.bufferedAmount > BUFFER_MAX_BYTES) resolve();
        });
        // Under the limit the next line need not wait for this one to leave.
        if (socket.bufferedAmount <= BUFFER_MAX_BYTES) resolve();
      }),
    close: () => {
      socket.close();
      setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS).unref();
    },
  };
}
