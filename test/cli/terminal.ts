import { Client } from "../../cli/client/client.ts";
import type { Target } from "../../cli/client/contexts.ts";
import type { Transport, TransportAnswer, TransportRequest } from "../../cli/client/transport.ts";
import { styleFor } from "../../cli/render/style.ts";
import type { OutputFormat, Shell } from "../../cli/shell.ts";
import type { Terminal } from "../../cli/terminal.ts";

export interface Recorded extends Terminal {
  readonly text: () => string;
  readonly errors: () => string;
}

/** A terminal that remembers. No colour, no redraws, nobody to ask, unless said otherwise. */
export function recordingTerminal(
  options: Partial<Pick<Terminal, "isTty" | "canAsk" | "columns" | "rows">> & { colour?: boolean } = {},
): Recorded {
  let text = "";
  let errors = "";
  return {
    style: styleFor(options.colour ?? false),
    isTty: options.isTty ?? false,
    canAsk: options.canAsk ?? false,
    columns: options.columns ?? 80,
    rows: options.rows ?? 24,
    out: (more) => {
      text += more;
    },
    err: (more) => {
      errors += more;
    },
    text: () => text,
    errors: () => errors,
  };
}

export interface ShellParts {
  readonly terminal?: Terminal;
  readonly client?: Client;
  readonly output?: OutputFormat;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  readonly namespace?: string;
  readonly signal?: AbortSignal;
}

export function shellOf(parts: ShellParts = {}): Shell {
  const client =
    parts.client ??
    new Client({ url: "http://127.0.0.1:1", token: null, transport: () => Promise.reject(new Error("no transport")), startHint: "" });
  return {
    terminal: parts.terminal ?? recordingTerminal(),
    env: parts.env ?? {},
    cwd: parts.cwd ?? "/nowhere",
    output: parts.output ?? "table",
    namespace: parts.namespace ?? "default",
    isInsecure: false,
    signal: parts.signal ?? new AbortController().signal,
    target: (): Target => ({
      name: "test",
      source: "option",
      url: client.url,
      token: null,
      pins: { root: null, spki: null },
      startHint: "",
    }),
    client: () => client,
  };
}

export function answer(status: number, body: unknown, headers: Record<string, string> = {}): TransportAnswer {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const all: Record<string, string> = { "content-type": "application/json", ...headers };
  return {
    status,
    header: (name) => all[name.toLowerCase()] ?? null,
    text: async () => text,
    lines: async function* () {
      yield* text.split("\n");
    },
  };
}

/** A client whose requests are answered by a function, which also sees them. */
export function clientWith(respond: (request: TransportRequest, count: number) => TransportAnswer | Promise<TransportAnswer>): {
  client: Client;
  requests: TransportRequest[];
} {
  const requests: TransportRequest[] = [];
  const transport: Transport = async (request) => {
    requests.push(request);
    return respond(request, requests.length);
  };
  return { client: new Client({ url: "https://berth.test", token: "berth_x", transport, startHint: "npm start" }), requests };
}
