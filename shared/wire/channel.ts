/**
 * A session through NAT: the poll's answer names a channel, the agent dials `GET /agent/v1/channels/{id}` as a
 * WebSocket (proof in the Authorization header) and sends log frames as text messages of JSON until it closes. The server
 * ends it by closing. Frames are bounded: a longer line is cut and marked.
 */
import { z } from "zod";

export const LogFrame = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("line"),
    stream: z.enum(["stdout", "stderr"]),
    at: z.string().max(40).nullable(),
    text: z.string().max(16_384),
    cut: z.boolean(),
  }),
  z.object({ kind: z.literal("end"), reason: z.enum(["eof", "error"]), message: z.string().max(512) }),
]);
export type LogFrame = z.infer<typeof LogFrame>;
