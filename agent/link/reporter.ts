/**
 * Tells the control plane what is. One report in flight; it carries every fact that has not been acknowledged; the
 * first of a session is complete. News goes out at once and what comes while a report is under way goes with the next,
 * so a busy node reports as often as its link allows and an idle one not at all. What one report has no room for goes with
 * the next.
 */
import { type ImageFact, type NodeFacts, type ReplicaFact, ReportAnswer, type ReportRequest } from "../../shared/wire/report.ts";
import { pauseMs } from "../../shared/converge/link.ts";
import type { Carried, FactBook } from "../fact-book.ts";
import { pause } from "../pause.ts";
import type { Clock, Log, Random } from "../ports.ts";
import { type Fitted, fitAll, fitSome, REPORT_BYTES_MAX, Room } from "./report-size.ts";
import { type Answer, describeAnswer, parseAnswer, type Session, type Transport } from "./transport.ts";

/** What is said within this time is said together: a start brings a few changes within some milliseconds. */
const COALESCE_MS = 15;
const TIMEOUT_MS = 20_000;
const IMAGES_MAX = 1000;
const VOLUMES_MAX = 10_000;

export interface ReportSource {
  readonly facts: FactBook;
  nodeFacts(): Promise<NodeFacts>;
  engine(): { readonly reachable: boolean; readonly message: string };
  volumes(): readonly string[];
  /** The accepted manifest names volumes to drop: whether they are there is said even if the list is as before. */
  hasDrops(): boolean;
  /** Of the accepted manifest. */
  generation(): number;
  /** False while the engine has not been listed: a complete report now would say that nothing runs here. */
  isKnown(): boolean;
}

export interface ReporterInput {
  readonly transport: Pick<Transport, "exchange">;
  readonly source: ReportSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The session is worth nothing any more. */
  onRefused(session: Session, answer: Extract<Answer, { kind: "refused" }>): void;
}

export class Reporter {
  readonly #input: ReporterInput;
  readonly #images = new Map<string, ImageFact>();
  #session: Session | null = null;
  #seq = 0;
  #isComplete = false;
  #isDirty = false;
  #isRunning = false;
  #cancelTimer: (() => void) | null = null;
  #sent = { facts: "", generation: -1, engine: "", volumes: "" };
  #failures = 0;
  readonly #signal: AbortSignal;
  #retryNow = new AbortController();

  constructor(input: ReporterInput, signal: AbortSignal) {
    this.#input = input;
    this.#signal = signal;
  }

  opened(session: Session): void {
    this.#session = session;
    this.#seq = 0;
    this.#isComplete = false;
    this.#sent = { facts: "", generation: -1, engine: "", volumes: "" };
    this.#input.source.facts.unacknowledge();
    this.changed();
  }

