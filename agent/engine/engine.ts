/** The container engine as the agent uses it: the port, its errors, and the strict patterns of what may name a thing in it. */
import type { PortBinding } from "../../shared/wire/report.ts";
import type { ContainerStatus } from "../../shared/converge/world.ts";
import type { CreateBody } from "./create-body.ts";

/** What an event made the agent look at again; never an instruction. */
export interface EngineEvent {
  readonly type: "container" | "image" | "network" | "volume";
  readonly action: string;
  readonly id: string;
  readonly name: string;
  /** Number of the signal of a container's `kill`. */
  readonly signal: string | null;
  /** Engine's wall-clock nanoseconds as text, for asking again from here. */
  readonly time: string;
}

export interface ListedContainer {
  readonly id: string;
  readonly names: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly status: ContainerStatus;
}

export interface InspectedContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly imageId: string;
  readonly status: ContainerStatus;
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly health: "none" | "starting" | "healthy" | "unhealthy";
  /** Wall-clock milliseconds; null: never. */
  readonly startedWallMs: number | null;
  readonly finishedWallMs: number | null;
  /** When the present run of successful probes began, by the engine's log of the last five; null: unhealthy or no probes. */
  readonly healthySinceWallMs: number | null;
  readonly ports: readonly PortBinding[];
  readonly tty: boolean;
}

export interface EngineInfo {
  readonly version: string;
  readonly apiVersion: string;
  readonly cgroup: string;
  readonly storage: string;
  readonly name: string;
  readonly os: string;
  /** What the engine logs with unless told otherwise. */
  readonly logDriver: string;
  readonly isRootless: boolean;
  readonly isPodman: boolean;
  readonly isDesktop: boolean;
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

export interface LogLine {
  readonly stream: "stdout" | "stderr";
  readonly at: string | null;
  readonly text: string;
  readonly cut: boolean;
}

export interface Engine {
  info(): Promise<EngineInfo>;
  /** Every container, stopped ones too, that carries the label. */
  listByLabel(label: string): Promise<readonly ListedContainer[]>;
  /** Null: there is none. */
  inspect(id: string): Promise<InspectedContainer | null>;
  /** Gives the new container's id. */
  create(name: string, body: CreateBody): Promise<string>;
  start(id: string): Promise<void>;
  /** Its stop signal, then SIGKILL after the grace. No error when it is gone or stopped already. */
  stop(id: string, graceMs: number): Promise<void>;
  kill(id: string): Promise<void>;
  /** With its anonymous volumes. No error when it is gone. */
  remove(id: string): Promise<void>;
  /** Null: not there. */
  image(reference: string): Promise<{ readonly id: string; readonly digests: readonly string[]; readonly tags: readonly string[] } | null>;
  pull(
    reference: string,
    options: {
      readonly login: Login | null;
      readonly onProgress: (progress: { currentBytes: number; totalBytes: number }) => void;
      readonly signal: AbortSignal;
    },
  ): Promise<void>;
  /** Untags; the engine deletes what has no other name. Throws `inUse` when a container needs it. */
  removeImage(reference: string): Promise<void>;
  networks(): Promise<readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[]>;
  createNetwork(name: string, labels: Readonly<Record<string, string>>): Promise<void>;
  removeNetwork(name: string): Promise<void>;
  volumes(): Promise<readonly { readonly name: string; readonly driver: string; readonly labels: Readonly<Record<string, string>> }[]>;
  createVolume(name: string, labels: Readonly<Record<string, string>>): Promise<void>;
  removeVolume(name: string): Promise<void>;
  /** Calls `onOpen` when the engine listens; ends when the stream does, rejects when it cannot be opened. */
  events(options: {
    readonly onOpen: () => void;
    readonly onEvent: (event: EngineEvent) => void;
    readonly signal: AbortSignal;
  }): Promise<void>;
  /** Lines as they come; a slow `onLine` slows the engine's stream. Ends at the end of the log, or with `signal`. */
  logs(
    id: string,
    options: {
      readonly follow: boolean;
      readonly tail: number;
      readonly sinceMs: number | null;
      readonly timestamps: boolean;
      readonly onLine: (line: LogLine) => Promise<void>;
      readonly signal: AbortSignal;
    },
  ): Promise<void>;
}

export const ENGINE_FAILURES = [
  "unreachable",
  "timeout",
  "notFound",
  "conflict",
  "invalid",
  "inUse",
  "denied",
  "noSpace",
  "failed",
  "aborted",
] as const;
export type EngineFailure = (typeof ENGINE_FAILURES)[number];

export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineFailure;
  readonly status: number | null;
  constructor(code: EngineFailure, message: string, fields: { readonly status?: number; readonly cause?: unknown } = {}) {
    super(message, { cause: fields.cause });
    this.code = code;
    this.status = fields.status ?? null;
  }
}

const CONTAINER_ID = /^[0-9a-f]{64}$/;
/** Two characters at least: the engine takes no shorter ones for containers and volumes. */
const OBJECT_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}$/;
/** As ImageReference in shared/model/app.ts, and never with a query or a dot segment: the client puts it into a path raw. */
const REFERENCE = /^(?:sha256:[0-9a-f]{64}|[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,511})$/;

/** Ids and names go into the engine's request path raw: what does not match never gets there. */
export function assertContainerId(id: string): void {
  if (!CONTAINER_ID.test(id)) throw new EngineError("invalid", `"${id.slice(0, 80)}" is no container id`);
}
export function assertObjectName(name: string): void {
  if (!OBJECT_NAME.test(name)) throw new EngineError("invalid", `"${name.slice(0, 80)}" is no name of a container, network or volume`);
}
export function assertReference(reference: string): void {
  if (!REFERENCE.test(reference) || reference.split("/").some((part) => part === "." || part === ".." || part === "")) {
    throw new EngineError("invalid", `"${reference.slice(0, 80)}" is no image reference`);
  }
}
