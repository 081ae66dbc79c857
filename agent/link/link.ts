/**
 * The loop over the link: asks for a session, holds a poll, waits when it cannot. Its states and what each event does to
 * them are the table in shared/converge/link.ts; here is what the states do. A dead link stops nothing on the node.
 */
import { LINK_ACTIONS, type LinkEvent, type LinkState, nextLinkState, pauseMs } from "../../shared/converge/link.ts";
import type { KeySet } from "../../shared/wire/keys.ts";
import { type ChannelAsk, PollAnswer, type PollRequest } from "../../shared/wire/poll.ts";
import { encode64 } from "../crypto.ts";
import { pause } from "../pause.ts";
import type { Clock, Log, Random } from "../ports.ts";
import { fetchKeySet, type NotOpened, openSession, type SessionInput } from "./session.ts";
import { type Answer, describeAnswer, parseAnswer, type Session, type Transport } from "./transport.ts";

/** The server holds a poll for at most 25 s; its answer may take a while on a slow link. */
const POLL_TIMEOUT_MS = 45_000;
/** A poll that was held this long and then cut was cut for its silence (F25), not because nobody is there. */
const CUT_AFTER_MS = 2_000;
/** An idle answer that comes at once, again and again, is a server that does not hold: asking on would only heat it. */
const IDLE_MIN_MS = 150;
const IDLE_PAUSE_MS = 1_000;
const CHALLENGE_BYTES = 16;
const INSTANCE_BYTES = 16;

export interface LinkInput {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly root: string;
  readonly session: Pick<SessionInput, "keys" | "node" | "cluster" | "bootId" | "hardware" | "agentVersion">;
  readonly handler: LinkHandler;
}

export interface LinkHandler {
  /** The key set held so far; null: none. */
  keySet(): { readonly keySet: KeySet; readonly jws: string } | null;
  putKeySet(keySet: KeySet, jws: string): Promise<void>;
  /** Generation in the ledger, if it is of this era; else 0. */
  generation(era: string): number;
  opened(session: Session): void;
  /** Verify, fetch what it names, accept. A sentence when it was not accepted. */
  manifest(jws: string, session: Session): Promise<{ readonly kind: "accepted" } | { readonly kind: "refused"; readonly message: string }>;
  /** The control plane was asked for anything newer than generation `generation` of `era` and has nothing. */
  confirmed(era: string, generation: number): void;
  channels(): readonly string[];
  channel(ask: ChannelAsk, session: Session): void;
  /** The state changed, with a sentence for people. */
  state(state: LinkState, message: string): void;
  /** The control plane was heard. */
  heard(): void;
}

export class Link {
  readonly #input: LinkInput;
  readonly #instance: string;
  #state: LinkState = "opening";
  #session: Session | null = null;
  #failures = 0;
  #message = "";
  #wake = new AbortController();

  constructor(input: LinkInput) {
    this.#input = input;
    this.#instance = encode64(input.random.bytes(INSTANCE_BYTES));
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Runs until `signal` or until the node was removed. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && LINK_ACTIONS[this.#state] !== "stop") {
      const action = LINK_ACTIONS[this.#state];
      const event = action === "open" ? await this.#open() : action === "poll" ? await this.#poll(signal) : await this.#wait(signal);
      if (signal.aborted) return;
      this.#step(event);
    }
  }

  /** Another request learnt that this session is over: the poll that is held would learn it only at its end. */
  refused(session: Session, answer: Extract<Answer, { kind: "refused" }>): void {
    if (session !== this.#session) return;
    if (answer.code === "removed") this.#doubt(answer);
    else if (eventOfRefusal(answer.code) === "failed") return;
    this.#wake.abort();
  }

  #step(event: LinkEvent): void {
    const before = this.#state;
    this.#state = nextLinkState(before, event);
    if (event === "granted" || event === "answered") this.#failures = 0;
    if (event === "failed" || event === "sessionLost") this.#failures++;
    if (event === "granted" || event === "answered" || event === "cut") this.#message = "";
    if (this.#state !== before) this.#input.handler.state(this.#state, this.#message);
  }

  async #wait(signal: AbortSignal): Promise<LinkEvent> {
    const { clock, random } = this.#input;
    await pause(clock, pauseMs(this.#state, Math.max(1, this.#failures), random.fraction()), signal);
    return "waited";
  }

  async #open(): Promise<LinkEvent> {
    const { transport, handler, random } = this.#input;
    const keys = await this.#refreshKeys();
    if (keys.kind !== "opened") return this.#failed(keys);
    const opened = await openSession({
      ...this.#input.session,
      transport,
      keySet: keys.keySet,
      serverNonce: transport.nonce ?? keys.serverNonce,
      instance: this.#instance,
      challenge: random.bytes(CHALLENGE_BYTES),
    });
    if (opened.kind === "removed") return "removal";
    if (opened.kind !== "opened") return this.#failed(opened);
    this.#session = opened.session;
    handler.heard();
    handler.opened(opened.session);
    return "granted";
  }

  async #refreshKeys(): ReturnType<typeof fetchKeySet> {
    const { transport, handler, root } = this.#input;
    const held = handler.keySet();
    const fetched = await fetchKeySet(transport, root, held?.keySet ?? null);
    if (fetched.kind === "opened" && fetched.jws !== held?.jws) await handler.putKeySet(fetched.keySet, fetched.jws);
    return fetched;
  }

  #failed(result: NotOpened): LinkEvent {
    if (result.kind === "answer") return this.#eventOf(result.answer);
    this.#message = result.message;
    this.#input.log.warn({ reason: result.message }, "an answer of the control plane is not believed");
    return "failed";
  }

