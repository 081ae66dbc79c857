/** An error as a log shows it: what it says, then what it says of each cause. A failed query's own message names no reason. */

const CAUSES_MAX = 5;

export function errorText(error: unknown): string {
  const said: string[] = [];
  for (let at = error; at !== undefined && at !== null && said.length < CAUSES_MAX; at = at instanceof Error ? at.cause : undefined)
    said.push(textOf(at));
  return said.join("; because: ");
}

/** With its place where nothing else says what it is about. What was bound to a query may be somebody's own: it is left out. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const [message = ""] = error.message.split("\nparams: ");
  if ("code" in error && typeof error.code === "string") return message.includes(error.code) ? message : `${message} (${error.code})`;
  return error.cause === undefined ? (error.stack ?? message) : message;
}
