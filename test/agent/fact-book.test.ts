import { expect, test } from "vitest";
import { FactBook } from "../../agent/fact-book.ts";
import type { FactBase } from "../../shared/converge/facts.ts";

const base = (state: FactBase["state"]): FactBase => ({
  replica: "r_aaaaaaaaaaaaaaaa",
  state,
  reason: "",
  message: "",
  containerId: null,
  health: "none",
  restarts: 0,
  exitCode: null,
  oomKilled: false,
  ports: [],
  pull: null,
  logTail: [],
});

test("what was told of an earlier state is no word on the last one, so that a replica is not forgotten before its end is known", () => {
  const book = new FactBook({ onChange: () => undefined, onAcknowledged: () => undefined });
  const put = (state: FactBase["state"]) => book.put(base(state), { readySinceMs: null, seenMs: 0 });
  put("stopping");
  book.acknowledge(book.collect(0, { all: false }).carried);
  expect(book.isAcknowledged("r_aaaaaaaaaaaaaaaa", "stopping")).toBe(true);
  // The record has ended already, and the book has not been told yet.
  expect(book.isAcknowledged("r_aaaaaaaaaaaaaaaa", "stopped")).toBe(false);
  put("stopped");
  expect(book.isAcknowledged("r_aaaaaaaaaaaaaaaa", "stopped")).toBe(false);
  book.acknowledge(book.collect(0, { all: false }).carried);
  expect(book.isAcknowledged("r_aaaaaaaaaaaaaaaa", "stopped")).toBe(true);
});
