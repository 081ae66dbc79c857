/**
 * Mistakes that other orchestrators have made, and some that were made here, each as a short history in which the same
 * would happen. The numbers behind a name are those of the issue that it was found by in the project named before them.
 */
import { Checkers } from "./checkers.ts";
import type { SimContainer } from "./engine.ts";
import { Mischief } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { HEALTHCHECK } from "./apps.ts";
import { World, type WorldOptions } from "./world.ts";

const APP = "web";
const IMAGE = "registry.test/web";
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const LIMIT_MS = 6 * HOUR;

interface Scenario {
  readonly nodes: number;
  readonly sites?: number;
  run(scene: Scene): Promise<void>;
}

/** A world and what is asked of it. */
class Scene {
  readonly world: World;
  readonly checkers: Checkers;

  constructor(options: Omit<WorldOptions, "seed">, name: string) {
    this.world = new World({ seed: `regression ${name}`, ...options });
    this.checkers = new Checkers(this.world);
    for (const tag of ["1", "2", "crash1"]) this.world.registry.push(`${IMAGE}:${tag}`);
  }

  must(condition: boolean, message: string): void {
    if (!condition) this.checkers.fail("regression", message);
  }

  pause(ms: number): Promise<void> {
    return this.world.kernel.pause(ms, this.world.operator);
  }

  async until(what: string, holds: () => boolean, withinMs: number): Promise<void> {
    const untilMs = this.world.nowMs + withinMs;
    while (!holds()) {
      if (this.world.nowMs > untilMs) {
        this.must(false, `${what}: not within ${withinMs / SECOND} s`);
        return;
      }
      await this.pause(200);
    }
  }

  async deploy(
    replicas: number,
    {
      tag = "1",
      placement = {},
      minHealthyMs = SECOND,
    }: { readonly tag?: string; readonly placement?: object; readonly minHealthyMs?: number } = {},
  ): Promise<void> {
    const update = { minHealthyMs, healthyDeadlineMs: 40 * SECOND, progressDeadlineMs: 40 * SECOND };
    const workload = { image: `${IMAGE}:${tag}`, healthcheck: HEALTHCHECK, stopGraceMs: SECOND };
    await this.world.must("PUT", `/v1/namespaces/default/apps/${APP}`, {
      spec: { name: APP, services: { web: { replicas, workload, placement, update } } },
    });
  }

  async scale(replicas: number): Promise<void> {
    await this.world.must("PATCH", `/v1/namespaces/default/apps/${APP}/services/web`, { replicas });
  }

  /** That run, by machine; clones too. */
  running(): { readonly machine: Machine; readonly container: SimContainer }[] {
    return [...this.world.machines, ...this.world.clones].flatMap((machine) =>
      [...machine.engine.containers.values()].filter(({ status }) => status === "running").map((container) => ({ machine, container })),
    );
  }

  ids(): string {
    return this.running()
      .map(({ container }) => container.id)
      .sort()
      .join(" ");
  }

  /** `count` run and nothing is under way. */
  async settled(count: number, withinMs = 3 * MINUTE): Promise<void> {
    const ready = () =>
      this.one(
        "select count(*) from replicas r join observations o on o.replica = r.id where r.desired = 'run' and o.state = 'running' and o.ready_since_ms is not null",
      ) === count &&
      this.one("select count(*) from replicas") === count &&
      this.running().length === count;
    await this.until(`${count} replicas and no others run`, ready, withinMs);
  }

  one(sql: string): number {
    return Number(Object.values(this.world.database.look(sql)[0] ?? { n: 0 })[0]);
  }

  events(type: string): number {
    return this.one(`select count(*) from events where object_kind = 'node' and type = '${type}'`);
  }

  cut(machines: readonly Machine[], isCut: boolean): void {
    for (const { wire } of machines) Object.assign(wire.faults, { isUpCut: isCut, isDownCut: isCut });
  }

  async restart(downMs: number): Promise<void> {
    this.world.killIsolate();
    await this.pause(downMs);
    await this.world.startIsolateIfDown();
  }

