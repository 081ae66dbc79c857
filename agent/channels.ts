/** Log channels: dialled when a poll's answer asks for one, and fed from the engine's log stream. */
import type { LogFrame } from "../shared/wire/channel.ts";
import type { ChannelAsk } from "../shared/wire/poll.ts";
import { type Engine, EngineError } from "./engine/engine.ts";
import type { Ledger } from "./ledger.ts";
import type { Session, Transport } from "./link/transport.ts";
import type { Policy } from "./policy.ts";
import type { Log, Socket, Sockets } from "./ports.ts";

const DIAL_TIMEOUT_MS = 15_000;
/** A person watches a handful of logs; a hundred of them are somebody's loop. */
const CHANNELS_MAX = 32;

export interface ChannelsInput {
  readonly engine: Engine;
  readonly ledger: Ledger;
  readonly log: Log;
  readonly sockets: Sockets;
  readonly transport: Transport;
  policy(): Policy;
}

export class Channels {
  readonly #input: ChannelsInput;
  readonly #open = new Set<string>();
  #forbidden = new AbortController();

  constructor(input: ChannelsInput) {
    this.#input = input;
  }

  get open(): readonly string[] {
    return [...this.#open];
  }

  answer(ask: ChannelAsk, session: Session, signal: AbortSignal): void {
    if (this.#open.has(ask.id) || this.#open.size >= CHANNELS_MAX || !/^[A-Za-z0-9_-]{1,64}$/.test(ask.id)) return;
    this.#open.add(ask.id);
    this.#stream(ask, session, signal)
      .catch((error: unknown) => this.#input.log.warn({ channel: ask.id, error: String(error) }, "a channel failed"))
      .finally(() => this.#open.delete(ask.id));
  }

  /** The owner may take back what a log that is followed was begun with. */
  policyChanged(): void {
    if (this.#input.policy().logs) return;
    this.#forbidden.abort();
    this.#forbidden = new AbortController();
  }

  async #stream(ask: ChannelAsk, session: Session, signal: AbortSignal): Promise<void> {
    const { sockets, transport } = this.#input;
    const path = `/agent/v1/channels/${ask.id}`;
    const authorization = await transport.authorization(session, { method: "GET", path, body: "" });
    const socket = await sockets.dial({
      url: `${transport.url.replace(/^http/, "ws")}${path}`,
      headers: { authorization },
      timeoutMs: DIAL_TIMEOUT_MS,
      signal,
    });
    const closed = new AbortController();
    socket.closed.then(() => closed.abort());
    try {
      await this.#send(socket, await this.#read(ask, socket, AbortSignal.any([signal, closed.signal, this.#forbidden.signal])));
    } finally {
      socket.close();
    }
  }

  #send(socket: Socket, frame: LogFrame): Promise<void> {
    return socket
      .send(JSON.stringify(frame))
      .catch((error: unknown) => this.#input.log.debug({ error: String(error) }, "a channel was closed"));
  }

  /** The last frame: why there are no more. */
  async #read(ask: ChannelAsk, socket: Socket, signal: AbortSignal): Promise<LogFrame> {
    const { engine, ledger, policy } = this.#input;
    const end = (reason: "eof" | "error", message: string): LogFrame => ({ kind: "end", reason, message: message.slice(0, 512) });
    const forbidden = () => end("error", `the owner of this node does not allow reading logs ("logs" in its policy.json)`);
    if (!policy().logs) return forbidden();
    const containerId = ledger.record(ask.replica)?.containerId ?? null;
    if (containerId === null) return end("error", "this replica has no container on this node");
    try {
      await engine.logs(containerId, {
        follow: ask.follow,
        tail: ask.tail,
        sinceMs: ask.sinceMs,
        timestamps: ask.timestamps,
        signal,
        onLine: ({ stream, at, text, cut }) => socket.send(JSON.stringify({ kind: "line", stream, at, text, cut } satisfies LogFrame)),
      });
      return policy().logs ? end("eof", "") : forbidden();
    } catch (error) {
      if (!policy().logs) return forbidden();
      if (signal.aborted) return end("eof", "");
      return end("error", error instanceof EngineError ? error.message : "the log cannot be read");
    }
  }
}
