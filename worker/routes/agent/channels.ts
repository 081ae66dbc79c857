import type { Context as Request } from "hono";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { proveRequest } from "./proof.ts";

/** Reached only without an upgrade: WebSockets are taken by the entry before the app sees them (`upgrade.ts`). */
export async function channelWithoutUpgrade(context: Context, c: Request): Promise<Response> {
  await proveRequest(context, c.req.raw);
  throw new BerthError("invalid", "a channel is a WebSocket; something on the way has removed the upgrade", { reason: "upgrade" });
}
