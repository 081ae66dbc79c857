/** Processes that play histories, one at a time each: see player.ts. */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import type { HistoryOptions, Outcome } from "./history.ts";

/** Then it is replaced: Node keeps the signals that a killed process waits for, and with them its world (3 MB a history). */
const HISTORIES_MAX = 300;
/** More room for what is new: most of it is garbage before it is looked at. */
const HEAP = ["--max-semi-space-size=32"];

interface Asked {
  readonly history: HistoryOptions;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: Error) => void;
}

export interface PlayersOptions {
  /** Default: one for each core. */
  readonly count?: number;
  /** `test/sim` of the code that is played. Default: this one. */
  readonly directory?: URL;
}

export class Players {
  readonly count: number;
  readonly #directory: URL;
  readonly #waiting: Asked[] = [];
  readonly #idle: ChildProcess[] = [];
  /** And how many histories each has played. */
  readonly #all = new Map<ChildProcess, number>();

  constructor({ count = availableParallelism(), directory = new URL(".", import.meta.url) }: PlayersOptions = {}) {
    this.count = count;
    this.#directory = directory;
  }

  /** As soon as one of them has time for it. */
  play(history: HistoryOptions): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ history, resolve, reject });
      const idle = this.#idle.pop();
      if (idle !== undefined) this.#next(idle);
      else if (this.#all.size < this.count) this.#fork();
    });
  }

  /** What is being played is given up, and nobody hears of it. */
  end(): void {
    this.#waiting.length = 0;
    for (const player of this.#all.keys()) player.kill();
  }

  #fork(): void {
    const player = fork(new URL("player.ts", this.#directory), {
      execArgv: [...HEAP, "--import", new URL("hooks.ts", this.#directory).href],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const onEarlyEnd = () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error("a player did not start"));
    };
    this.#all.set(player, 0);
    player.once("exit", onEarlyEnd);
    player.once("exit", () => this.#all.delete(player));
    player.once("message", () => {
      player.off("exit", onEarlyEnd);
      this.#next(player);
    });
  }

  #next(player: ChildProcess): void {
    const asked = this.#waiting.shift();
    if (asked === undefined) {
      this.#idle.push(player);
      return;
    }
    const { history, resolve, reject } = asked;
    const onEnd = (code: number | null, signal: string | null) => {
      if (!player.killed) reject(new Error(`the player of seed ${history.seed} ended with ${code ?? signal}`));
    };
    player.once("exit", onEnd);
    player.once("message", (outcome: Outcome) => {
      player.off("exit", onEnd);
      resolve(outcome);
      const played = (this.#all.get(player) ?? 0) + 1;
      this.#all.set(player, played);
      if (played < HISTORIES_MAX) this.#next(player);
      else this.#replace(player);
    });
    player.send(history);
  }

  #replace(player: ChildProcess): void {
    this.#all.delete(player);
    player.kill();
    if (this.#waiting.length > 0) this.#fork();
  }
}
