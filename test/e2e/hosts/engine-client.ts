import { request } from "node:http";

/** The oldest version that all engines in the field speak; the tests' engine speaks it too. */
const API_VERSION = "v1.41";

const REQUEST_TIMEOUT_MS = 60_000;

export type EngineAnswer = { status: number; text: string };

export type ContainerSummary = {
  Id: string;
  Names: string[];
  Image: string;
  ImageID: string;
  State: string;
  Status: string;
  Labels: Record<string, string>;
};

export type ContainerInspect = {
  Id: string;
  Name: string;
  RestartCount: number;
  State: { Status: string; Running: boolean; Pid: number; ExitCode: number; StartedAt: string; FinishedAt: string };
  Config: { Image: string; Labels: Record<string, string>; Env: string[] };
  HostConfig: Record<string, unknown>;
  NetworkSettings: { IPAddress: string; Networks: Record<string, { IPAddress: string }> };
};

export type RegistryLogin = { user: string; password: string };

/** The engine's own HTTP API, for what tests set up and look at. Not the client that is tested. */
export class EngineClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** One request; an answer of any status is returned. */
  request(
    method: string,
    path: string,
    { body, headers = {} }: { body?: unknown; headers?: Record<string, string> } = {},
  ): Promise<EngineAnswer> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.#socket,
          method,
          path: `/${API_VERSION}${path}`,
          headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
          // A connection kept alive would meet the next engine's socket as a broken pipe.
          agent: false,
          timeout: REQUEST_TIMEOUT_MS,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
        },
      );
      sent.on("timeout", () => sent.destroy(new Error(`${method} ${path}: no answer in ${REQUEST_TIMEOUT_MS} ms`)));
      sent.on("error", reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async ping(): Promise<boolean> {
    return (await this.request("GET", "/_ping")).status === 200;
  }

  /** All containers, stopped ones too; `label` is "key" or "key=value". */
  async containers({ label }: { label?: string } = {}): Promise<ContainerSummary[]> {
    const filters = label === undefined ? "" : `&filters=${encodeURIComponent(JSON.stringify({ label: [label] }))}`;
    return this.#json("GET", `/containers/json?all=1${filters}`);
  }

  async inspect(container: string): Promise<ContainerInspect> {
    return this.#json("GET", `/containers/${encodeURIComponent(container)}/json`);
  }

  /** Pulls `registry/name:tag` or `registry/name@digest`; throws with the engine's reason. */
  async pull(reference: string, login?: RegistryLogin): Promise<void> {
    const headers = login === undefined ? {} : { "x-registry-auth": encodeLogin(login) };
    const path = `/images/create?fromImage=${encodeURIComponent(reference)}`;
    const { status, text } = await this.request("POST", path, { headers });
    // The answer is a stream of JSON lines with status 200; a failure comes as its last line.
    const error = /"error":"((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
    if (status !== 200 || error !== undefined) {
      throw new Error(`The engine could not pull ${reference}: ${error ?? text.trim()}`);
    }
  }

  /** Creates and starts a container and returns its id. `spec` is the body of the engine's create call. */
  async runContainer(name: string, spec: { Image: string } & Record<string, unknown>): Promise<string> {
    const created = await this.#json<{ Id: string }>("POST", `/containers/create?name=${name}`, spec);
    await this.#json("POST", `/containers/${created.Id}/start`);
    return created.Id;
  }

  async removeContainer(container: string): Promise<void> {
    await this.#json("DELETE", `/containers/${encodeURIComponent(container)}?force=1&v=1`);
  }

  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { status, text } = await this.request(method, path, { body });
    if (status >= 400) throw new Error(`The engine answered ${method} ${path} with ${status}: ${text.trim()}`);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }
}

function encodeLogin({ user, password }: RegistryLogin): string {
  // With its padding: an engine takes a login without it for none, and says nothing.
  return Buffer.from(JSON.stringify({ username: user, password }))
    .toString("base64")
    .replaceAll("+", "-")
    .replaceAll("/", "_");
}