  #eventOf(answer: Exclude<Answer, { kind: "ok" }>): LinkEvent {
    this.#message = describeAnswer(answer);
    if (answer.kind !== "refused") return "failed";
    return answer.code === "removed" ? this.#doubt(answer) : eventOfRefusal(answer.code);
  }

  /** A removal that nobody signed: whether it is one, the answer to the next session says. After a pause, for it may be a lie. */
  #doubt(answer: Exclude<Answer, { kind: "ok" }>): LinkEvent {
    this.#session = null;
    this.#message = describeAnswer(answer);
    this.#input.log.warn(
      { reason: this.#message },
      "an answer says without a signature that this node was removed: a session is asked for",
    );
    return "failed";
  }

  async #poll(signal: AbortSignal): Promise<LinkEvent> {
    const { transport, clock, random, handler } = this.#input;
    const session = this.#session;
    if (session === null) return "sessionLost";
    this.#wake = new AbortController();
    const challenge = encode64(random.bytes(CHALLENGE_BYTES));
    const body: PollRequest = {
      era: session.era,
      session: session.number,
      generation: handler.generation(session.era),
      challenge,
      channels: [...handler.channels()].slice(0, 64),
    };
    const sentMs = clock.bootMs();
    const answer = await transport.exchange({
      method: "POST",
      path: "/agent/v1/poll",
      body,
      session,
      timeoutMs: POLL_TIMEOUT_MS,
      signal: AbortSignal.any([signal, this.#wake.signal]),
    });
    const tookMs = clock.bootMs() - sentMs;
    if (answer.kind !== "ok") {
      if (this.#wake.signal.aborted) return this.#session === null ? "failed" : "sessionLost";
      const isCut =
        tookMs >= CUT_AFTER_MS &&
        (answer.kind === "foreign" ||
          (answer.kind === "failed" && (answer.error.code === "unreachable" || answer.error.code === "timeout")));
      return isCut ? "cut" : this.#eventOf(answer);
    }
    if (answer.era !== null && answer.era !== session.era) return "sessionLost";
    handler.heard();
    if (answer.status === 204) {
      handler.confirmed(body.era, body.generation);
      if (tookMs < IDLE_MIN_MS) await pause(clock, IDLE_PAUSE_MS, signal);
      return "answered";
    }
    return this.#read(answer.text, body, session);
  }

  async #read(text: string, asked: PollRequest, session: Session): Promise<LinkEvent> {
    const { handler, log } = this.#input;
    const news = parseAnswer(text, PollAnswer);
    if (news === null || news.challenge !== asked.challenge) {
      this.#message =
        news === null ? "the answer to a poll is malformed" : "the answer belongs to another request: something in between repeats answers";
      return "failed";
    }
    for (const ask of news.channels) handler.channel(ask, session);
    if (news.keySetVersion > (handler.keySet()?.keySet.version ?? 0)) await this.#refreshKeys();
    if (news.manifest === undefined) {
      handler.confirmed(asked.era, asked.generation);
      return "answered";
    }
    const result = await handler.manifest(news.manifest, session);
    if (result.kind === "accepted") return "answered";
    log.warn({ reason: result.message }, "a manifest was not accepted");
    this.#message = result.message;
    return "failed";
  }
}

function eventOfRefusal(code: string): LinkEvent {
  switch (code) {
    case "session_replaced":
    case "bad_proof":
    case "unauthenticated":
      return "sessionLost";
    case "pending_approval":
      return "pendingApproval";
    case "quarantined":
      return "quarantine";
    case "unsupported_protocol":
      return "unsupported";
    default:
      return "failed";
  }
}
