/** A container engine without containers, for tests of what the agent makes of its answers: each call can be held or failed. */
import { createHash } from "node:crypto";
import type { CreateBody } from "../../agent/engine/create-body.ts";
import { type Engine, EngineError, type EngineEvent, type InspectedContainer } from "../../agent/engine/engine.ts";

interface FakeContainer {
  readonly id: string;
  readonly name: string;
  readonly body: CreateBody;
  status: InspectedContainer["status"];
  startedWallMs: number | null;
}

export class FakeEngine {
  readonly containers = new Map<string, FakeContainer>();
  /** Reference → id. */
  readonly images = new Map<string, string>();
  readonly #networks = new Map<string, Readonly<Record<string, string>>>();
  readonly #volumes = new Map<string, Readonly<Record<string, string>>>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly calls: string[] = [];
  /** Runs before a call has its effect: what it throws is the answer, what it waits for holds the call. */
  before: Partial<{ [Name in keyof Engine]: (...args: Parameters<Engine[Name]>) => unknown }> = {};
  readonly port: Engine;

  constructor() {
    const plain = this.#plain();
    this.port = new Proxy(plain, {
      get:
        (target, name: keyof Engine) =>
        async (...args: never[]) => {
          this.calls.push(typeof args[0] === "string" ? `${name} ${args[0]}` : name);
          await (this.before[name] as ((...given: unknown[]) => unknown) | undefined)?.(...args);
          return (target[name] as (...given: never[]) => unknown)(...args);
        },
    });
  }

  /** By somebody at the engine. */
  removeByHand(id: string): void {
    this.containers.delete(id);
    this.#emit("destroy", id);
  }
  endByHand(id: string, action: "die" | "start"): void {
    const found = this.containers.get(id);
    if (found !== undefined) found.status = action === "die" ? "exited" : "running";
    this.#emit(action, id);
  }

  #emit(action: string, id: string): void {
    for (const listener of this.#listeners) listener({ type: "container", action, id, name: "", signal: null, time: "" });
  }

  #plain(): Engine {
    const end = async (id: string) => {
      const found = this.containers.get(id);
      if (found?.status === "running") found.status = "exited";
    };
    return {
      info: async () => ({
        version: "20.10.24",
        apiVersion: "1.41",
        cgroup: "2",
        storage: "overlay2",
        name: "fake",
        os: "linux",
        logDriver: "json-file",
        isRootless: false,
        isPodman: false,
        isDesktop: false,
      }),
      listByLabel: async () =>
        [...this.containers.values()].map(({ id, name, body, status }) => ({ id, names: [name], labels: body.Labels, status })),
      inspect: async (id) => {
        const found = this.containers.get(id);
        if (found === undefined) return null;
        const { name, body, status, startedWallMs } = found;
        return {
          id,
          name,
          labels: body.Labels,
          imageId: body.Image,
          status,
          pid: status === "running" ? 42 : 0,
          exitCode: 0,
          oomKilled: false,
          health: "none",
          startedWallMs,
          finishedWallMs: null,
          healthySinceWallMs: null,
          ports: [],
          tty: false,
        };
      },
      create: async (name, body) => {
        const id = createHash("sha256").update(`${name} ${this.calls.length}`).digest("hex");
        this.containers.set(id, { id, name, body, status: "created", startedWallMs: null });
        return id;
      },
      start: async (id) => {
        const found = this.containers.get(id);
        if (found === undefined) throw new EngineError("notFound", `No such container: ${id}`, { status: 404 });
        Object.assign(found, { status: "running", startedWallMs: Date.now() });
      },
      stop: end,
      kill: end,
      remove: async (id) => void this.containers.delete(id),
      image: async (reference) => {
        const id = this.images.get(reference) ?? ([...this.images.values()].includes(reference) ? reference : undefined);
        return id === undefined ? null : { id, digests: [], tags: [...this.images.keys()].filter((name) => this.images.get(name) === id) };
      },
      pull: async (reference) => void this.images.set(reference, `sha256:${createHash("sha256").update(reference).digest("hex")}`),
      removeImage: async (reference) => void this.images.delete(reference),
      networks: async () => [...this.#networks].map(([name, labels]) => ({ name, labels })),
      createNetwork: async (name, labels) => void this.#networks.set(name, labels),
      removeNetwork: async (name) => void this.#networks.delete(name),
      volumes: async () => [...this.#volumes].map(([name, labels]) => ({ name, driver: "local", labels })),
      createVolume: async (name, labels) => void this.#volumes.set(name, labels),
      removeVolume: async (name) => void this.#volumes.delete(name),
      events: async ({ onOpen, onEvent, signal }) => {
        this.#listeners.add(onEvent);
        onOpen();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        this.#listeners.delete(onEvent);
      },
      logs: async () => undefined,
    };
  }
}
