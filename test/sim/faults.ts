/**
 * What goes wrong, by its number in docs/spec/faults.md. Each is a script: it breaks something, waits, and mends it.
 * `heal` at the end mends whatever is still broken.
 */
import { Acts } from "./acts.ts";
import { type AppKind, newShape, specOf, TAINT } from "./apps.ts";
import { Process } from "./kernel.ts";
import { LABEL_PROOF } from "../../agent/engine/labels.ts";
import type { Machine } from "./machine.ts";
import { GOOD_WIRE } from "./network.ts";
import { KIND_DATABASE } from "./database.ts";
import { SOUND_ENGINE } from "./engine.ts";
import { allow, forbid, strangersLabels } from "./owners.ts";
import type { Prng } from "./prng.ts";
import type { World } from "./world.ts";

interface Scene {
  readonly world: World;
  readonly machine: Machine;
  readonly random: Prng;
  pause(ms: number): Promise<void>;
}

/** No one else's name begins so. */
const NAMES_OF_BERTH = "berth-";

type Script = (scene: Scene) => Promise<void>;

/** A machine whose agent was killed starts it again, as a service manager does. */
const restartAgent = async ({ world, machine, random, pause }: Scene): Promise<void> => {
  await pause(random.between(200, 15_000));
  world.startAgent(machine);
};

/** With the next commit that fails a deployment, before what follows from it is done. */
const killAtFailure = async (world: World, pause: Scene["pause"]): Promise<void> => {
  const { database } = world;
  const failures = () => Number(database.look("select count(*) as n from deployments where state = 'failed'")[0]?.n ?? 0);
  const before = failures();
  database.faults.onCarriedOut = () => {
    if (world.isolate !== null && failures() > before) world.killIsolate();
  };
  for (let second = 0; second < 120 && failures() <= before; second++) await pause(1_000);
  database.faults.onCarriedOut = null;
  await pause(500);
  await world.startIsolateIfDown();
};

