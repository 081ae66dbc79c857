/**
 * Virtual time. Everything that happens is an event with a moment; the kernel runs them in order, each to the end of
 * what it set off, and nothing else moves. Events of a process that was killed never happen, which is what dying is: its
 * promises stay open for ever.
 */
import process from "node:process";
import { Prng } from "./prng.ts";
import { Trace } from "./trace.ts";

/** A program, a machine, an engine: what can die, and with it what it would have done. */
export class Process {
  readonly name: string;
  isAlive = true;
  /** While it is suspended: what fell due. */
  parked: Event[] | null = null;

  constructor(name: string) {
    this.name = name;
  }
}

interface Event {
  readonly atMs: number;
  readonly serial: number;
  readonly process: Process;
  readonly what: string;
  run: (() => void) | null;
}

/** Nothing that the world runs needs more than one; the second is for what would wait for a tick itself. */
const TICKS = 2;
/** A whole turn of the event loop takes several times as long as a tick; finalizers and messages to the process need one now and then. */
const TURN_STEPS = 64;

const tick = () => new Promise<void>((resolve) => process.nextTick(resolve));
const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

/** Silent events are too many to be worth a line: the clock's own. */
const isSilent = (what: string): boolean => what === "";

export class Kernel {
  readonly random: Prng;
  readonly trace: Trace;
  readonly #queue: Event[] = [];
  readonly #observers: (() => void)[] = [];
  #serial = 0;
  /** True time, milliseconds since the world began. */
  nowMs = 0;
  steps = 0;
  /** False while work that takes no virtual time goes on outside of this thread. */
  isQuiet: () => boolean = () => true;

  constructor(seed: string, { traceLines = 0 }: { readonly traceLines?: number } = {}) {
    this.random = new Prng(seed);
    this.trace = new Trace(traceLines);
  }

  log(who: string, what: string): void {
    this.trace.add(this.nowMs, who, what);
  }

  /** After each event. */
  observe(look: () => void): void {
    this.#observers.push(look);
  }

  /** Runs `run` in `delayMs` unless `process` has died by then; the returned function calls it off. */
  after(delayMs: number, process: Process, what: string, run: () => void): () => void {
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), serial: this.#serial++, process, what, run };
    this.#push(event);
    return () => {
      event.run = null;
    };
  }

  /** For scripts: resolves in `delayMs`. */
  pause(delayMs: number, process: Process): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, process, "", resolve));
  }

  /**
   * A call from one process into another: the effect happens at the target if that lives then, the answer reaches the
   * caller if that lives then. A caller that dies in between never learns that its call took effect.
   */
  call<Result>(
    input: { readonly caller: Process; readonly target: Process; readonly what: string; readonly thereMs: number; readonly backMs: number },
    effect: () => Result | Promise<Result>,
  ): Promise<Result> {
    const { caller, target, what, thereMs, backMs } = input;
    return new Promise((resolve, reject) => {
      // What a process was about to ask when it was killed is never asked.
      if (!caller.isAlive) return;
      const answer = (give: () => void) => void this.after(backMs, caller, "", give);
      this.after(thereMs, target, what, () => {
        carryOut(effect, { resolve, reject, answer });
      });
    });
  }

  suspend(process: Process): void {
    process.parked ??= [];
  }

  /** What fell due meanwhile happens now, in its order. */
  resume(process: Process): void {
    const due = process.parked ?? [];
    process.parked = null;
    for (const event of due) this.#push({ ...event, atMs: this.nowMs, serial: this.#serial++ });
  }

  /** Runs events up to `untilMs` of true time, or until `stop` answers true after one. */
  async run(untilMs: number, stop: () => boolean = () => false): Promise<void> {
    // What was begun outside of any event goes first.
    await this.#settle();
    for (let event = this.#queue[0]; event !== undefined && event.atMs <= untilMs; event = this.#queue[0]) {
      this.#pop();
      if (event.run === null || !event.process.isAlive) continue;
      if (event.process.parked !== null) {
        event.process.parked.push(event);
        continue;
      }
      this.nowMs = event.atMs;
      this.steps++;
      if (!isSilent(event.what)) this.log(event.process.name, event.what);
      event.run();
      await this.#settle();
      for (const look of this.#observers) look();
      if (stop()) return;
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** Lets everything that can go on without an event go on. A tick comes when no promise is ready any more. */
  async #settle(): Promise<void> {
    for (let count = 0; count < TICKS; count++) await tick();
    if (this.steps % TURN_STEPS === 0) await turn();
    while (!this.isQuiet()) await turn();
  }

  #push(event: Event): void {
    const queue = this.#queue;
    let at = queue.length;
    queue.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(queue[parent]!, event)) break;
      queue[at] = queue[parent]!;
      at = parent;
    }
    queue[at] = event;
  }

  #pop(): void {
    const queue = this.#queue;
    const last = queue.pop();
    if (last === undefined || queue.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child++;
      if (isBefore(last, queue[child]!)) break;
      queue[at] = queue[child]!;
      at = child;
    }
    queue[at] = last;
  }
}

/** Does `effect` and hands what came of it to `answer`, in the same turn where it takes none. */
export function carryOut<Result>(
  effect: () => Result | Promise<Result>,
  { resolve, reject, answer }: { resolve(result: Result): void; reject(error: unknown): void; answer(give: () => void): void },
): void {
  let result: Result | Promise<Result>;
  try {
    result = effect();
  } catch (error) {
    answer(() => reject(error));
    return;
  }
  if (!(result instanceof Promise)) {
    const given = result;
    answer(() => resolve(given));
    return;
  }
  result.then(
    (value) => answer(() => resolve(value)),
    (error: unknown) => answer(() => reject(error)),
  );
}

const isBefore = (left: Event, right: Event): boolean => left.atMs < right.atMs || (left.atMs === right.atMs && left.serial < right.serial);
