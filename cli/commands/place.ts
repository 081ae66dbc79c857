/** A place in the apps of a namespace, as people type it, and whether it is there. */
import type { Replica } from "../../shared/api/resources.ts";
import type { AppDetail } from "../client/resources.ts";
import { CliError, EXIT } from "../exit.ts";
import { slotName } from "../render/address.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { appPath, replicasPath } from "./paths.ts";

export interface Place {
  readonly app?: string;
  readonly service?: string;
  readonly slot?: string;
}

/** `shop`, `shop/web`, `shop/web/0`, or `shop web`. */
export function splitPlace(app: string | undefined, service?: string): Place {
  const [name, ofPath, slot] = (app ?? "").split("/");
  if (app !== undefined && name === "")
    throw new CliError(`"${visible(app)}" names no app: write APP, APP/SERVICE or APP/SERVICE/SLOT`, {
      exitCode: EXIT.usage,
      next: "berth ls",
    });
  const chosen = service ?? ofPath;
  return {
    ...(name === undefined || name === "" ? {} : { app: name }),
    ...(chosen === undefined || chosen === "" ? {} : { service: chosen }),
    ...(slot === undefined || slot === "" ? {} : { slot }),
  };
}

/** Where nothing was found: a mistyped app, service or slot is an error, and not an empty answer. */
export async function requirePlace(shell: Shell, { app, service, slot }: Place): Promise<void> {
  if (app === undefined) return;
  const client = shell.client();
  const { services } = await client.get<AppDetail>(appPath(shell.namespace, app));
  const next = `berth ps ${app}`;
  const known = services.filter(({ removed }) => !removed).map(({ name }) => visible(name));
  if (service !== undefined && !services.some(({ name }) => name === service))
    throw new CliError(`app ${visible(app)} has no service "${visible(service)}"; it has ${known.join(", ") || "none"}`, { next });
  if (slot === undefined) return;
  const { items } = await client.list<Replica>(replicasPath(shell.namespace), { app, service, ended: true });
  if (items.some((replica) => replica.slot === slot || slotName(replica) === slot)) return;
  throw new CliError(`${visible(service === undefined ? app : `${app}/${service}`)} has no slot "${visible(slot)}"`, { next });
}