  /** The link works again: what waits need not wait longer. */
  linkIsUp(): void {
    if (this.#failures > 0) this.#retryNow.abort();
  }

  resolved(fact: ImageFact): void {
    this.#images.set(`${fact.namespace}/${fact.app}/${fact.revision}/${fact.reference}`, fact);
    this.changed();
  }

  /** Something that is reported may have changed. */
  changed(): void {
    this.#isDirty = true;
    if (this.#isRunning || this.#cancelTimer !== null || this.#session === null || this.#signal.aborted) return;
    this.#cancelTimer = this.#input.clock.after(COALESCE_MS, () => {
      this.#cancelTimer = null;
      this.#run().catch((error: unknown) => this.#input.log.error({ error: String(error) }, "reporting failed"));
    });
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      while (this.#isDirty && this.#session !== null && !this.#signal.aborted && this.#input.source.isKnown()) {
        this.#isDirty = false;
        const session = this.#session;
        if (!(await this.#send(session))) {
          this.#isDirty = true;
          // Another session has begun meanwhile: its first report is due now.
          if (this.#session !== session) continue;
          this.#failures++;
          this.#retryNow = new AbortController();
          await pause(
            this.#input.clock,
            pauseMs("pausing", this.#failures, this.#input.random.fraction()),
            AbortSignal.any([this.#signal, this.#retryNow.signal]),
          );
        } else {
          this.#failures = 0;
          if (this.#isDirty) await pause(this.#input.clock, COALESCE_MS, this.#signal);
        }
      }
    } finally {
      this.#isRunning = false;
    }
  }

  /** False: it has to be said again. */
  async #send(session: Session): Promise<boolean> {
    const { source, transport, clock, log } = this.#input;
    const nodeFacts = await source.nodeFacts();
    const engine = source.engine();
    const volumes = source.volumes();
    const now = {
      facts: JSON.stringify(nodeFacts),
      generation: source.generation(),
      engine: JSON.stringify(engine),
      volumes: `${volumes.join(" ")} as of ${source.hasDrops() ? source.generation() : "any set"}`,
    };
    const empty: ReportRequest = {
      era: session.era,
      session: session.number,
      seq: this.#seq + 1,
      complete: false,
      generation: now.generation,
      replicas: [],
      images: [],
      facts: null,
      volumes: null,
      engine: { reachable: engine.reachable, message: engine.message.slice(0, 512) },
    };
    const room = new Room(REPORT_BYTES_MAX);
    room.takes(empty);
    const { complete, replicas, carried, isMore } = this.#replicas(clock.bootMs(), room);
    const isNewFacts = now.facts !== this.#sent.facts;
    const tellsFacts = isNewFacts && room.takes(nodeFacts);
    const images = [...this.#images].slice(0, IMAGES_MAX).filter(([, fact]) => room.takes(fact));
    const isNewVolumes = now.volumes !== this.#sent.volumes;
    const named = volumes.map((engineName) => ({ engineName }));
    const tellsVolumes = isNewVolumes && named.length <= VOLUMES_MAX && room.takes(named);
    const isNews =
      complete ||
      replicas.length > 0 ||
      images.length > 0 ||
      tellsFacts ||
      tellsVolumes ||
      now.generation !== this.#sent.generation ||
      now.engine !== this.#sent.engine;
    if (!isNews) {
      // Half a list would say that the rest is gone: it is left out until it is another one.
      if (isNewVolumes) log.warn({ volumes: volumes.length }, "this node has more volumes than a report can name; they are not reported");
      this.#sent.volumes = now.volumes;
      return true;
    }
    const request: ReportRequest = {
      ...empty,
      seq: ++this.#seq,
      complete,
      replicas: [...replicas],
      images: images.map(([, fact]) => fact),
      facts: tellsFacts ? nodeFacts : null,
      volumes: tellsVolumes ? named : null,
    };
    const known = { ...this.#sent, ...(tellsFacts ? { facts: "" } : {}), ...(tellsVolumes ? { volumes: "" } : {}) };
    // Whether a report that is not acknowledged was taken nobody knows: what it told is told again, even if it is as before.
    this.#sent = { ...known, generation: -1, engine: "" };
    const answer = await transport.exchange({
      method: "POST",
      path: "/agent/v1/report",
      body: request,
      session,
      timeoutMs: TIMEOUT_MS,
      signal: this.#signal,
    });
    if (this.#session !== session) return false;
    const ack = answer.kind === "ok" ? parseAnswer(answer.text, ReportAnswer) : null;
    if (ack === null || ack.ackSeq < request.seq) {
      if (answer.kind !== "ok") log.debug({ error: describeAnswer(answer) }, "a report was not acknowledged");
      if (answer.kind === "refused") this.#input.onRefused(session, answer);
      return false;
    }
    this.#isComplete ||= complete;
    this.#sent = {
      ...now,
      facts: tellsFacts ? now.facts : known.facts,
      volumes: tellsVolumes ? now.volumes : known.volumes,
    };
    source.facts.acknowledge(carried);
    for (const [key, fact] of images) if (this.#images.get(key) === fact) this.#images.delete(key);
    this.#input.source.facts.onAcknowledged();
    if (isMore || this.#images.size > 0 || isNewFacts !== tellsFacts || isNewVolumes !== tellsVolumes) this.#isDirty = true;
    return true;
  }

  /**
   * A complete report names every replica, so until one has been acknowledged all are tried. Where not even their names fit,
   * news goes out by itself and takes what has ended off the list.
   */
  #replicas(nowMs: number, room: Room): ReplicasTold {
    const { facts: book } = this.#input.source;
    if (!this.#isComplete) {
      const { facts, carried } = book.collect(nowMs, { all: true });
      const fitted = fitAll(facts, room);
      if (fitted !== null) return told(fitted, carried, { complete: true });
    }
    const { facts, carried } = book.collect(nowMs, { all: false });
    return told(fitSome(facts, room), carried, { complete: false });
  }
}

interface ReplicasTold {
  readonly complete: boolean;
  readonly replicas: readonly ReplicaFact[];
  readonly carried: Carried;
  /** Something of them is left for the next report. */
  readonly isMore: boolean;
}

const told = ({ facts, left }: Fitted, carried: Carried, { complete }: { readonly complete: boolean }): ReplicasTold => ({
  complete,
  replicas: facts,
  carried: new Map([...carried].filter(([replica]) => !left.has(replica))),
  isMore: left.size > 0,
});
