/**
 * The Engine port over dockerode. Every id and name is checked against a strict pattern before it becomes part of a
 * path, every call has a time limit (an engine may accept and never reply), and every failure is an EngineError.
 */
import Docker from "dockerode";
import type { Readable } from "node:stream";
import {
  type RawEvent,
  type RawInfo,
  type RawInspect,
  type RawSummary,
  type RawVersion,
  toInfo,
  toInspected,
  toStatus,
} from "./docker-answers.ts";
import { eachJsonLine, followPull, PULL_SILENCE_MS, pullFailure } from "./docker-streams.ts";
import {
  assertContainerId,
  assertObjectName,
  assertReference,
  type Engine,
  EngineError,
  type EngineEvent,
  type EngineFailure,
  type EngineInfo,
  type Login,
} from "./engine.ts";
import { splitLog } from "./log-frames.ts";

const READ_TIMEOUT_MS = 20_000;
/** Creating and starting are 0.2 s on an idle machine, and tens of seconds on an edge board that is pulling. */
const WRITE_TIMEOUT_MS = 120_000;
/** Above the grace: the engine needs a moment to see that a killed process is gone. */
const STOP_EXTRA_MS = 30_000;
/** Newest API this file was written against; an engine that needs a newer one is spoken to in that. */
const API_NEWEST = 51;
export const API_OLDEST = "1.41";

interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: Record<string, string | number | boolean>;
  readonly body?: object;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly headers?: Record<string, string>;
}

interface ModemFailure extends Error {
  statusCode?: number;
  code?: string;
  json?: { message?: string };
}

interface Modem {
  version: string | undefined;
  dial(options: object, done: (error: ModemFailure | null, data: unknown) => void): void;
}

