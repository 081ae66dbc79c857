import type { EngineOptions } from "./engine.ts";
import type { Host } from "./host.ts";
import { Lab, type LabOptions } from "./lab.ts";
import type { Registry } from "./registry.ts";
import type { Router } from "./router.ts";

export type DefaultLab = {
  lab: Lab;
  /** On the bridge, where the control plane listens. */
  h1: Host;
  h2: Host;
  /** Behind `router`'s NAT: it reaches out, nothing reaches in. */
  h3: Host;
  router: Router;
  /** Without a login; engines reach it over plain HTTP. */
  registry: Registry;
};

/** Two hosts on the bridge, one behind NAT, an engine each, and a registry: what most end-to-end tests need. */
export async function createDefaultLab(options: LabOptions & { engine?: EngineOptions }): Promise<DefaultLab> {
  const { engine = true } = options;
  const lab = await Lab.create(options);
  try {
    const routed = lab.router("r1");
    const [h1, h2, h3, router, registry] = await Promise.all([
      lab.host("h1", { engine }),
      lab.host("h2", { engine }),
      routed.then((behind) => lab.host("h3", { engine, behind })),
      routed,
      lab.registry(),
    ]);
    return { lab, h1, h2, h3, router, registry };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
