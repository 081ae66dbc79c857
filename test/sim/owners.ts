/** People whose machines these are: what they allow there, and what they run beside berth. */
import { LABEL_PROOF, LABEL_REPLICA } from "../../agent/engine/labels.ts";
import type { BoldWish } from "./apps.ts";
import type { Machine } from "./machine.ts";
import type { Prng } from "./prng.ts";
import type { World } from "./world.ts";

/** What a file has to say for each wish. */
const ALLOWS: Readonly<Record<BoldWish, object>> = {
  privileged: { privileged: true },
  capability: { capabilities: ["SYS_ADMIN"] },
  hostNetwork: { hostNetwork: true },
  bind: { bindRoots: ["/srv"] },
};
const FORBIDS: Readonly<Record<BoldWish, object>> = {
  privileged: { privileged: false },
  capability: { capabilities: [] },
  hostNetwork: { hostNetwork: false },
  bind: { bindRoots: [] },
};
const NOTHING_FROM_ANYWHERE = { allowedRegistries: [] };

/** Most say nothing, some allow what by default nobody does, a few forbid what by default everybody allows. */
export function settleIn(world: World): void {
  const random = world.kernel.random.fork("owners");
  for (const machine of world.machines) {
    machine.policy = random.chance(0.4) ? JSON.stringify(Object.assign({}, ...Object.values(random.chance(0.8) ? ALLOWS : FORBIDS))) : null;
    machine.allow(machine.policy);
    if (random.chance(0.3)) machine.engine.runByHand("their-database", {});
    if (random.chance(0.3)) machine.engine.runByHand("other-cluster", strangersLabels(random));
  }
}

/** As the agent of another cluster labels what it has made. */
export function strangersLabels(random: Prng): Record<string, string> {
  const id = (length: number) => Array.from({ length }, () => "abcdefghijklmnopqrstuvwxyz234567"[random.int(0, 31)]).join("");
  return {
    [LABEL_REPLICA]: `r_${id(16)}`,
    [LABEL_PROOF]: id(43),
    "berth.spec": `sha256:${id(64)}`,
    "berth.node": `n_${id(16)}`,
    "berth.namespace": "default",
    "berth.app": "app-1",
    "berth.service": "web",
    "berth.slot": "0",
    "berth.revision": "1",
  };
}

/** The owner comes to forbid something, everything, or nobody can read what. */
export function forbid(machine: Machine, random: Prng, wish: BoldWish): void {
  const dice = random.fraction();
  if (dice < 0.2) machine.allow('{ "privileged": tru');
  else if (dice < 0.4) machine.allow(JSON.stringify(NOTHING_FROM_ANYWHERE));
  else machine.allow(JSON.stringify(FORBIDS[wish]));
}

export function allow(machine: Machine, wish: BoldWish): void {
  machine.allow(JSON.stringify(ALLOWS[wish]));
}
