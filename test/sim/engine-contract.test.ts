/** The simulated engine under the contract of a real one. */
import { type EngineGround, engineContract, type Program, type Pushed } from "../contract/engine.ts";
import { SimEngine } from "./engine.ts";
import { SimRegistry } from "./images.ts";
import { Kernel, Process } from "./kernel.ts";
import { keepTurning } from "./turning.ts";

const EPOCH_MS = Date.UTC(2030, 0, 1);
/** By the word after the colon of its name an image knows what to do: see images.ts. */
const WORDS: Readonly<Record<Program, string>> = { web: "", deaf: "deaf", crash: "crash", job: "job" };

class SimGround implements EngineGround {
  readonly #live: boolean;
  readonly #process = new Process("test");
  #kernel = new Kernel("contract");
  #registry = new SimRegistry();
  #sim!: SimEngine;
  #rest: () => void = () => {};

  constructor(live: boolean) {
    this.#live = live;
  }

  async clean() {
    this.#rest();
    this.#kernel = new Kernel("contract");
    this.#registry = new SimRegistry();
    this.#rest = keepTurning(this.#kernel);
    this.#sim = new SimEngine(this.#kernel, { name: "m1", wallMs: () => this.wallMs() }, this.#registry);
    this.#sim.liveRestore = this.#live;
    return this.#sim.portOf(this.#process);
  }
  wallMs(): number {
    return Math.floor(EPOCH_MS + this.#kernel.nowMs);
  }
  pause(ms: number): Promise<void> {
    return this.#kernel.pause(ms, this.#process);
  }
  async push(program: Program, nameTag: string, content = nameTag): Promise<Pushed> {
    const [name, tag] = nameTag.split(":");
    return this.#pushed(`registry.test/${name}:${WORDS[program]}${tag}`, content);
  }
  async pushLarge(nameTag: string): Promise<Pushed> {
    this.#sim.faults.pullFactor = 0.45;
    return this.#pushed(`registry.test/${nameTag}`, nameTag);
  }
  #pushed(reference: string, content: string): Pushed {
    const { repository, digest } = this.#registry.push(reference, content);
    return { tag: reference, pinned: `${repository}@${digest}` };
  }
  async refusing(how: "denied" | "away") {
    const { tag } = await this.push("web", "guarded:1");
    this.#registry.weather = how;
    return {
      tag,
      mend: async () => {
        this.#registry.weather = "fair";
      },
    };
  }
  freeze(): void {
    this.#sim.freeze();
  }
  thaw(): void {
    this.#sim.thaw();
  }
  async down(how: "stop" | "kill" | "power"): Promise<void> {
    this.#sim.down(how);
    while (this.#sim.isEnding) await this.pause(10);
  }
  async up(): Promise<void> {
    this.#sim.up();
    while (!this.#sim.isUp) await this.pause(10);
  }
  async close(): Promise<void> {
    this.#rest();
  }
}

engineContract("simulated", async ({ live }) => new SimGround(live));
