import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  LINK_ACTIONS,
  LINK_EVENTS,
  LINK_STATES,
  type LinkEvent,
  type LinkState,
  nextLinkState,
  PAUSE_MAX_MS,
  pauseMs,
} from "../../../shared/converge/link.ts";

/** `given("polling").after("failed", "waited")`. */
const walk = (from: LinkState, ...events: LinkEvent[]): LinkState => events.reduce(nextLinkState, from);

describe("the link", () => {
  test.each<[string, LinkState, LinkEvent[], LinkState]>([
    ["a session, then polls", "opening", ["granted", "answered", "answered"], "polling"],
    ["no answer: wait, then ask for the session again", "opening", ["failed", "waited"], "opening"],
    ["a poll that failed: wait, then poll in the same session", "polling", ["failed", "waited"], "polling"],
    ["a poll that a proxy cut: poll at once", "polling", ["cut"], "polling"],
    ["a session that was replaced: another at once", "polling", ["sessionLost"], "opening"],
    ["replaced again while opening: wait first", "polling", ["sessionLost", "sessionLost"], "pausingUnopened"],
    ["the session ended while waiting: it is not used again", "polling", ["failed", "sessionLost", "waited"], "opening"],
    ["pending approval: ask again and again", "opening", ["pendingApproval", "waited", "pendingApproval", "waited", "granted"], "polling"],
    ["quarantined: ask again", "polling", ["quarantine", "waited"], "opening"],
    ["too old: ask again, an operator may roll back", "opening", ["unsupported", "waited"], "opening"],
    ["removed is the end", "polling", ["removal", "waited", "granted", "answered"], "removed"],
  ])("%s", (_, from, events, expected) => {
    expect(walk(from, ...events)).toBe(expected);
  });

  test("late news changes nothing while there is no session", () => {
    for (const state of ["pausingUnopened", "pending", "quarantined", "outdated"] as const) {
      for (const event of ["granted", "answered", "cut", "failed", "sessionLost"] as const) expect(nextLinkState(state, event)).toBe(state);
    }
  });

  test("property: from every state but removed, a way leads back to polling", () => {
    const away = fc.array(fc.constantFrom(...LINK_EVENTS.filter((event) => event !== "removal")), { maxLength: 30 });
    fc.assert(
      fc.property(fc.constantFrom(...LINK_STATES.filter((state) => state !== "removed")), away, (from, events) => {
        let state = walk(from, ...events);
        for (let turns = 0; turns < 3 && state !== "polling"; turns++)
          state = nextLinkState(state, LINK_ACTIONS[state] === "pause" ? "waited" : "granted");
        expect(state).toBe("polling");
      }),
    );
  });

  test("property: only a removal stops it", () => {
    const events = fc.array(fc.constantFrom(...LINK_EVENTS), { maxLength: 40 });
    fc.assert(
      fc.property(events, (walked) => {
        expect(LINK_ACTIONS[walk("opening", ...walked)] === "stop").toBe(walked.includes("removal"));
      }),
    );
  });

  test("waits double from half a second to thirty, the upper half of each by chance", () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8].map((failures) => pauseMs("pausing", failures, 0))).toEqual([
      250, 500, 1000, 2000, 4000, 8000, 15000, 15000,
    ]);
    expect(pauseMs("pausing", 1, 0.999)).toBe(500);
    expect(pauseMs("pausing", 1_000_000, 0.999)).toBeLessThanOrEqual(PAUSE_MAX_MS);
    expect(pauseMs("pending", 1, 0)).toBe(2_500);
  });
});
