import { spawn } from "node:child_process";

export type ExecOptions = {
  input?: string | Uint8Array;
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  timeoutMs?: number;
};

export type ExecResult = {
  /** null when a signal ended the command. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
};

/** A command of the lab takes milliseconds, an image pull seconds: past this it hangs. */
const EXEC_TIMEOUT_MS = 30_000;

export class CommandError extends Error {
  readonly argv: readonly string[];
  readonly result: ExecResult;

  constructor(argv: readonly string[], result: ExecResult) {
    const end = result.signal === null ? `exited ${result.code}` : `was ended by ${result.signal}`;
    super(`\`${argv.join(" ")}\` ${end}: ${(result.stderr || result.stdout).trim()}`);
    this.name = "CommandError";
    this.argv = argv;
    this.result = result;
  }
}

/** Runs a command to its end. A failing command is a result; one that cannot be started or hangs throws. */
export function execute(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const { input, env, cwd, timeoutMs = EXEC_TIMEOUT_MS } = options;
  const [program, ...args] = argv;
  if (program === undefined) throw new Error("A command needs a program.");
  return new Promise((resolve, reject) => {
    // A group of its own: the deadline ends what the command started with it.
    const child = spawn(program, args, {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...process.env, ...env },
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    // A command may end without reading its input; what it made of it shows in its result.
    child.stdin.on("error", () => {});
    child.stdin.end(input ?? "");
    let overdue = false;
    const deadline = setTimeout(() => {
      overdue = true;
      if (child.pid !== undefined) killGroup(child.pid);
    }, timeoutMs);
    child.once("error", (error) => {
      clearTimeout(deadline);
      reject(new Error(`\`${argv.join(" ")}\` could not be started: ${error.message}`, { cause: error }));
    });
    child.once("close", (code, signal) => {
      clearTimeout(deadline);
      const result = {
        code,
        signal,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      };
      if (!overdue) return resolve(result);
      const output = (result.stderr + result.stdout).trim();
      reject(new Error(`\`${argv.join(" ")}\` had not ended after ${timeoutMs} ms: ${output}`));
    });
  });
}

/** Like `execute`, but a command that fails throws a CommandError. Returns its standard output. */
export async function mustExecute(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
  const result = await execute(argv, options);
  if (result.code !== 0) throw new CommandError(argv, result);
  return result.stdout;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended in this very moment.
  }
}
