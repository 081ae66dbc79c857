import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Writable } from "node:stream";
import { childrenOf, identify, type ProcessIdentity, signal } from "./identity.ts";
import type { LabRecord } from "./record.ts";
import { until } from "./until.ts";

export type Exit = { code: number | null; signal: NodeJS.Signals | null };

export type SpawnOptions = {
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Where standard output and error are appended. */
  logFile?: string;
};

const LOG_TAIL_LINES = 30;

/**
 * Waits for a line on descriptor 3 before it becomes the program: the lab records the process
 * in between, and a lab that dies first closes the descriptor, so that the program never runs.
 */
const GATE = ["/bin/sh", "-c", 'read -r go <&3 && exec "$@" 3<&-', "gate"] as const;

/**
 * Waits for the program from outside its process namespace, where it must be reaped for that namespace to end.
 * `nsenter` would wait by itself, but stops itself when the program is stopped, and then never reaps it.
 */
const WAITER = [
  "perl",
  "-e",
  `my $child = fork;
  if ($child == 0) { exec @ARGV or exit 127 }
  waitpid $child, 0;
  my $signal = $? & 127;
  kill $signal, $$ if $signal;
  exit $? >> 8;`,
] as const;

/** A long-running process of the lab. */
export class Spawned {
  readonly argv: readonly string[];
  readonly logFile: string;
  /** Its number in the machine's own process namespace. */
  readonly pid: number;
  readonly exited: Promise<Exit>;
  readonly #identity: ProcessIdentity;
  #exit: Exit | undefined;

  private constructor(argv: readonly string[], logFile: string, made: Made, identity: ProcessIdentity) {
    this.argv = argv;
    this.logFile = logFile;
    this.pid = identity.pid;
    this.#identity = identity;
    this.exited = made.exited;
    void this.exited.then((exit) => {
      this.#exit = exit;
    });
  }

  /** Starts a program beside the lab, recorded before it runs. */
  static async recorded(record: LabRecord, argv: readonly string[], options: SpawnOptions & { logFile: string }): Promise<Spawned> {
    const made = make([...GATE, ...argv], options, ["pipe"]);
    const identity = made.pid === undefined ? undefined : identify(made.pid);
    if (identity === undefined) throw await startError(argv, options.logFile, made.exited);
    record.add({ kind: "process", ...identity, what: argv.join(" ") });
    const gate = made.child.stdio[3] as Writable;
    gate.on("error", () => {});
    gate.end("go\n");
    return new Spawned(argv, options.logFile, made, identity);
  }

  /**
   * Starts a program in other namespaces. `enter` is put before a command, and joins them without forking.
   * The program ends with its namespaces at the latest, so nothing is recorded.
   */
  static async entered(enter: readonly string[], argv: readonly string[], options: SpawnOptions & { logFile: string }): Promise<Spawned> {
    const made = make([...enter, ...WAITER, ...argv], options, []);
    let exit: Exit | undefined;
    void made.exited.then((how) => {
      exit = how;
    });
    const identity = await until(`\`${argv.join(" ")}\` to start`, () => {
      if (made.pid === undefined || exit !== undefined) return { ended: true } as const;
      const [child] = childrenOf(made.pid);
      return child === undefined ? undefined : identify(child);
    });
    if ("ended" in identity) throw await startError(argv, options.logFile, made.exited);
    return new Spawned(argv, options.logFile, made, identity);
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** Sends a signal to exactly this process, not to its children; false when it has ended. */
  kill(name: NodeJS.Signals = "SIGTERM"): boolean {
    return signal(this.#identity, name);
  }

  /** Sends a signal and waits for the end. */
  async stop(name: NodeJS.Signals = "SIGTERM", timeoutMs = 20_000): Promise<Exit> {
    this.kill(name);
    return until(`\`${this.argv.join(" ")}\` to end after ${name}`, () => this.#exit, {
      timeoutMs,
      detail: () => this.logTail(),
    });
  }

  log(): Promise<string> {
    return readFile(this.logFile, "utf8");
  }

  /** Waits for a line of the log; fails at once when the process ends without it. */
  async logs(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    const match = await until(
      `${pattern} in ${this.logFile}`,
      async () => {
        // Before the read: what was written before the end is then in it.
        const ended = !this.running;
        return pattern.exec(await this.log()) ?? (ended ? ("ended" as const) : undefined);
      },
      { timeoutMs, detail: () => this.logTail() },
    );
    if (match !== "ended") return match;
    throw new Error(`\`${this.argv.join(" ")}\` ended without ${pattern}:\n${await this.logTail()}`);
  }

  logTail(): Promise<string> {
    return tailOf(this.logFile);
  }
}

type Made = { child: ChildProcess; pid: number | undefined; exited: Promise<Exit> };

function make(argv: readonly string[], options: SpawnOptions & { logFile: string }, more: "pipe"[]): Made {
  const [program = "", ...args] = argv;
  const log = openSync(options.logFile, "a", 0o644);
  // In a session of its own: a Ctrl-C at the terminal is the lab's to handle.
  const child = spawn(program, args, {
    detached: true,
    stdio: ["ignore", log, log, ...more],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  closeSync(log);
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, name) => resolve({ code, signal: name }));
    child.once("error", () => resolve({ code: null, signal: null }));
  });
  // The lab's process may end while this one lives; the sweep finds it by the record.
  child.unref();
  return { child, pid: child.pid, exited };
}

async function startError(argv: readonly string[], logFile: string, exited: Promise<Exit>): Promise<Error> {
  const { code } = await exited;
  return new Error(`\`${argv.join(" ")}\` ended with ${code} before it could start:\n${await tailOf(logFile)}`);
}

export async function tailOf(logFile: string): Promise<string> {
  const text = await readFile(logFile, "utf8").catch(() => "");
  return text.trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
}