export function openDocker(socketPath: string): Engine {
  const docker = new Docker({ socketPath });
  const modem = docker.modem as unknown as Modem;

  const dial = (call: Call, isStream: boolean): Promise<unknown> => {
    // For the whole call; of a stream for its beginning: an engine may accept and never reply (F6).
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), call.timeoutMs ?? READ_TIMEOUT_MS);
    return new Promise((resolve, reject) => {
      modem.dial(
        {
          path: `${call.path}?`,
          method: call.method,
          // The client joins `options` to the path of every call; without `_body` it would also send them as the body.
          options: { _query: call.query ?? {}, _body: call.body ?? {} },
          abortSignal: call.signal === undefined ? limit.signal : AbortSignal.any([limit.signal, call.signal]),
          isStream,
          ...(call.headers === undefined ? {} : { headers: call.headers }),
          statusCodes: { 200: true, 201: true, 204: true, 304: true },
        },
        (error, data) => {
          clearTimeout(timer);
          if (error === null || error === undefined) resolve(data);
          else reject(toEngineError(error, call, limit.signal.aborted));
        },
      );
    });
  };
  const call = <Answer>(request: Call): Promise<Answer> => dial(request, false) as Promise<Answer>;
  const stream = (request: Call): Promise<Readable> => dial(request, true) as Promise<Readable>;
  /** An answer that the thing is not there (or, for a stop, that it does not run) is what was wanted. */
  const tolerate = async (work: Promise<unknown>, ...codes: EngineFailure[]): Promise<void> => {
    try {
      await work;
    } catch (error) {
      if (!(error instanceof EngineError && codes.includes(error.code))) throw error;
    }
  };
  const container = (id: string): string => {
    assertContainerId(id);
    return `/containers/${id}`;
  };
  const object = (kind: "networks" | "volumes", name: string): string => {
    assertObjectName(name);
    return `/${kind}/${name}`;
  };
  const imagePath = (reference: string): string => {
    assertReference(reference);
    return `/images/${reference}`;
  };

  let negotiated: Promise<void> | null = null;
  const negotiate = (): Promise<void> => {
    negotiated ??= (async () => {
      const version = await call<RawVersion>({ method: "GET", path: "/version" });
      const newest = Number(version.ApiVersion.split(".")[1]);
      const oldest = Number((version.MinAPIVersion ?? "1.12").split(".")[1]);
      modem.version = `v1.${Math.max(oldest, Math.min(newest, API_NEWEST))}`;
    })().catch((error: unknown) => {
      negotiated = null;
      throw error;
    });
    return negotiated;
  };

  return {
    async info(): Promise<EngineInfo> {
      // Anew each time: the engine may have been upgraded since.
      modem.version = undefined;
      negotiated = null;
      const version = await call<RawVersion>({ method: "GET", path: "/version" });
      const info = await call<RawInfo>({ method: "GET", path: "/info" });
      await negotiate();
      return toInfo(version, info);
    },
    async listByLabel(label) {
      await negotiate();
      const list = await call<RawSummary[]>({
        method: "GET",
        path: "/containers/json",
        query: { all: true, filters: JSON.stringify({ label: [label] }) },
      });
      return list.map((item) => ({
        id: item.Id,
        names: item.Names.map((name) => name.replace(/^\//, "")),
        labels: item.Labels ?? {},
        status: toStatus(item.State),
      }));
    },
    async inspect(id) {
      await negotiate();
      try {
        return toInspected(await call<RawInspect>({ method: "GET", path: `${container(id)}/json` }));
      } catch (error) {
        if (error instanceof EngineError && error.code === "notFound") return null;
        throw error;
      }
    },
    async create(name, body) {
      await negotiate();
      assertObjectName(name);
      const made = await call<{ Id: string }>({
        method: "POST",
        path: "/containers/create",
        query: { name },
        body,
        timeoutMs: WRITE_TIMEOUT_MS,
      });
      assertContainerId(made.Id);
      return made.Id;
    },
    async start(id) {
      await negotiate();
      await call({ method: "POST", path: `${container(id)}/start`, timeoutMs: WRITE_TIMEOUT_MS });
    },
    async stop(id, graceMs) {
      await negotiate();
      await tolerate(
        call({
          method: "POST",
          path: `${container(id)}/stop`,
          query: { t: Math.ceil(graceMs / 1000) },
          timeoutMs: graceMs + STOP_EXTRA_MS,
        }),
        "notFound",
      );
    },
    async kill(id) {
      await negotiate();
      await tolerate(
        call({ method: "POST", path: `${container(id)}/kill`, query: { signal: "KILL" }, timeoutMs: STOP_EXTRA_MS }),
        "notFound",
        "conflict",
      );
    },
    async remove(id) {
      await negotiate();
      await tolerate(
        call({ method: "DELETE", path: container(id), query: { v: true, force: true }, timeoutMs: WRITE_TIMEOUT_MS }),
        "notFound",
      );
    },
    async image(reference) {
      await negotiate();
      try {
        const raw = await call<{ Id: string; RepoDigests: string[] | null; RepoTags: string[] | null }>({
          method: "GET",
          path: `${imagePath(reference)}/json`,
        });
        return { id: raw.Id, digests: raw.RepoDigests ?? [], tags: raw.RepoTags ?? [] };
      } catch (error) {
        if (error instanceof EngineError && error.code === "notFound") return null;
        throw error;
      }
    },
    async pull(reference, { login, onProgress, signal }) {
      await negotiate();
      assertReference(reference);
      const headers = login === null ? {} : { "X-Registry-Auth": encodeLogin(login) };
      try {
        const query = { fromImage: reference };
        const answer = await stream({ method: "POST", path: "/images/create", query, headers, timeoutMs: PULL_SILENCE_MS, signal });
        await followPull(answer, reference, onProgress);
      } catch (error) {
        if (!(error instanceof EngineError)) throw cutOff(error, signal);
        if (error.status === null) throw error;
        throw new EngineError(pullFailure(error.message), error.message, { status: error.status, cause: error });
      }
    },
    async removeImage(reference) {
      await negotiate();
      try {
        await call({ method: "DELETE", path: imagePath(reference), query: { noprune: false }, timeoutMs: WRITE_TIMEOUT_MS });
      } catch (error) {
        if (error instanceof EngineError && error.code === "notFound") return;
        if (error instanceof EngineError && error.code === "conflict") throw inUse(error);
        throw error;
      }
    },
    async networks() {
      await negotiate();
      const list = await call<{ Name: string; Labels: Record<string, string> | null }[]>({ method: "GET", path: "/networks" });
      return list.map((item) => ({ name: item.Name, labels: item.Labels ?? {} }));
    },
    async createNetwork(name, labels) {
      await negotiate();
      assertObjectName(name);
      await tolerate(
        call({
          method: "POST",
          path: "/networks/create",
          body: { Name: name, Driver: "bridge", CheckDuplicate: true, Labels: labels },
          timeoutMs: WRITE_TIMEOUT_MS,
        }),
        "conflict",
      );
    },
    async removeNetwork(name) {
      await negotiate();
      await tolerate(call({ method: "DELETE", path: object("networks", name), timeoutMs: WRITE_TIMEOUT_MS }), "notFound");
    },
    async volumes() {
      await negotiate();
      const list = await call<{ Volumes: { Name: string; Driver: string; Labels: Record<string, string> | null }[] | null }>({
        method: "GET",
        path: "/volumes",
      });
      return (list.Volumes ?? []).map((item) => ({ name: item.Name, driver: item.Driver, labels: item.Labels ?? {} }));
    },
    async createVolume(name, labels) {
      await negotiate();
      assertObjectName(name);
      await call({
        method: "POST",
        path: "/volumes/create",
        body: { Name: name, Driver: "local", Labels: labels },
        timeoutMs: WRITE_TIMEOUT_MS,
      });
    },
    async removeVolume(name) {
      await negotiate();
      try {
        await tolerate(call({ method: "DELETE", path: object("volumes", name), timeoutMs: WRITE_TIMEOUT_MS }), "notFound");
      } catch (error) {
        if (error instanceof EngineError && error.code === "conflict") throw inUse(error);
        throw error;
      }
    },
    async events({ onOpen, onEvent, signal }) {
      await negotiate();
      // Named one by one: each probe of a health check would bring three events more.
      const filters = JSON.stringify({
        type: ["container", "image", "network", "volume"],
        event: ["create", "start", "kill", "die", "oom", "destroy", "pause", "unpause", "rename", "health_status", "delete", "untag"],
      });
      const opened = await stream({ method: "GET", path: "/events", query: { filters }, signal });
      onOpen();
      await eachJsonLine(opened, (value) => {
        const raw = value as RawEvent;
        if (raw.Type === "container" || raw.Type === "image" || raw.Type === "network" || raw.Type === "volume") {
          onEvent({
            type: raw.Type,
            action: raw.Action,
            id: raw.Actor.ID,
            name: raw.Actor.Attributes?.name ?? "",
            signal: raw.Actor.Attributes?.signal ?? null,
            time: String(raw.timeNano ?? ""),
          } satisfies EngineEvent);
        }
      }).catch((error: unknown) => {
        // However it ends, it has ended: what was missed is listed.
        if (!signal.aborted && !isCut(error)) throw error;
      });
    },
    async logs(id, { follow, tail, sinceMs, timestamps, onLine, signal }) {
      await negotiate();
      const path = container(id);
      const { Config } = await call<RawInspect>({ method: "GET", path: `${path}/json` });
      const query = {
        follow,
        stdout: true,
        stderr: true,
        tail: tail === 0 && !follow ? "all" : tail,
        timestamps,
        ...(sinceMs === null ? {} : { since: (sinceMs / 1000).toFixed(3) }),
      };
      const opened = await stream({ method: "GET", path: `${path}/logs`, query, signal });
      await splitLog(opened, { isTty: Config.Tty, hasTimestamps: timestamps, onLine });
    },
  };
}

const FAILURE_OF_STATUS: Readonly<Record<number, EngineFailure>> = {
  400: "invalid",
  401: "denied",
  403: "denied",
  404: "notFound",
  409: "conflict",
};

function toEngineError(error: ModemFailure, { method, path }: Call, isTimeout: boolean): EngineError {
  if (error.statusCode !== undefined) {
    // The client puts its own words before the engine's.
    const message = (error.json?.message ?? error.message.replace(/^\(HTTP code \d+\) [a-z ]+ - /, "")).trim().slice(0, 1500);
    const code = /no space left on device/.test(message) ? "noSpace" : (FAILURE_OF_STATUS[error.statusCode] ?? "failed");
    return new EngineError(code, message, { status: error.statusCode, cause: error });
  }
  if (isTimeout) return new EngineError("timeout", `the engine did not answer ${method} ${path} in time`, { cause: error });
  if (error.name === "AbortError" || error.code === "ABORT_ERR") return new EngineError("aborted", "called off", { cause: error });
  return new EngineError("unreachable", `the engine cannot be reached: ${error.message}`, { cause: error });
}

const inUse = (error: EngineError): EngineError =>
  new EngineError("inUse", error.message, { cause: error, ...(error.status === null ? {} : { status: error.status }) });

/** The connection was closed in the middle of an answer: by us, or because the engine is gone. */
const isCut = (error: unknown): error is Error =>
  error instanceof Error && "code" in error && (error.code === "ECONNRESET" || error.code === "ERR_STREAM_PREMATURE_CLOSE");

function cutOff(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return new EngineError("aborted", "called off", { cause: error });
  return isCut(error) ? new EngineError("unreachable", `the engine went away: ${error.message}`, { cause: error }) : error;
}

/** With padding: 20.10 takes a login without it for none, and says nothing. */
const encodeLogin = ({ username, password }: Login): string =>
  Buffer.from(JSON.stringify({ username, password })).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
