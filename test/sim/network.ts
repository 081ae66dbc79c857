/**
 * The wire between a machine and the control plane, and what stands on it. TCP's rules: what is sent while the line is
 * down arrives when it is up again, unless somebody gave up before; a peer that died resets.
 */
import { type Http, type HttpAnswer, HttpError, type HttpRequest } from "../../agent/ports.ts";
import { PROTOCOL_HEADER, PROTOCOL_VERSION } from "../../shared/wire/version.ts";
import { type Kernel, Process } from "./kernel.ts";
import type { Prng } from "./prng.ts";

export interface WireFaults {
  /** Nothing gets through, each way by itself. */
  isUpCut: boolean;
  isDownCut: boolean;
  /** Chance that an answer is lost with its connection. */
  replyLoss: number;
  /** A proxy: cuts what is silent for this long; answers by itself; sends a POST twice. */
  cutsAfterMs: number | null;
  answersHtml: boolean;
  repeatsPosts: number;
  /** Chance that an exchange takes seconds. */
  slow: number;
  /** Chance that a report is held on the way, past the time that its sender waits, and delivered then. */
  holdsReports: number;
  /** Chance that a poll is answered by somebody in between, with a manifest that once went by: as it was, or for this poll. */
  repeatsManifests: number;
  /** Names do not resolve, or TLS is intercepted. */
  broken: "dns" | "tls" | null;
  /** Whoever asks for a session is told that its agent is too old. */
  isOutdated: boolean;
}

export const GOOD_WIRE: WireFaults = {
  isUpCut: false,
  isDownCut: false,
  replyLoss: 0,
  cutsAfterMs: null,
  answersHtml: false,
  repeatsPosts: 0,
  slow: 0,
  holdsReports: 0,
  repeatsManifests: 0,
  broken: null,
  isOutdated: false,
};

/** What a request meets at the other end. Null: nothing listens there. */
export interface Door {
  readonly process: Process;
  handle(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer>;
}

const RETRANSMIT_MS = 500;
const MANIFESTS_KEPT = 20;
const REPORT_PATH = "/agent/v1/report";
const POLL_PATH = "/agent/v1/poll";
/** One for all: an error that is made anew each time costs a stack trace. */
const CLIENT_GONE = new Error("the client has gone");

export class Wire {
  readonly faults: WireFaults = { ...GOOD_WIRE };
  readonly injected = { replyLoss: 0, repeated: 0, cutByProxy: 0, html: 0, held: 0, manifests: 0, outdated: 0 };
  /** Every request body that was sent, for those who replay them later; newest last. */
  readonly recorded: HttpRequest[] = [];
  /** Manifests that went by, newest last. */
  readonly #manifests: string[] = [];
  readonly #kernel: Kernel;
  readonly #random: Prng;
  readonly #door: () => Door | null;
  /** What goes on on the way when both ends have forgotten it. */
  readonly #itself: Process;

  constructor(kernel: Kernel, name: string, door: () => Door | null) {
    this.#kernel = kernel;
    this.#random = kernel.random.fork(`wire ${name}`);
    this.#door = door;
    this.#itself = new Process(`wire ${name}`);
  }

