/** A real Docker engine under the contract that the simulated one keeps. */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { openDocker } from "../../agent/engine/docker.ts";
import { type EngineGround, engineContract, type Program, type Pushed } from "../contract/engine.ts";
import type { Host } from "../e2e/hosts/host.ts";
import type { Registry } from "../e2e/hosts/registry.ts";
import { Ground } from "./ground.ts";

const COMMANDS: Readonly<Record<Program, readonly string[]>> = {
  web: ["/bin/sleep", "100000"],
  deaf: ["/bin/sh", "-c", "trap '' TERM; sleep 100000"],
  crash: ["/bin/sh", "-c", "sleep 0.7; exit 1"],
  job: ["/bin/sh", "-c", "sleep 1"],
};
/** Takes this machine about half a second to pull. */
const LARGE_BYTES = 30_000_000;

let ground: Ground;
let guarded: Registry;
beforeAll(async () => {
  ground = await Ground.make("enginecontract");
  guarded = await ground.lab.registry({ auth: { user: "berth", password: "secret" } });
});
afterAll(() => ground?.close());

class DockerGround implements EngineGround {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  async clean() {
    const { engine } = this.#host;
    if (!this.#host.isOn) await this.#host.powerOn();
    if (!engine.isRunning) await engine.start();
    for (const { Id } of await engine.client.containers()) await engine.client.removeContainer(Id);
    for (const what of ["networks", "volumes"]) await engine.client.request("POST", `/${what}/prune`);
    const all = encodeURIComponent(JSON.stringify({ dangling: ["false"] }));
    await engine.client.request("POST", `/images/prune?filters=${all}`);
    return openDocker(this.#host.socket);
  }
  wallMs(): number {
    return Date.now();
  }
  async pause(ms: number): Promise<void> {
    await pause(ms);
  }
  push(program: Program, nameTag: string, content = nameTag): Promise<Pushed> {
    return ground.registry.push(nameTag, { cmd: COMMANDS[program], files: { "/www/index.html": content } });
  }
  pushLarge(nameTag: string): Promise<Pushed> {
    return ground.registry.push(nameTag, { files: { "/large": randomBytes(LARGE_BYTES) } });
  }
  async refusing(how: "denied" | "away") {
    const { tag } = await guarded.push("secret:1");
    if (how === "away") await guarded.stop();
    return { tag, mend: async () => (how === "away" ? await guarded.start() : undefined) };
  }
  freeze(): void {
    this.#host.engine.freeze();
  }
  thaw(): void {
    this.#host.engine.thaw();
  }
  async down(how: "stop" | "kill" | "power"): Promise<void> {
    if (how === "power") await this.#host.powerOff();
    else await this.#host.engine[how]();
  }
  async up(): Promise<void> {
    if (this.#host.isOn) await this.#host.engine.start();
    else await this.#host.powerOn();
  }
  async close(): Promise<void> {
    if (this.#host.engine.isRunning) await this.clean();
  }
}

engineContract(
  "Docker",
  async ({ live }) => new DockerGround(live ? await ground.lab.host("live", { engine: { liveRestore: true } }) : ground.host),
);
