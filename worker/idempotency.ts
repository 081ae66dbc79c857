/**
 * `Idempotency-Key`: the same key from the same token within a day takes effect once and gets the same answer. The key
 * carries the time it was made, because without it nobody could say of an old key whether it was used.
 */
import { hashText } from "../shared/model/content.ts";
import { BerthError } from "./errors.ts";

const TIMED = /^(\d{13})-[\x21-\x7e]{1,120}$/;
const UUID_V7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/** The operation id that the store knows it by. Another token's key is another id: nothing of it can be seen. Throws `invalid`. */
export function operationId(key: string, tokenId: string): string {
  return `${madeMs(key)}-${hashText(`${tokenId}\n${key}`)}`;
}

function madeMs(key: string): number {
  const timed = TIMED.exec(key);
  if (timed !== null) return Number(timed[1]);
  const uuid = UUID_V7.exec(key);
  if (uuid !== null) return Number.parseInt(`${uuid[1]}${uuid[2]}`, 16);
  throw new BerthError("invalid", "Idempotency-Key must be <unix milliseconds>-<random> or a UUID of version 7, at most 134 characters", {
    reason: "idempotency",
  });
}
