/** The few words of the agent's own command line, as data. Pure. */
export const AGENT_COMMANDS = ["join", "run", "install", "uninstall"] as const;
export type AgentCommand = (typeof AGENT_COMMANDS)[number];

export interface AgentFlags {
  readonly dataDir?: string;
  readonly name?: string;
  readonly caFile?: string;
  readonly engineSocket?: string;
  readonly foreground: boolean;
}

export type CommandLine =
  | { readonly kind: "command"; readonly command: AgentCommand; readonly token: string | undefined; readonly flags: AgentFlags }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "wrong"; readonly message: string };

export const USAGE = `Usage: agent.mjs <command> [options]

  join [TOKEN]  make this machine a node of the cluster that the token is for (better: in BERTH_JOIN_TOKEN,
                which other users of the machine cannot see)
  run           run this node: keep its containers running and report them
  install       run it as a systemd service, now and at each boot
  uninstall     end and remove the service; containers go on running

  --data-dir DIR    where this node's identity and ledger are (default /var/lib/berth)
  --name NAME       wanted name of the node (join; default: the host name)
  --foreground      go on as \`run\` after joining (join)
  --ca FILE         PEM file of a certificate authority to trust besides the well-known ones
  --engine SOCKET   the container engine's socket (default: DOCKER_HOST, else /var/run/docker.sock)
  --version, --help

HTTPS_PROXY and NO_PROXY are obeyed.
`;

const VALUED: Readonly<Record<string, "dataDir" | "name" | "caFile" | "engineSocket">> = {
  "--data-dir": "dataDir",
  "--name": "name",
  "--ca": "caFile",
  "--engine": "engineSocket",
};

/** `env`: of it, the join token. */
export function readCommandLine(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): CommandLine {
  const words: string[] = [];
  const values: { dataDir?: string; name?: string; caFile?: string; engineSocket?: string } = {};
  let foreground = false;
  for (let index = 0; index < argv.length; index++) {
    const [flag = "", inline] = splitFlag(argv[index] ?? "");
    if (flag === "--help" || flag === "-h") return { kind: "help" };
    if (flag === "--version") return { kind: "version" };
    const name = VALUED[flag];
    if (name !== undefined) {
      const value = inline ?? argv[++index];
      if (value === undefined || value === "") return wrong(`${flag} needs a value`);
      values[name] = value;
    } else if (flag === "--foreground") foreground = true;
    else if (flag.startsWith("-")) return wrong(`unknown option ${flag}`);
    else words.push(flag);
  }
  const [command, word, extra] = words;
  if (command === undefined) return { kind: "help" };
  if (!isCommand(command)) return wrong(`unknown command ${command}; there are ${AGENT_COMMANDS.join(", ")}`);
  if (extra !== undefined || (command !== "join" && word !== undefined)) return wrong(`unexpected argument ${extra ?? word ?? ""}`);
  const token = command === "join" ? (word ?? env.BERTH_JOIN_TOKEN) : undefined;
  if (command === "join" && (token === undefined || token === ""))
    return wrong("join needs a token, as berth join-token create prints it, in BERTH_JOIN_TOKEN");
  return { kind: "command", command, token, flags: { ...values, foreground } };
}

const splitFlag = (text: string): [string, string | undefined] => {
  const at = text.indexOf("=");
  return text.startsWith("--") && at > 0 ? [text.slice(0, at), text.slice(at + 1)] : [text, undefined];
};
const isCommand = (word: string): word is AgentCommand => (AGENT_COMMANDS as readonly string[]).includes(word);
const wrong = (message: string): CommandLine => ({ kind: "wrong", message });
