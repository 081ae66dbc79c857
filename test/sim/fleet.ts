/**
 * What operators do to nodes: label and taint them, cordon them for a while, remove one and let its machine join again,
 * with a token that is good for one machine while two have it.
 */
import { Acts } from "./acts.ts";
import { DISK, DISK_LABEL, TAINT } from "./apps.ts";
import { Client } from "./client.ts";
import type { Machine } from "./machine.ts";
import type { Prng } from "./prng.ts";
import type { World } from "./world.ts";

/** What is left has to have room for what was on a node that is removed. */
const NODES_LEFT_MIN = 3;
const GIVES_UP_WITHIN_MS = 90_000;
const JOINS_WITHIN_MS = 60_000;

export class Fleet {
  readonly done = { labelled: 0, tainted: 0, cordoned: 0, nodesRemoved: 0, rejoined: 0, joinsRefused: 0 };
  readonly client: Client;
  readonly #world: World;
  readonly #acts: Acts;
  readonly #random: Prng;
  #spares = 0;

  constructor(world: World, acts = new Acts()) {
    this.#world = world;
    this.#acts = acts;
    this.#random = world.kernel.random.fork("fleet");
    this.client = new Client(world);
  }

  async run(untilMs: number, everyMs: number): Promise<void> {
    for (const machine of this.#world.machines) {
      const random = this.#random.fork(machine.name);
      if (random.chance(0.5)) await this.#label(machine, random);
    }
    for (let count = 1; this.#world.nowMs < untilMs; count++) {
      const id = `n${count}`;
      const random = this.#random.fork(id);
      await this.#pause(random.between(0.2, 1.8) * everyMs);
      if (this.#world.nowMs >= untilMs) return;
      const machine = random.pick(this.#world.machines);
      const what = this.#something(machine, random);
      if (this.#acts.begin({ id, atMs: this.#world.nowMs, what: `${what.name} ${machine.name}` })) await what.run();
    }
  }

  #something(machine: Machine, random: Prng): { readonly name: string; run(): Promise<void> } {
    const dice = random.fraction();
    if (dice < 0.3) return { name: "label", run: () => this.#label(machine, random) };
    if (dice < 0.5) return { name: "taint", run: () => this.#taint(machine, random) };
    if (dice < 0.8 || this.#world.machines.length <= NODES_LEFT_MIN || machine.wasCloned || !machine.isAgentUp)
      return { name: "cordon", run: () => this.#cordon(machine, random) };
    return { name: "replace", run: () => this.#replace(machine, random) };
  }

  async #label(machine: Machine, random: Prng): Promise<void> {
    this.done.labelled++;
    await this.#patch(machine, { labels: { [DISK_LABEL]: random.chance(0.7) ? DISK : null } }, random);
  }

  async #taint(machine: Machine, random: Prng): Promise<void> {
    this.done.tainted++;
    await this.#patch(machine, { addTaints: [{ key: TAINT }] }, random);
    await this.#pause(random.between(5_000, 90_000));
    await this.#patch(machine, { removeTaints: [TAINT] }, random);
  }

  async #cordon(machine: Machine, random: Prng): Promise<void> {
    this.done.cordoned++;
    await this.#patch(machine, { availability: "cordoned" }, random);
    await this.#pause(random.between(5_000, 90_000));
    await this.#patch(machine, { availability: "active" }, random);
  }

  async #patch(machine: Machine, body: object, random: Prng): Promise<void> {
    await this.client.ask({ method: "PATCH", path: `/v1/nodes/${machine.name}`, body }, random);
  }

  /** Its node is removed; once its agent has given up it joins anew, or another machine with the same token does. */
  async #replace(machine: Machine, random: Prng): Promise<void> {
    machine.mayStop = true;
    await this.client.ask({ method: "DELETE", path: `/v1/nodes/${machine.name}?force=true` }, random);
    if (this.#isNode(machine)) {
      machine.mayStop = false;
      return;
    }
    this.done.nodesRemoved++;
    if (!(await this.#until(() => machine.ended === "removed" && !machine.disk.isFull, GIVES_UP_WITHIN_MS))) return;
    const made = await this.client.ask({ method: "POST", path: "/v1/join-tokens", body: { site: machine.site, uses: 1 } }, random);
    if (made.status !== 200 && made.status !== 201) return;
    const { token } = made.body as { readonly token: string };
    this.#world.handOut(token);
    machine.reinstall();
    const rivals = [machine];
    if (random.chance(0.5)) rivals.push(this.#world.newMachine(`spare${++this.#spares}`, machine.site));
    for (const rival of rivals) this.#world.startAgent(rival, token);
    const isOver = (rival: Machine) => this.#isNode(rival) || isRefused(rival);
    if (!(await this.#until(() => rivals.every(isOver), JOINS_WITHIN_MS))) return;
    for (const rival of rivals) {
      if (!isRefused(rival)) this.done.rejoined++;
      else {
        this.done.joinsRefused++;
        this.#world.giveAway(rival);
      }
    }
  }

  #isNode({ name }: Machine): boolean {
    return this.#world.database.look(`select 1 from nodes where name = '${name}'`).length > 0;
  }

  async #until(holds: () => boolean, withinMs: number): Promise<boolean> {
    for (const untilMs = this.#world.nowMs + withinMs; !holds(); await this.#pause(500)) if (this.#world.nowMs > untilMs) return false;
    return true;
  }

  #pause(ms: number): Promise<void> {
    return this.#world.kernel.pause(ms, this.#world.operator);
  }
}

const isRefused = ({ ended }: Machine): boolean => ended?.startsWith("refused") === true;
