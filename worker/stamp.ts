/**
 * What an answer says of its own commit is known only after it: its rev and its time. An answer is therefore made with
 * these marks in their places; they are replaced when it is sent, and again when it is replayed for the same
 * Idempotency-Key. No text of a caller can be a mark: control characters are refused at the edge.
 */
export const STAMP = { rev: "\u0001rev" as unknown as number, time: "\u0001time" } as const;

export function stamped<Answer>(answer: Answer, at: { readonly rev: number; readonly nowMs: number }): Answer {
  const time = isoTime(at.nowMs);
  return JSON.parse(JSON.stringify(answer), (_, value: unknown) =>
    value === STAMP.rev ? at.rev : value === STAMP.time ? time : value,
  ) as Answer;
}

// biome-ignore lint/style/noRestrictedGlobals: writes a stored time as text; no clock is read
export const isoTime = (ms: number): string => new Date(ms).toISOString();
export const isoTimeOrNull = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));
// biome-ignore lint/style/noRestrictedGlobals: reads a time from text; no clock is read
export const msOfTime = (time: string): number => Date.parse(time);