  /** How many requests agents send meanwhile, in all and at most in one second. */
  async requests(during: () => Promise<void>): Promise<{ readonly all: number; readonly mostInASecond: number }> {
    const { machines } = this.world;
    const bySecond = new Map<number, number>();
    const before = machines.map(({ onSend }) => onSend);
    for (const [at, machine] of machines.entries())
      machine.onSend = (request) => {
        const second = Math.floor(this.world.nowMs / SECOND);
        bySecond.set(second, (bySecond.get(second) ?? 0) + 1);
        before[at]!(request);
      };
    await during();
    for (const [at, machine] of machines.entries()) machine.onSend = before[at]!;
    const counts = [...bySecond.values()];
    return { all: counts.reduce((sum, count) => sum + count, 0), mostInASecond: Math.max(0, ...counts) };
  }

  /** Calls `look` each half second meanwhile. */
  async watching(ms: number, look: () => void): Promise<void> {
    for (const untilMs = this.world.nowMs + ms; this.world.nowMs < untilMs; ) {
      look();
      await this.pause(500);
    }
  }
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "mass eviction when the API returns (kubernetes 24200, 24597)": {
    nodes: 6,
    async run(scene) {
      await scene.deploy(12);
      await scene.settled(12);
      const before = scene.ids();
      await scene.restart(HOUR);
      await scene.watching(3 * MINUTE, () =>
        scene.must(scene.ids() === before, "a container was replaced when the control plane returned"),
      );
      scene.must(scene.events("lost") === 0, "nodes were called lost for the time that the control plane was away");
    },
  },
  "nodes that are slower to return than others are given up": {
    nodes: 8,
    sites: 2,
    async run(scene) {
      await scene.deploy(16);
      await scene.settled(16);
      const site = scene.world.machines.filter(({ site }) => site === "site-1");
      for (const dark of [site, scene.world.machines]) {
        scene.cut(dark, true);
        await scene.pause(5 * MINUTE);
        // The first may be lost before enough of them are silent to see that it is the link.
        const before = scene.events("lost");
        scene.cut(dark, false);
        await scene.pause(2 * MINUTE);
        scene.must(scene.events("lost") === before, `${scene.events("lost") - before} nodes were lost on their way back`);
        await scene.settled(16);
      }
    },
  },
  "readiness dropped without a limit (kubernetes 105617, 45126)": {
    nodes: 7,
    async run(scene) {
      await scene.deploy(14);
      await scene.settled(14);
      const dark = scene.world.machines.slice(0, 5);
      scene.cut(dark, true);
      const startMs = scene.world.nowMs;
      // 8 s until a node is lost, then at most one in 30 s while more than half of the site is dark.
      const allowed = () => 2 + Math.floor((scene.world.nowMs - startMs) / (30 * SECOND));
      await scene.watching(2 * MINUTE, () =>
        scene.must(scene.events("lost") <= allowed(), `${scene.events("lost")} of 5 dark nodes of a site are lost`),
      );
      scene.must(scene.events("lost") > 0, "none of the dark nodes was ever lost");
      scene.cut(dark, false);
      await scene.settled(14);
    },
  },
  "clock jumps mark nodes down (kubernetes 108844, 113081)": {
    nodes: 4,
    async run(scene) {
      await scene.deploy(8);
      await scene.settled(8);
      const before = scene.ids();
      const { world } = scene;
      for (const jumpMs of [HOUR, -HOUR, 24 * HOUR, -24 * HOUR]) {
        world.database.clockErrorMs = jumpMs;
        if (world.isolate !== null) world.isolate.clockErrorMs = -jumpMs;
        for (const machine of world.machines) machine.wallErrorMs = jumpMs;
        await scene.pause(90 * SECOND);
      }
      scene.must(scene.events("lost") + scene.events("unreachable") === 0, "a jump of a clock made a node silent");
      scene.must(scene.ids() === before, "a jump of a clock replaced a container");
    },
  },
  "a clock that was put back is waited for until it is there again": {
    nodes: 4,
    async run(scene) {
      const { database } = scene.world;
      database.clockErrorMs = HOUR;
      await scene.deploy(4);
      await scene.settled(4);
      await scene.deploy(4, { tag: "2" });
      const ready = () => scene.one("select count(*) from observations where ready_since_ms is not null");
      await scene.until("the first new one is ready", () => ready() === 5, 30 * SECOND);
      database.clockErrorMs = 0;
      const underWay = () => scene.one("select count(*) from deployments where state = 'running'");
      await scene.until("the update ends", () => underWay() === 0, 2 * MINUTE);
      await scene.settled(4);
    },
  },
  "a change of leader expires what it knew (nomad 3035, 3840)": {
    nodes: 4,
    async run(scene) {
      await scene.deploy(8);
      await scene.settled(8);
      const before = scene.ids();
      for (let change = 0; change < 12; change++) {
        await scene.restart(200 + 150 * change);
        await scene.watching(15 * SECOND, () =>
          scene.must(scene.ids() === before, "a container was replaced by a change of the process that serves"),
        );
      }
      scene.must(scene.events("lost") === 0, "a node was lost by a change of the process that serves");
    },
  },
  "replacements stopped on reconnect (nomad 11943)": {
    nodes: 4,
    async run(scene) {
      await scene.deploy(4);
      await scene.settled(4);
      const [away] = scene.world.machines;
      scene.cut([away!], true);
      const elsewhere = () => scene.running().filter(({ machine }) => machine !== away).length;
      await scene.until("all four run elsewhere", () => elsewhere() === 4, MINUTE);
      scene.cut([away!], false);
      await scene.watching(2 * MINUTE, () => scene.must(scene.running().length >= 4, "a replica and its replacement were both stopped"));
      await scene.settled(4);
    },
  },
  "over-creation from stale reads (kubernetes 57191)": {
    nodes: 4,
    async run(scene) {
      const { world } = scene;
      const planners = [world.startPlanner(), world.startPlanner()];
      Object.assign(world.database.faults, { late: 0.2, ackLost: 0.2, slowMs: 200 });
      const most = () =>
        scene.one(
          "select coalesce(max(n), 0) from (select count(*) as n from replicas where desired = 'run' group by app_id, service, slot)",
        );
      const look = () => scene.must(most() <= 1, `a slot has ${most()} replicas`);
      await scene.deploy(6).catch(() => undefined);
      for (const count of [9, 4, 6]) {
        await scene.watching(15 * SECOND, look);
        await scene.scale(count).catch(() => undefined);
      }
      await scene.watching(MINUTE, look);
      Object.assign(world.database.faults, { late: 0, ackLost: 0, slowMs: 0 });
      for (const stop of planners) stop();
      await scene.scale(6);
      await scene.settled(6);
      const made = scene.one("select (select count(*) from replicas) + (select count(*) from ended_replicas)");
      scene.must(made <= 6 + 3 + 2, `${made} replicas were made where eleven were wanted one after the other`);
    },
  },
  "cloned node ids (nomad 1240, 2661)": {
    nodes: 4,
    async run(scene) {
      await scene.deploy(8);
      await scene.settled(8);
      const { world } = scene;
      const [original] = world.machines;
      const clone = world.clone(original!);
      world.startAgent(clone);
      await scene.until("the node is quarantined", () => scene.one("select count(*) from nodes where quarantined = 1") === 1, 10 * MINUTE);
      clone.powerOff();
      const row = scene.world.database.look("select id from nodes where quarantined = 1")[0];
      await world.must("PATCH", `/v1/nodes/${String(row?.id)}`, { reissue: true });
      await scene.settled(8, 5 * MINUTE);
    },
  },
  "17 of 3 replicas (moby 27382)": {
    nodes: 5,
    async run(scene) {
      await scene.deploy(5);
      await scene.settled(5);
      await scene.scale(3);
      const [, flaps] = scene.world.machines;
      let most = 0;
      for (let round = 0; round < 8; round++) {
        scene.cut([flaps!], true);
        await scene.watching(20 * SECOND, () => (most = Math.max(most, scene.running().length)));
        scene.cut([flaps!], false);
        await scene.watching(10 * SECOND, () => (most = Math.max(most, scene.running().length)));
        await scene.restart(500);
      }
      // Five that ran, and one beside each of those that a lost node may hold.
      scene.must(most <= 6, `${most} containers ran of a service of 3`);
      await scene.settled(3, 6 * MINUTE);
    },
  },
  "containers rebuilt on reconnect (kubeedge 4048)": {
    nodes: 3,
    async run(scene) {
      await scene.deploy(6);
      await scene.settled(6);
      const before = scene.ids();
      scene.world.killIsolate();
      await scene.pause(10 * MINUTE);
      for (const machine of scene.world.machines) {
        machine.killAgent();
        scene.world.startAgent(machine);
      }
      await scene.pause(MINUTE);
      await scene.world.startIsolateIfDown();
      await scene.pause(3 * MINUTE);
      scene.must(scene.ids() === before, "a container was made anew when its agent came back");
    },
  },
  "nothing starts after an offline reboot (nomad 24629, k3s 1686)": {
    nodes: 3,
    async run(scene) {
      await scene.deploy(6);
      await scene.settled(6);
      scene.world.killIsolate();
      scene.cut(scene.world.machines, true);
      for (const machine of scene.world.machines) {
        machine.powerOff();
        machine.powerOn();
        scene.world.startAgent(machine);
      }
      await scene.until("what ran runs again, with no network", () => scene.running().length === 6, MINUTE);
      scene.cut(scene.world.machines, false);
      await scene.world.startIsolateIfDown();
      await scene.settled(6);
    },
  },
  "gives up after 20 tries (iotedge 1731)": {
    nodes: 1,
    async run(scene) {
      for (const { engine } of scene.world.machines) engine.faults.crash = 1;
      await scene.deploy(1);
      await scene.pause(100 * MINUTE);
      const restarts = scene.one("select max(restarts) from observations");
      scene.must(restarts > 20, `in a hundred minutes it was started again ${restarts} times`);
      for (const { engine } of scene.world.machines) engine.faults.crash = 0;
      await scene.until("it runs when it can", () => scene.running().length === 1, 6 * MINUTE);
      await scene.settled(1, 6 * MINUTE);
    },
  },
  "a node picks its own labels (kubernetes CVE-2025-5187)": {
    nodes: 4,
    async run(scene) {
      const [chosen, ...others] = scene.world.machines;
      await scene.world.must("PATCH", `/v1/nodes/${chosen!.name}`, { labels: { tier: "trusted" } });
      for (const machine of others) machine.allow(JSON.stringify({ labels: { tier: "trusted" } }));
      const named = () => scene.one("select count(*) from nodes where facts ->> '$.labels.tier' = 'trusted'");
      await scene.until("what they say of themselves is known", () => named() === others.length, 10 * SECOND);
      await scene.deploy(3, { placement: { constraints: [{ key: "node.labels.tier", operator: "=", values: ["trusted"] }] } });
      await scene.settled(3);
      scene.must(
        scene.running().every(({ machine }) => machine === chosen),
        "a node that calls itself trusted was given what is meant for trusted ones",
      );
    },
  },
  "a node is removed while its disk is full": {
    nodes: 3,
    async run(scene) {
      const { world } = scene;
      await scene.deploy(3);
      await scene.until("three run", () => scene.running().length === 3, MINUTE);
      const { machine } = scene.running()[0]!;
      machine.mayStop = true;
      machine.disk.isFull = true;
      await world.must("DELETE", `/v1/nodes/${machine.name}?force=true`);
      await scene.until("what ran there ends", () => scene.running().every((one) => one.machine !== machine), MINUTE);
      machine.disk.isFull = false;
      await scene.until("the agent has written down that it is no node any more", () => machine.ended === "removed", MINUTE);
    },
  },
  "what was ready before the control plane was away counts as healthy when it returns": {
    nodes: 3,
    async run(scene) {
      const { world } = scene;
      await scene.deploy(1, { minHealthyMs: 30 * SECOND });
      await scene.settled(1);
      await scene.pause(MINUTE);
      const [old] = scene.running();
      await scene.deploy(1, { tag: "2", minHealthyMs: 30 * SECOND });
      const isReady = () => scene.one("select count(*) from observations where ready_since_ms is not null") === 2;
      await scene.until("the new one is ready", isReady, MINUTE);
      const young = scene.running().find(({ container }) => container.id !== old!.container.id);
      scene.must(young!.machine !== old!.machine, "both are on one machine: this shows nothing");
      world.killIsolate();
      await scene.pause(SECOND);
      young!.machine.powerOff();
      await scene.pause(MINUTE);
      await world.startIsolateIfDown();
      let leastRunning = 1;
      await scene.watching(90 * SECOND, () => (leastRunning = Math.min(leastRunning, scene.running().length)));
      scene.must(leastRunning === 1, "the one that served was ended for one whose machine was gone");
    },
  },
  "a deployment waits for ever for nodes whose engines are down": {
    nodes: 3,
    async run(scene) {
      await scene.deploy(3);
      await scene.settled(3);
      for (const { engine } of scene.world.machines) engine.down("kill");
      await scene.pause(5 * SECOND);
      await scene.deploy(3, { tag: "2" });
      await scene.until(
        "the deployment is over",
        () => scene.one("select count(*) from deployments where state = 'running'") === 0,
        10 * MINUTE,
      );
      scene.must(
        scene.one("select count(*) from deployments where message like '%3 of 3 nodes do not reach their container engine%'") === 1,
        "it does not say why",
      );
      for (const { engine } of scene.world.machines) engine.up();
    },
  },
  "a deployment goes where an engine is down": {
    nodes: 3,
    async run(scene) {
      const succeeded = () => scene.one("select count(*) from deployments where state = 'succeeded'");
      await scene.deploy(2);
      await scene.until("the first deployment is a success", () => succeeded() === 1, MINUTE);
      scene.world.machines[0]!.engine.down("kill");
      await scene.pause(5 * SECOND);
      await scene.deploy(2, { tag: "2" });
      await scene.until("the deployment is a success", () => succeeded() === 2, 3 * MINUTE);
      scene.must(
        scene.one("select count(*) from replicas r join nodes n on n.id = r.node_id where n.name = 'm1' and r.desired = 'run'") === 0,
        "something is to run there",
      );
      scene.world.machines[0]!.engine.up();
    },
  },
  "a deployment fails because the control plane returns before its nodes": {
    nodes: 3,
    async run(scene) {
      const { world } = scene;
      scene.cut(world.machines, true);
      await scene.pause(20 * SECOND);
      await scene.deploy(2);
      await scene.pause(5 * SECOND);
      world.killIsolate();
      await scene.pause(50 * SECOND);
      scene.cut(world.machines, false);
      await world.startIsolateIfDown();
      await scene.settled(2);
      scene.must(scene.one("select count(*) from deployments where state = 'failed'") === 0, "it was failed");
    },
  },
  "a clock that is put on by an hour fails what is under way": {
    nodes: 4,
    async run(scene) {
      await scene.deploy(4);
      await scene.settled(4);
      await scene.deploy(4, { tag: "2" });
      await scene.pause(SECOND / 2);
      scene.world.database.clockErrorMs = HOUR;
      await scene.settled(4);
      await scene.pause(MINUTE);
      scene.must(scene.one("select count(*) from deployments where state = 'failed'") === 0, "it was failed");
    },
  },
  "everybody asks at once when the control plane returns": {
    nodes: 7,
    async run(scene) {
      await scene.deploy(7);
      await scene.settled(7);
      const steady = await scene.requests(() => scene.pause(2 * MINUTE));
      scene.world.killIsolate();
      await scene.pause(8 * MINUTE);
      const away = await scene.requests(() => scene.pause(2 * MINUTE));
      await scene.world.startIsolateIfDown();
      const back = await scene.requests(() => scene.pause(2 * MINUTE));
      scene.must(away.all <= steady.all / 2, `${away.all} requests in two minutes that nobody answers, and ${steady.all} in others`);
      scene.must(back.all <= 2 * steady.all, `${back.all} requests in the two minutes of the return, and ${steady.all} in others`);
      scene.must(back.mostInASecond <= 2 * steady.mostInASecond, `${back.mostInASecond} requests in a second of the return`);
    },
  },
};

/** What broke; nothing: it held. */
export async function playScenario(name: string): Promise<readonly string[]> {
  const scenario = SCENARIOS[name];
  if (scenario === undefined) throw new Error(`there is no scenario ${name}`);
  const scene = new Scene({ nodes: scenario.nodes, sites: scenario.sites ?? 1 }, name);
  await scene.world.build();
  scene.checkers.begin();
  await scene.world.play(() => scenario.run(scene), LIMIT_MS);
  await scene.world.play(() => new Mischief(scene.world).heal(), MINUTE * 2);
  return scene.checkers.violations.map(({ invariant, atMs, message }) => `${invariant} at ${Math.round(atMs / SECOND)} s: ${message}`);
}
