import type { Context as Request } from "hono";
import { ContentHash } from "../../../shared/model/name.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { readAssignedBody } from "../../store/read-agents.ts";
import { proveRequest, quarantinedError } from "./proof.ts";

/** A body by its hash, exactly as it was hashed. A node reads what its own set refers to, and of all else the same 404. */
export async function body(context: Context, c: Request): Promise<Response> {
  const { link } = await proveRequest(context, c.req.raw);
  if (link.row.quarantined) throw quarantinedError(link.row.name);
  const hash = ContentHash.safeParse(c.req.param("hash"));
  const found = hash.success ? await readAssignedBody(context.store, link.row.id, hash.data) : null;
  if (found === null) throw new BerthError("not_found", "nothing that is assigned to this node has this hash");
  const type = found.kind === "spec" ? "application/json" : "application/octet-stream";
  return c.body(found.body, 200, { "content-type": type, "cache-control": "private, immutable, max-age=31536000" });
}
