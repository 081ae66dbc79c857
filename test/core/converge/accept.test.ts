import { describe, expect, test } from "vitest";
import { accept, type Held } from "../../../shared/converge/accept.ts";

const held = (changes: Partial<Held> = {}): Held => ({ era: "e1", generation: 10, digest: "x", ...changes });
const judge = (before: Held | null, offered: Held, era = offered.era): string => {
  const verdict = accept(before, offered, era);
  return verdict.kind === "refuse" ? verdict.reason : verdict.kind;
};

describe("a manifest enters the ledger", () => {
  test.each([
    ["the first", null, held(), "accept"],
    ["a newer one", held(), held({ generation: 11, digest: "y" }), "accept"],
    ["the same again", held(), held(), "current"],
    ["an older one, replayed", held(), held({ generation: 9, digest: "y" }), "older"],
    ["the same generation with other content", held(), held({ digest: "y" }), "contradicts"],
    ["one of a new era, with a lower generation", held(), held({ era: "e2", generation: 3, digest: "y" }), "accept"],
  ] as const)("%s", (_, before, offered, expected) => {
    expect(judge(before, offered)).toBe(expected);
  });

  test("one of another era than the session is refused, whatever it says", () => {
    expect(judge(held(), held({ era: "e0", generation: 99 }), "e1")).toBe("otherEra");
    expect(judge(null, held({ era: "e0" }), "e1")).toBe("otherEra");
  });

  test("the reason has the numbers", () => {
    expect(accept(held(), held({ generation: 9 }), "e1")).toMatchObject({ message: "generation 9 is older than 10, which is held" });
  });
});