  portOf(process: Process): Http {
    return { request: (request) => this.#request(process, request) };
  }

  /** Something in between sends an old request again. */
  replay(request: HttpRequest): void {
    const door = this.#door();
    if (door !== null) void door.handle(request, new AbortController().signal);
  }

  #request(client: Process, request: HttpRequest): Promise<HttpAnswer> {
    const kernel = this.#kernel;
    const random = this.#random;
    const { faults } = this;
    const path = request.url.slice(request.url.indexOf("/", 8));
    kernel.log(client.name, `${request.method} ${path} ${request.body ?? ""}`);
    return new Promise((resolve, reject) => {
      let isOver = false;
      let isAnswered = false;
      const given = new AbortController();
      const timer: { cancel: () => void } = { cancel: () => {} };
      const end = (give: () => void) => {
        if (isOver) return;
        isOver = true;
        timer.cancel();
        request.signal?.removeEventListener("abort", onAbort);
        give();
        // The other end learns of it when a packet gets there, and has nothing to call off if it has answered.
        if (!given.signal.aborted)
          kernel.after(random.between(2, 40), client, "", () => !faults.isUpCut && !isAnswered && given.abort(CLIENT_GONE));
      };
      const fail = (code: HttpError["code"], message: string) => end(() => reject(new HttpError(code, message)));
      const onAbort = () => fail("aborted", "called off");
      timer.cancel = kernel.after(request.timeoutMs, client, `no answer to ${request.method} ${path}`, () =>
        fail("timeout", "no answer in time"),
      );
      if (request.signal?.aborted === true) return onAbort();
      request.signal?.addEventListener("abort", onAbort, { once: true });

      if (faults.broken !== null) {
        const isDns = faults.broken === "dns";
        kernel.after(random.between(5, 300), client, "", () =>
          fail(
            isDns ? "unreachable" : "pin",
            isDns ? "getaddrinfo EAI_AGAIN berth.test" : "the certificate is not the one that was pinned",
          ),
        );
        return;
      }
      if (faults.answersHtml) {
        this.injected.html++;
        kernel.after(random.between(5, 80), client, "", () =>
          end(() => resolve({ status: 200, header: () => null, body: "<html>Welcome to our network. Please sign in.</html>" })),
        );
        return;
      }
      const made = this.#answerInBetween(request, path);
      if (made !== null) {
        kernel.after(random.between(5, 80), client, `somebody in between answers ${path}`, () => end(() => resolve(made)));
        return;
      }
      this.#record(request);
      if (path === REPORT_PATH && random.chance(faults.holdsReports)) {
        this.injected.held++;
        kernel.after(request.timeoutMs + random.between(500, 60_000), this.#itself, `${path} was held and arrives`, () =>
          this.replay(request),
        );
        return;
      }
      if (request.method === "POST" && random.chance(faults.repeatsPosts)) {
        this.injected.repeated++;
        kernel.after(random.between(10, 3_000), client, `a proxy sends ${path} again`, () => this.replay(request));
      }
      if (faults.cutsAfterMs !== null) {
        const cutMs = faults.cutsAfterMs;
        kernel.after(cutMs, client, "", () => {
          if (isOver) return;
          this.injected.cutByProxy++;
          fail("unreachable", "the connection was closed");
        });
      }
      const delayMs = () => random.between(2, 40) + (random.chance(faults.slow) ? random.between(1_000, 30_000) : 0);
      const deliver = (isCut: () => boolean, wait: number, arrive: () => void): void => {
        kernel.after(wait, client, "", () => {
          if (isOver) return;
          if (isCut()) deliver(isCut, RETRANSMIT_MS, arrive);
          else arrive();
        });
      };
      deliver(
        () => faults.isUpCut,
        delayMs(),
        () => {
          const door = this.#door();
          if (door === null) {
            kernel.after(random.between(1, 20), client, "", () => fail("unreachable", "connect ECONNREFUSED"));
            return;
          }
          const onDeath = watchDeath(door.process, () =>
            deliver(
              () => faults.isDownCut,
              random.between(1, 20),
              () => fail("unreachable", "read ECONNRESET"),
            ),
          );
          door.handle(request, given.signal).then(
            (answer) => {
              isAnswered = true;
              onDeath.stop();
              if (random.chance(faults.replyLoss)) {
                this.injected.replyLoss++;
                kernel.after(random.between(2, 40), client, "a reply is lost", () => fail("unreachable", "read ECONNRESET"));
                return;
              }
              deliver(
                () => faults.isDownCut,
                delayMs(),
                () => {
                  kernel.log(client.name, `${answer.status} ${path} ${answer.body}`);
                  if (path === POLL_PATH && answer.status === 200) this.#noteManifest(answer.body);
                  end(() => resolve(answer));
                },
              );
            },
            (error: unknown) => {
              throw error;
            },
          );
        },
      );
    });
  }

  /** What is answered on the way; null: nothing. */
  #answerInBetween(request: HttpRequest, path: string): HttpAnswer | null {
    const { faults } = this;
    if (faults.isOutdated && path === "/agent/v1/session") {
      this.injected.outdated++;
      return answerOf(426, { error: { code: "unsupported_protocol", message: "this agent speaks protocol 1; 2 or later is needed" } });
    }
    if (path !== POLL_PATH || this.#manifests.length === 0 || !this.#random.chance(faults.repeatsManifests)) return null;
    this.injected.manifests++;
    const manifest = this.#random.pick(this.#manifests);
    const { challenge } = JSON.parse(request.body ?? "{}") as { readonly challenge: string };
    return answerOf(200, {
      manifest,
      challenge: this.#random.chance(0.7) ? challenge : "c3RhbGVzdGFsZXN0YWxlcw",
      channels: [],
      keySetVersion: 1,
    });
  }

  #noteManifest(body: string): void {
    const { manifest } = JSON.parse(body) as { readonly manifest?: string };
    if (manifest === undefined) return;
    this.#manifests.push(manifest);
    if (this.#manifests.length > MANIFESTS_KEPT) this.#manifests.shift();
  }

  #record(request: HttpRequest): void {
    if (request.method !== "POST") return;
    this.recorded.push(request);
    if (this.recorded.length > 200) this.recorded.shift();
  }
}

/** It looks like the control plane's. */
const answerOf = (status: number, body: unknown): HttpAnswer => ({
  status,
  header: (name) => (name === PROTOCOL_HEADER ? String(PROTOCOL_VERSION) : null),
  body: JSON.stringify(body),
});

const deaths = new WeakMap<Process, Set<() => void>>();

function watchDeath(process: Process, tell: () => void): { stop(): void } {
  const watchers = deaths.get(process) ?? new Set();
  deaths.set(process, watchers);
  watchers.add(tell);
  return { stop: () => void watchers.delete(tell) };
}

/** A process ends, and the machine under it tells its peers so. */
export function die(process: Process): void {
  process.isAlive = false;
  for (const tell of deaths.get(process) ?? []) tell();
  deaths.delete(process);
}