export const FAULTS: Readonly<Record<string, Script>> = {
  F1: async (scene) => {
    scene.machine.engine.faults.pullFactor = 8;
    await scene.pause(scene.random.between(100, 10_000));
    scene.machine.killAgent();
    scene.machine.engine.faults.pullFactor = 1;
    await restartAgent(scene);
  },
  F2: async (scene) => {
    await scene.pause(scene.random.between(0, 5_000));
    scene.machine.killAgent();
    await restartAgent(scene);
  },
  // Once, or again and again, as an upgrade that does not get well does it.
  F5: async ({ machine, random, pause }) => {
    machine.engine.liveRestore = random.chance(0.5);
    for (let count = random.pick([1, 1, 1, 4]); count > 0; count--) {
      machine.engine.down(random.chance(0.5) ? "stop" : "kill");
      await pause(random.between(300, 20_000));
      if (machine.isOn) machine.engine.up();
      if (count > 1) await pause(random.between(5_000, 20_000));
    }
  },
  F6: async ({ machine, random, pause }) => {
    machine.engine.freeze();
    await pause(random.between(2_000, 150_000));
    machine.engine.thaw();
  },
  F7: async ({ machine, random, pause }) => {
    machine.engine.faults.eventGap = random.between(0.3, 1);
    await pause(random.between(10_000, 90_000));
    machine.engine.faults.eventGap = 0;
  },
  F8: async ({ machine, random, pause }) => {
    machine.disk.isFull = true;
    await pause(random.between(2_000, 60_000));
    machine.disk.isFull = false;
  },
  F9: async (scene) => {
    scene.machine.killAgent();
    scene.machine.disk.damage();
    await restartAgent(scene);
  },
  F10: async ({ world, machine, random, pause }) => {
    machine.powerOff();
    await pause(random.between(1_000, 40_000));
    const isCut = random.chance(0.4);
    if (isCut) machine.wire.faults.isUpCut = true;
    machine.powerOn();
    await pause(random.between(0, 3_000));
    world.startAgent(machine);
    if (isCut) await pause(random.between(2_000, 60_000));
    machine.wire.faults.isUpCut = false;
  },
  F11: async ({ machine, random, pause }) => {
    const jump = random.pick([-86_400_000, -3_600_000, 3_600_000, 86_400_000, -1_893_456_000_000]);
    machine.wallErrorMs += jump;
    await pause(random.between(5_000, 120_000));
    machine.wallErrorMs -= jump;
  },
  F12: async ({ machine, random, pause }) => {
    machine.drift(random.pick([-0.01, -0.0005, 0.0005, 0.01]));
    await pause(random.between(60_000, 300_000));
    machine.drift(null);
  },
  F13: async ({ world, machine, random, pause }) => {
    const suspended = [machine.engine.process, machine.engine.runtime, ...(machine.agentProcess === null ? [] : [machine.agentProcess])];
    for (const process of suspended) world.kernel.suspend(process);
    await pause(random.between(2_000, 600_000));
    for (const process of suspended) world.kernel.resume(process);
  },
  F14: async (scene) => {
    const { machine, random, pause } = scene;
    const saved = new Map(machine.disk.files);
    const { installs } = machine;
    await pause(random.between(10_000, 120_000));
    // A snapshot of what it was for another cluster, or as another node, is not one of this machine.
    if (machine.installs !== installs) return;
    machine.killAgent();
    machine.disk.files.clear();
    for (const [path, bytes] of saved) machine.disk.files.set(path, bytes);
    machine.powerOff();
    machine.powerOn();
    await restartAgent(scene);
  },
  F15: async ({ world, machine, random, pause }) => {
    const clone = world.clone(machine);
    world.startAgent(clone);
    await pause(random.between(20_000, 120_000));
    clone.powerOff();
  },
  F17: async ({ machine, random, pause }) => {
    machine.engine.faults.starved = random.between(0.3, 1);
    await pause(random.between(5_000, 60_000));
    machine.engine.faults.starved = 0;
  },
  F18: async ({ machine, random, pause }) => {
    const { engine } = machine;
    const containers = [...engine.containers.values()].filter(({ status }) => status === "running");
    if (containers.length === 0) return;
    const container = random.pick(containers);
    const { name, body } = container;
    const dice = random.fraction();
    if (dice < 0.3) {
      engine.renameByHand(container, `kept-${name}`.slice(0, 60));
      return;
    }
    engine.removeByHand(container);
    if (dice < 0.6) return;
    // One of another cluster is there under its name, with labels that are as good but for the proof.
    engine.runByHand(name, { ...body.Labels, ...random.pick([strangersLabels(random), { [LABEL_PROOF]: "theirs" }]) });
    await pause(random.between(5_000, 60_000));
    engine.removeStrangers((one) => one === name);
  },
  // As a newer control plane would answer. What the agent runs is none of its business.
  F19: async (scene) => {
    const { machine, random, pause } = scene;
    machine.wire.faults.isOutdated = true;
    machine.killAgent();
    await restartAgent(scene);
    await pause(random.between(5_000, 90_000));
    machine.wire.faults.isOutdated = false;
  },
  F20: async ({ world, machine, random }) => {
    if (random.chance(0.5)) machine.engine.deleteImages();
    else world.registry.push("registry.test/web:1", `web:1 moved ${random.int(0, 1_000)}`);
  },
  F21: async ({ world, random, pause }) => {
    world.registry.weather = random.pick(["denied", "limited", "broken", "away"]);
    await pause(random.between(5_000, 90_000));
    world.registry.weather = "fair";
  },
  F22: async ({ machine, random, pause }) => {
    machine.wire.faults.isUpCut = true;
    machine.wire.faults.isDownCut = true;
    await pause(random.chance(0.3) ? random.between(500, 5_000) : random.between(8_000, 300_000));
    machine.wire.faults.isUpCut = false;
    machine.wire.faults.isDownCut = false;
  },
  F23: async ({ machine, random, pause }) => {
    machine.wire.faults.replyLoss = random.between(0.1, 0.7);
    await pause(random.between(10_000, 120_000));
    machine.wire.faults.replyLoss = 0;
  },
  F24: async ({ machine, random, pause }) => {
    machine.wire.faults.isUpCut = true;
    await pause(random.between(2_000, 60_000));
    machine.wire.faults.isUpCut = false;
  },
  F25: async ({ machine, random, pause }) => {
    machine.wire.faults.cutsAfterMs = random.pick([1_000, 3_000, 30_000, 100_000]);
    await pause(random.between(30_000, 180_000));
    machine.wire.faults.cutsAfterMs = null;
  },
  F26: async ({ machine, random, pause }) => {
    machine.wire.faults.repeatsPosts = random.between(0.2, 0.9);
    machine.wire.faults.repeatsManifests = random.pick([0, 0.1, 0.5]);
    await pause(random.between(20_000, 120_000));
    machine.wire.faults.repeatsPosts = 0;
    machine.wire.faults.repeatsManifests = 0;
  },
  F27: async ({ machine, random, pause }) => {
    machine.wire.faults.answersHtml = true;
    await pause(random.between(3_000, 60_000));
    machine.wire.faults.answersHtml = false;
  },
  F28: async ({ machine, random, pause }) => {
    if (random.chance(0.5)) {
      machine.wire.faults.holdsReports = random.between(0.3, 0.8);
      await pause(random.between(20_000, 120_000));
      machine.wire.faults.holdsReports = 0;
      return;
    }
    for (let count = random.int(5, 40); count > 0; count--) {
      if (machine.wire.recorded.length > 0) machine.wire.replay(random.pick(machine.wire.recorded));
      await pause(random.between(10, 3_000));
    }
  },
  F29: async ({ machine, random, pause }) => {
    machine.wire.faults.slow = random.between(0.2, 0.8);
    await pause(random.between(20_000, 120_000));
    machine.wire.faults.slow = 0;
  },
  F30: async ({ machine, random, pause }) => {
    machine.wire.faults.broken = random.pick(["dns", "tls"]);
    await pause(random.between(3_000, 90_000));
    machine.wire.faults.broken = null;
  },
  // All at once, as after a failure of what they share.
  F31: async ({ world, random, pause }) => {
    const all = world.machines.filter(({ isOn }) => isOn);
    const isKill = random.chance(0.5);
    for (const machine of all) {
      if (isKill) machine.killAgent();
      else machine.wire.faults.isUpCut = true;
    }
    await pause(random.between(1_000, 120_000));
    for (const machine of all) {
      machine.wire.faults.isUpCut = false;
      world.startAgent(machine);
    }
  },
  F32: async ({ machine, pause }) => {
    for (let count = 0; count < 12; count++) {
      machine.wire.faults.isUpCut = true;
      machine.wire.faults.isDownCut = true;
      await pause(20_000);
      machine.wire.faults.isUpCut = false;
      machine.wire.faults.isDownCut = false;
      await pause(20_000);
    }
  },
  F33: async ({ world, random, pause }) => {
    if (world.isolate === null) return;
    world.killIsolate();
    await pause(random.chance(0.3) ? random.between(60_000, 400_000) : random.between(500, 30_000));
    await world.startIsolateIfDown();
  },
  F34: async ({ world, machine, random, pause }) => {
    const dark = world.machines.filter(({ site }) => site === machine.site || random.chance(0.2));
    for (const one of dark) one.wire.faults.isUpCut = true;
    await pause(random.between(5_000, 200_000));
    for (const one of dark) one.wire.faults.isUpCut = false;
  },
  F35: async ({ world, random, pause }) => {
    if (random.chance(0.5)) {
      await killAtFailure(world, pause);
      return;
    }
    for (let count = random.int(1, 5); count > 0; count--) {
      await pause(random.between(0, 4_000));
      if (world.isolate === null) return;
      world.killIsolate();
      await pause(random.between(50, 3_000));
      await world.startIsolateIfDown();
    }
  },
  F36: async ({ world, random, pause }) => {
    const others = Array.from({ length: random.int(1, 3) }, () => world.startPlanner());
    await pause(random.between(10_000, 90_000));
    for (const stop of others) stop();
  },
  F37: async ({ world, random, pause }) => {
    const { faults } = world.database;
    // It waits by itself, or says so.
    if (random.chance(0.5)) faults.slowMs = random.between(20, 400);
    else faults.busy = random.between(0.05, 0.5);
    await pause(random.between(5_000, 60_000));
    faults.busy = 0;
    faults.slowMs = 0;
  },
  F38: async ({ world, random, pause }) => {
    world.database.faults.ackLost = random.between(0.05, 0.4);
    await pause(random.between(5_000, 60_000));
    world.database.faults.ackLost = 0;
  },
  F39: async ({ world, random, pause }) => {
    world.database.faults.late = random.between(0.05, 0.4);
    await pause(random.between(5_000, 60_000));
    world.database.faults.late = 0;
  },
  F40: async ({ world, random, pause }) => {
    world.database.faults.stolen = random.between(0.02, 0.3);
    await pause(random.between(5_000, 60_000));
    world.database.faults.stolen = 0;
  },
  F43: async ({ world, random, pause }) => {
    world.database.faults.refusesWrites = random.pick(["SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR"]);
    await pause(random.between(1_000, 60_000));
    world.database.faults.refusesWrites = null;
  },
  F44: async ({ world, random, pause }) => {
    const jump = random.pick([-3_600_000, -30_000, 30_000, 3_600_000]);
    if (random.chance(0.5)) world.database.clockErrorMs += jump;
    if (world.isolate !== null) world.isolate.clockErrorMs += random.pick([-30_000, 30_000, jump]);
    await pause(random.between(5_000, 90_000));
    world.database.clockErrorMs = 0;
    if (world.isolate !== null) world.isolate.clockErrorMs = 0;
  },
  // The process that plans and ticks stands still, and finds out only afterwards; or there are two that tick.
  F45: async ({ world, random, pause }) => {
    if (random.chance(0.4)) {
      const stop = await world.startTicker();
      await pause(random.between(10_000, 90_000));
      stop();
      return;
    }
    const process = world.isolate?.process;
    if (process === undefined) return;
    world.kernel.suspend(process);
    await pause(random.chance(0.1) ? 1_200_000 : random.between(2_000, 60_000));
    world.kernel.resume(process);
  },
  F47: async ({ world, random, pause }) => {
    if (world.isolate === null) return;
    world.killIsolate();
    world.areKeysAway = true;
    for (let count = random.int(1, 3); count > 0; count--) {
      const refusal = await world.tryToStart();
      if (world.isolate !== null) throw new Error("without its keys the control plane started");
      // It may not get so far as to miss them.
      if (!/ring\.json is missing; restore it|SQLITE|stream|fetch failed|rolled back/i.test(refusal))
        throw new Error(`without its keys the control plane said: ${refusal}`);
      await pause(random.between(500, 5_000));
    }
    world.areKeysAway = false;
    await world.startIsolateIfDown();
  },
  F48: async ({ world, machine, random, pause }) => {
    const names = world.database
      .look("select name from apps where deleting = 0 and name like 'app-%' order by name")
      .map(({ name }) => String(name));
    machine.powerOff();
    for (const name of names) {
      const path = `/v1/namespaces/default/apps/${name}`;
      if (random.chance(0.5)) void world.ask("PATCH", `${path}/services/web`, { replicas: 0 });
      else void world.ask("POST", `${path}/rollback`, {});
    }
    await pause(random.between(1_000, 60_000));
    machine.powerOn();
    world.startAgent(machine);
  },
  F49: async ({ world, machine, random, pause }) => {
    const name = `again-${machine.name}`;
    const path = `/v1/namespaces/default/apps/${name}`;
    const spec = () => {
      const kind = random.pick<AppKind>(["web", "data", "port"]);
      return specOf(newShape(random, { namespace: "default", name, kind }), "registry.test/web:1");
    };
    await world.ask("PUT", path, { spec: spec() });
    await pause(random.between(1_000, 20_000));
    machine.wire.faults.isUpCut = true;
    await world.ask("DELETE", `${path}?deleteData=${random.chance(0.5)}`);
    await pause(random.between(0, 20_000));
    await world.ask("PUT", path, { spec: spec() });
    await pause(random.between(1_000, 30_000));
    machine.wire.faults.isUpCut = false;
    await pause(random.between(0, 20_000));
    await world.ask("DELETE", `${path}?deleteData=true`);
  },
  // Operators ask for what an owner comes to forbid.
  F61: async ({ world, machine, random, pause }) => {
    const name = `bold-${machine.name}`;
    const path = `/v1/namespaces/default/apps/${name}`;
    const shape = newShape(random, { namespace: "default", name, kind: "bold" });
    if (random.chance(0.7)) allow(machine, shape.wish);
    await world.ask("PUT", path, { spec: specOf(shape, "registry.test/web:1") });
    await pause(random.between(10_000, 60_000));
    forbid(machine, random, shape.wish);
    await pause(random.between(10_000, 90_000));
    machine.allow(machine.policy);
    if (random.chance(0.5)) await world.ask("DELETE", path);
  },
};

