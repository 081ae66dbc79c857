/** Runs one command and turns what is thrown into words and an exit code. */
import { type Command, CommanderError } from "commander";
import { CliError, EXIT } from "./exit.ts";
import { buildProgram } from "./program/program.ts";
import { ApiError } from "./client/client.ts";
import { emit } from "./render/output.ts";
import { makeShell, OUTPUT_FORMATS, type OutputFormat, type Shell } from "./shell.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import type { GlobalOptions } from "./shell.ts";

/**
 * Ctrl-C ends a command at once, as anywhere, unless the command has asked for the signal: then it ends what it began, and
 * a second Ctrl-C does not wait for that. Signals within a second are one: a terminal sends its Ctrl-C to npm and to us,
 * and npm passes it on.
 */
const SAME_SIGNAL_MS = 1_000;

function interruption(): { signal: AbortSignal } {
  let controller: AbortController | undefined;
  return {
    get signal() {
      if (controller === undefined) {
        const own = new AbortController();
        controller = own;
        let firstMs = 0;
        const stop = (): void => {
          if (!own.signal.aborted) {
            firstMs = performance.now();
            own.abort();
          } else if (performance.now() - firstMs > SAME_SIGNAL_MS) process.exit(EXIT.interrupted);
        };
        process.on("SIGINT", stop).on("SIGTERM", stop).on("SIGHUP", stop);
      }
      return controller.signal;
    },
  };
}

/** Read before the command line is: what is wrong with it has to be printed too. */
function outputOf(argv: readonly string[]): OutputFormat {
  const at = argv.findIndex((word) => /^(?:-o|--output)$/.test(word));
  const given =
    at === -1 ? argv.map((word) => /^(?:-o|--output=)(.+)$/.exec(word)?.[1]).find((format) => format !== undefined) : argv[at + 1];
  return OUTPUT_FORMATS.find((format) => format === given) ?? "table";
}

/** On standard error in every format: standard output holds results alone. */
async function fail(terminal: Terminal, error: CliError, output: OutputFormat): Promise<number> {
  if (output === "table") say(terminal, error);
  else {
    const { message, details, next, exitCode } = error;
    const code = error instanceof ApiError ? error.code : null;
    await emit(
      { output, terminal: { ...terminal, out: terminal.err } },
      { error: { code, message, details, next, exitCode } },
      () => undefined,
    );
  }
  return error.exitCode;
}

function say(terminal: Terminal, error: CliError): void {
  const { style } = terminal;
  if (error.message !== "") terminal.err(`${style.bad("berth:")} ${error.message}\n`);
  for (const detail of error.details) terminal.err(`  ${detail}\n`);
  if (error.next !== null) terminal.err(`next: ${style.strong(error.next)}\n`);
}

export async function main(argv: readonly string[]): Promise<number> {
  const terminal = processTerminal(process.env);
  const interrupted = interruption();
  const world = {
    terminal,
    env: process.env,
    cwd: process.cwd(),
    get signal() {
      return interrupted.signal;
    },
  };
  const shellOf = (command: Command): Shell => makeShell(command.optsWithGlobals<GlobalOptions>(), world);
  const output = outputOf(argv);
  const program = buildProgram(shellOf, { errors: output === "table" ? "printed" : "thrown" });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return Number(process.exitCode ?? EXIT.ok);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.ok;
      const message = error.message.replace(/^error: /, "");
      return output === "table" ? EXIT.usage : await fail(terminal, new CliError(message, { exitCode: EXIT.usage }), output);
    }
    if (error instanceof CliError) return await fail(terminal, error, output);
    if (error instanceof Error && error.name === "AbortError") return EXIT.interrupted;
    throw error;
  }
}

// A reader that went away (`berth ps | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
});

process.exitCode = await main(process.argv.slice(2));
