/**
 * The relay for sessions through NAT: an operator's request waits here while the node it is about is asked, in its next
 * poll answer, to dial out. Both ends are joined by a bounded queue.
 *
 * - A channel belongs to one node: only that node's proof may dial it, and only once.
 * - The queue holds at most 1 MiB. A full one stops reading from the agent, whose socket then fills up, whose reads of
 *   the engine then stop: a slow reader slows the source and takes no memory here.
 * - Each namespace, and each token of all of them, has a share of them.
 * - Whoever goes away first ends it for the other.
 */
import { base64url } from "jose";
import type { LogFrame } from "../../shared/wire/channel.ts";
import type { ChannelAsk } from "../../shared/wire/poll.ts";
import { BerthError } from "../errors.ts";
import type { Clock, Random } from "../ports.ts";
import type { Share } from "../share.ts";

/** One poll hold is cut short by the ask, so a healthy agent dials within a round trip; 10 s covers a slow link's TLS. */
const DIAL_TIMEOUT_MS = 10_000;
const TELL_AGAIN_MS = 2_000;
/** As the poll answer's schema has it. */
const ASKS_AN_ANSWER_MAX = 64;
const QUEUE_CHARS_MAX = 1_048_576;
/** A node's agent reads that many logs at once at most; all channels together bound the sockets of this process. */
const CHANNELS_A_NODE_MAX = 64;
const CHANNELS_MAX = 1_000;
/** A quarter of each, so that no tenant's streams take all and four may have theirs at once. */
const CHANNELS_A_NODE_AND_SHARE_MAX = 16;
const CHANNELS_A_SHARE_MAX = 250;

export interface LogAsk extends Omit<ChannelAsk, "id" | "kind"> {
  readonly nodeId: string;
  /** Id of the token that asks. */
  readonly token: string;
  readonly share: Share;
  /** The reader has gone. Leaving the loop is not enough where the loop itself waits for the next line. */
  readonly signal?: AbortSignal;
}

/** The agent's end, as its socket sees it. */
export interface AgentEnd {
  /** Stop or go on reading from the socket. */
  pause(): void;
  resume(): void;
  close(): void;
}

/** What the socket calls. */
export interface ChannelSink {
  frame(frame: LogFrame): void;
  /** The socket is closed, cleanly or not. */
  closed(): void;
}

export interface ChannelsParts {
  readonly clock: Clock;
  readonly random: Random;
  /** Makes the node's held poll look again. */
  readonly wake: (nodeId: string) => void;
}

type Holder = Pick<LogAsk, "nodeId" | "token" | "share">;

class Channel {
  readonly ask: ChannelAsk;
  readonly nodeId: string;
  readonly token: string;
  readonly share: Share;
  state: "asked" | "dialled" | "ended" = "asked";
  end: AgentEnd | null = null;
  failure: BerthError | null = null;
  cancelDialTimer: () => void = () => {};
  /** When a poll was last told of it. */
  toldMs = Number.NEGATIVE_INFINITY;
  readonly #queue: LogFrame[] = [];
  #chars = 0;
  #isPaused = false;
  #wake: (() => void) | null = null;

  constructor({ nodeId, token, share }: Holder, ask: ChannelAsk) {
    this.nodeId = nodeId;
    this.token = token;
    this.share = share;
    this.ask = ask;
  }

  push(frame: LogFrame): void {
    if (this.state === "ended") return;
    this.#queue.push(frame);
    this.#chars += sizeOf(frame);
    if (this.#chars >= QUEUE_CHARS_MAX && !this.#isPaused) {
      this.#isPaused = true;
      this.end?.pause();
    }
    this.#notify();
  }

  finish(failure: BerthError | null): void {
    if (this.state === "ended") return;
    this.state = "ended";
    this.failure = failure;
    this.cancelDialTimer();
    this.end?.close();
    this.#notify();
  }

  /** Ends it without what waits in it. */
  cut(failure: BerthError): void {
    this.#queue.length = 0;
    this.#chars = 0;
    this.finish(failure);
  }

  /** The next frame; null: ended. Throws what ended it, after the frames before it. */
  async next(): Promise<LogFrame | null> {
    for (;;) {
      const frame = this.#queue.shift();
      if (frame !== undefined) {
        this.#chars -= sizeOf(frame);
        if (this.#isPaused && this.#chars < QUEUE_CHARS_MAX / 2) {
          this.#isPaused = false;
          this.end?.resume();
        }
        return frame;
      }
      if (this.failure !== null) throw this.failure;
      if (this.state === "ended") return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = null;
  }
}

/** A frame's share of the queue; the constant stands for its fields and the object itself. */
const sizeOf = (frame: LogFrame): number => 128 + (frame.kind === "line" ? frame.text.length : frame.message.length);

/** Channels by what they have in common. */
class Groups {
  readonly #groups = new Map<string, Set<Channel>>();

