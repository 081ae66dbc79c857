/** Questions to the person at the terminal. */
import { createInterface } from "node:readline/promises";
import { CliError, EXIT } from "./exit.ts";
import { readSecretLine } from "./secret-line.ts";
import type { Shell } from "./shell.ts";

/** Goes on only after a yes. Without a terminal nobody can answer, so `-y` has to have said it. */
export async function confirm(shell: Shell, question: string, isConfirmed: boolean): Promise<void> {
  if (isConfirmed) return;
  if (!shell.terminal.canAsk)
    throw new CliError(`${question.trim()} Nobody can answer without a terminal: add -y to say yes`, { exitCode: EXIT.usage });
  const answer = await ask(shell, `${question} [y/N] `);
  if (!/^y(?:es)?$/i.test(answer)) throw new CliError("nothing was changed", { exitCode: EXIT.failed });
}

/** One line, typed at the terminal; the caller has seen that there is one. */
export async function ask(shell: Shell, question: string): Promise<string> {
  const reader = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return (await reader.question(question, { signal: shell.signal })).trim();
  } finally {
    reader.close();
  }
}

/** Everything on standard input, without the line end that `echo` adds. */
export async function readAllInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

/** A secret, typed without echo or piped in. */
export async function readSecret(shell: Shell, prompt: string, fromInput: boolean): Promise<string> {
  if (fromInput) return readAllInput();
  if (!shell.terminal.canAsk) throw new CliError("there is no terminal to type the secret at: pipe it in", { exitCode: EXIT.usage });
  shell.terminal.out(prompt);
  const { how, secret } = await readSecretLine(process.stdin).finally(() => shell.terminal.out("\n"));
  if (how === "interrupted") throw new CliError("nothing was changed", { exitCode: EXIT.interrupted });
  if (secret === "") throw new CliError("no secret was typed; nothing was changed", { exitCode: EXIT.usage });
  return secret;
}
