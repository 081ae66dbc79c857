import { PassThrough } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { readSecret } from "../../cli/ask.ts";
import { readSecretLine } from "../../cli/secret-line.ts";
import { recordingTerminal, shellOf } from "./terminal.ts";

/** A terminal at which chunks are typed; what is left in it is read by whoever comes next. */
function typedTerminal() {
  const modes: boolean[] = [];
  const input = Object.assign(new PassThrough(), { setRawMode: (isRaw: boolean) => modes.push(isRaw) });
  return { input, modes };
}
const typing = async (...chunks: (string | Buffer)[]) => {
  const { input, modes } = typedTerminal();
  const typed = readSecretLine(input);
  for (const chunk of chunks) {
    input.write(chunk);
    await new Promise(setImmediate);
  }
  return { ...(await typed), modes };
};

describe("a secret that is typed", () => {
  test.each<[string, (string | Buffer)[], string]>([
    ["ends with Enter", ["hunter", "2\r"], "hunter2"],
    ["ends with Ctrl-D as with Enter", ["hunter2\u0004"], "hunter2"],
    ["is empty after Ctrl-D alone", ["\u0004"], ""],
    ["loses a whole character to Backspace", ["a😀\u007fb\u0008c\r"], "ac"],
    [
      "takes nothing of arrows, function keys and marks of a paste",
      ["a\u001b[A\u001bOP\u001b[1;5C\u001b[[A\u001b[200~b\u001b[201~\r"],
      "ab",
    ],
    ["takes nothing of an arrow that comes in two pieces", ["a\u001b", "[", "Ab\r"], "ab"],
    ["keeps a character that was typed with Alt, or after Esc", ["\u001bab\r"], "ab"],
    ["ends with Enter also within a key", ["a\u001b[\r"], "a"],
    ["takes nothing of other control characters", ["a\u0015\u001a\u0000\tb\u009b\r"], "ab"],
    ["keeps a character whose bytes come apart", [Buffer.from([0xc3]), Buffer.from([0xbc, 0x0d])], "ü"],
  ])("%s", async (_name, chunks, secret) => expect(await typing(...chunks)).toEqual({ how: "ended", secret, modes: [true, false] }));

  test("is given up with Ctrl-C", async () =>
    expect(await typing("hunter2\u0003")).toMatchObject({ how: "interrupted", modes: [true, false] }));

  test("ends with the terminal", async () => {
    const { input } = typedTerminal();
    const typed = readSecretLine(input);
    input.end("hunter2");
    expect(await typed).toEqual({ how: "ended", secret: "hunter2" });
  });

  test("is the first line of a paste, and nobody after reads the rest", async () => {
    const { input } = typedTerminal();
    const typed = readSecretLine(input);
    input.write("first\rsecond\r");
    await new Promise((resolve) => setTimeout(resolve, 10));
    input.write("rm -rf build\r");
    expect((await typed).secret).toBe("first");
    expect([input.read(), input.listenerCount("data"), input.listenerCount("end")]).toEqual([
      null,
      0,
      new PassThrough().listenerCount("end"),
    ]);
    input.write("typed later");
    expect(String(input.read())).toBe("typed later");
  });

  test("does not wait for a key that is held down", async () => {
    const { input } = typedTerminal();
    const held = setInterval(() => input.write("\r"), 10);
    const begin = performance.now();
    expect((await readSecretLine(input)).secret).toBe("");
    clearInterval(held);
    expect(performance.now() - begin).toBeLessThan(5_000);
  });
});

describe("the question for a secret", () => {
  const { stdin } = process;
  afterEach(() => Object.defineProperty(process, "stdin", { value: stdin, configurable: true }));
  const answerWith = async (text: string) => {
    const { input } = typedTerminal();
    Object.defineProperty(process, "stdin", { value: input, configurable: true });
    const terminal = recordingTerminal({ canAsk: true });
    const asked = readSecret(shellOf({ terminal }), "Password: ", false);
    input.write(text);
    try {
      return await asked;
    } finally {
      expect(terminal.text()).toBe("Password: \n");
    }
  };

  test("is answered by what was typed", async () => expect(await answerWith("hunter2\u0004")).toBe("hunter2"));
  test.each([
    ["Enter", "\r", 2, "no secret was typed; nothing was changed"],
    ["Ctrl-D", "\u0004", 2, "no secret was typed; nothing was changed"],
    ["Ctrl-C", "hunter2\u0003", 130, "nothing was changed"],
  ])(
    "%s without a secret is told in a sentence",
    async (_key, text, exitCode, message) => await expect(answerWith(text)).rejects.toMatchObject({ exitCode, message }),
  );
});