  of(key: string): readonly Channel[] {
    return [...(this.#groups.get(key) ?? [])];
  }

  keys(): readonly string[] {
    return [...this.#groups.keys()];
  }

  count(key: string): number {
    return this.#groups.get(key)?.size ?? 0;
  }

  add(key: string, channel: Channel): void {
    const group = this.#groups.get(key) ?? new Set();
    this.#groups.set(key, group.add(channel));
  }

  delete(key: string, channel: Channel): void {
    const group = this.#groups.get(key);
    group?.delete(channel);
    if (group?.size === 0) this.#groups.delete(key);
  }
}

export class Channels {
  readonly #parts: ChannelsParts;
  readonly #channels = new Map<string, Channel>();
  readonly #ofNode = new Groups();
  readonly #ofShare = new Groups();
  readonly #ofToken = new Groups();

  constructor(parts: ChannelsParts) {
    this.#parts = parts;
  }

  /**
   * Asks the node for a replica's logs. Ends after an `end` frame or when the agent closes; leaving the loop closes the
   * agent's side. Throws `rate_limited` when too many are open, and `unreachable` when the node does not dial.
   */
  async *open({ signal, ...ask }: LogAsk): AsyncGenerator<LogFrame, void, void> {
    if (signal?.aborted === true) return;
    const channel = this.#make(ask);
    const onAbort = () => channel.finish(null);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        const frame = await channel.next();
        if (frame === null) return;
        yield frame;
        if (frame.kind === "end") return;
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      channel.finish(null);
      this.#forget(channel);
    }
  }

  /** Why no further channel can be opened; null: one can. */
  refusal({ nodeId, share }: Omit<Holder, "token">): BerthError | null {
    const ofNode = this.#ofNode.of(nodeId);
    const ofNodeAndShare = ofNode.filter((channel) => channel.share.key === share.key).length;
    const limits: readonly (readonly [count: number, max: number, what: string])[] = [
      [ofNodeAndShare, CHANNELS_A_NODE_AND_SHARE_MAX, `log streams of ${share.name} from this node`],
      [this.#ofShare.count(share.key), CHANNELS_A_SHARE_MAX, `log streams of ${share.name}`],
      [ofNode.length, CHANNELS_A_NODE_MAX, "log streams from this node"],
      [this.#channels.size, CHANNELS_MAX, "log streams"],
    ];
    const reached = limits.find(([count, max]) => count >= max);
    if (reached === undefined) return null;
    return new BerthError("rate_limited", `${reached[1]} ${reached[2]} are open, as many as may be; close some`, { retryAfterS: 5 });
  }

  #make({ nodeId, token, share, ...ask }: Omit<LogAsk, "signal">): Channel {
    const refusal = this.refusal({ nodeId, share });
    if (refusal !== null) throw refusal;
    const { clock, random, wake } = this.#parts;
    const channel = new Channel({ nodeId, token, share }, { ...ask, id: base64url.encode(random.bytes(16)), kind: "logs" });
    channel.cancelDialTimer = clock.after(DIAL_TIMEOUT_MS, () =>
      channel.finish(new BerthError("unreachable", `the node did not answer within ${DIAL_TIMEOUT_MS / 1000} s`)),
    );
    this.#channels.set(channel.ask.id, channel);
    this.#ofNode.add(nodeId, channel);
    this.#ofShare.add(share.key, channel);
    this.#ofToken.add(token, channel);
    wake(nodeId);
    return channel;
  }

  #forget(channel: Channel): void {
    this.#channels.delete(channel.ask.id);
    this.#ofNode.delete(channel.nodeId, channel);
    this.#ofShare.delete(channel.share.key, channel);
    this.#ofToken.delete(channel.token, channel);
  }

  /**
   * What a poll of this node is to be told now, without those it says it has dialled. Told again after a while, since an
   * answer may be lost; not at once, or an agent that will not dial would poll without pause.
   */
  takeAsks(nodeId: string, known: readonly string[]): ChannelAsk[] {
    const nowMs = this.#parts.clock.nowMs();
    const due = this.#ofNode
      .of(nodeId)
      .filter((channel) => channel.state === "asked" && !known.includes(channel.ask.id) && nowMs - channel.toldMs >= TELL_AGAIN_MS);
    for (const channel of due) channel.toldMs = nowMs;
    return due.slice(0, ASKS_AN_ANSWER_MAX).map((channel) => channel.ask);
  }

  /** Whether this node may dial this channel now. */
  isAsked(nodeId: string, id: string): boolean {
    const channel = this.#channels.get(id);
    return channel !== undefined && channel.nodeId === nodeId && channel.state === "asked";
  }

  /** Joins the node's socket; null: no such channel, another node's, or dialled already. */
  join(nodeId: string, id: string, end: AgentEnd): ChannelSink | null {
    const channel = this.#channels.get(id);
    if (channel === undefined || !this.isAsked(nodeId, id)) return null;
    channel.state = "dialled";
    channel.end = end;
    channel.cancelDialTimer();
    return { frame: (frame) => channel.push(frame), closed: () => channel.finish(null) };
  }

  /** Ids of the tokens that have one open. */
  tokens(): readonly string[] {
    return this.#ofToken.keys();
  }

  /** Ends those of a token that is worth nothing any more; what waits in them goes nowhere. */
  revoke(token: string, failure: BerthError): void {
    for (const channel of this.#ofToken.of(token)) channel.cut(failure);
  }

  /** Ends all, at shutdown. */
  stop(): void {
    for (const channel of this.#channels.values()) channel.finish(new BerthError("unavailable", "the control plane is stopping"));
  }
}