export type FaultName = keyof typeof FAULTS & string;

export class Mischief {
  readonly injected = new Map<string, number>();
  /** What scripts found that was not so as it shall be. */
  readonly errors: string[] = [];
  readonly #world: World;
  readonly #random: Prng;
  readonly #process = new Process("mischief");
  readonly #busy = new Set<Machine>();
  readonly #acts: Acts;

  constructor(world: World, acts = new Acts()) {
    this.#world = world;
    this.#acts = acts;
    this.#random = world.kernel.random.fork("mischief");
  }

  /** One at a time for each machine, some at once over the cluster, until `untilMs`. */
  async run(untilMs: number, everyMs: number, names: readonly string[]): Promise<void> {
    const { kernel } = this.#world;
    for (let count = 1; kernel.nowMs < untilMs; count++) {
      const id = `f${count}`;
      const random = this.#random.fork(id);
      await kernel.pause(random.between(0.1, 1.9) * everyMs, this.#process);
      if (kernel.nowMs >= untilMs) return;
      const machine = random.pick(this.#world.machines);
      if (this.#busy.has(machine)) continue;
      const name = random.pick(names);
      const script = FAULTS[name];
      if (script === undefined) throw new Error(`there is no fault ${name}; there are ${Object.keys(FAULTS).join(" ")}`);
      if (!this.#acts.begin({ id, atMs: kernel.nowMs, what: `${name} on ${machine.name}` })) continue;
      this.#busy.add(machine);
      this.injected.set(name, (this.injected.get(name) ?? 0) + 1);
      kernel.log("mischief", `${name} on ${machine.name}`);
      const pause = (ms: number) => kernel.pause(ms, this.#process);
      script({ world: this.#world, machine, random, pause }).then(
        () => {
          this.#busy.delete(machine);
          kernel.log("mischief", `${name} on ${machine.name} is over`);
        },
        (error: unknown) => this.errors.push(`${name} on ${machine.name}: ${String(error)}`),
      );
    }
  }

  /** Nothing new goes wrong, and what is broken is mended. */
  async heal(): Promise<void> {
    this.#process.isAlive = false;
    const world = this.#world;
    world.kernel.log("mischief", "everything is mended");
    world.registry.weather = "fair";
    Object.assign(world.database.faults, KIND_DATABASE);
    world.database.clockErrorMs = 0;
    world.areKeysAway = false;
    world.killHelpers();
    for (const machine of world.machines) {
      Object.assign(machine.wire.faults, GOOD_WIRE);
      Object.assign(machine.engine.faults, SOUND_ENGINE);
      machine.disk.isFull = false;
      machine.wallErrorMs = 0;
      machine.drift(null);
      machine.allow(machine.policy);
      if (machine.agentProcess !== null) world.kernel.resume(machine.agentProcess);
      world.kernel.resume(machine.engine.process);
      world.kernel.resume(machine.engine.runtime);
      if (!machine.isOn) machine.powerOn();
      machine.engine.up();
      machine.engine.thaw();
      machine.engine.removeStrangers((name) => name.startsWith(NAMES_OF_BERTH));
      world.startAgent(machine);
    }
    for (const clone of world.clones) clone.powerOff();
    if (world.isolate !== null) {
      world.isolate.clockErrorMs = 0;
      world.kernel.resume(world.isolate.process);
    }
    await world.startIsolateIfDown();
    for (const { id } of world.database.look("select id from nodes where quarantined = 1"))
      await world.must("PATCH", `/v1/nodes/${String(id)}`, { reissue: true });
    for (const { id } of world.database.look("select id from nodes where availability <> 'active' or taints <> '[]'"))
      await world.must("PATCH", `/v1/nodes/${String(id)}`, { availability: "active", removeTaints: [TAINT] });
  }
}
