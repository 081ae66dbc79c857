/** A broken history is made short, and what is told of it is what it takes. */
import { expect, test } from "vitest";
import type { Act } from "./acts.ts";
import type { HistoryOptions, Outcome } from "./history.ts";
import type { Players } from "./players.ts";
import { shrink } from "./shrink.ts";
import { storyOf } from "./story.ts";

const ACTS: readonly Act[] = Array.from({ length: 40 }, (_, at) => ({ id: `f${at + 1}`, atMs: at * 1_000, what: `F22 on m${at % 5}` }));
const BROKEN_MS = 30_000;

function outcomeOf(acts: readonly Act[], invariants: readonly string[]): Outcome {
  const violations = invariants.map((invariant) => ({ invariant, atMs: BROKEN_MS, message: `${invariant} broke` }));
  const nothing = { steps: 0, virtualMs: 0, digest: "", faults: {}, looked: {}, counts: {}, trace: [] };
  return { ...nothing, seed: "1", mix: [], violations, acts };
}

/** Players of a world in which `rule` says what breaks. */
function playersOf(rule: (ids: ReadonlySet<string>) => readonly string[]): Players {
  const play = async ({ only = [] }: HistoryOptions) => {
    const ids = new Set(only);
    const acts = ACTS.filter(({ id }) => ids.has(id));
    return outcomeOf(acts, rule(ids));
  };
  return { count: 2, play } as unknown as Players;
}

test("what is left is what it takes, whatever else breaks besides", async () => {
  const players = playersOf((ids) => [...(ids.has("f3") && ids.has("f20") ? ["I22"] : []), ...(ids.has("f7") ? ["I9"] : [])]);
  const { outcome, isMinimal } = await shrink(players, outcomeOf(ACTS, ["I22", "I9"]), { budgetMs: 10_000, triesMax: 400 });
  expect(outcome.acts.map(({ id }) => id)).toEqual(["f3", "f20"]);
  expect(isMinimal).toBe(true);
});

test("what breaks by itself needs nothing", async () => {
  const players = playersOf(() => ["I22"]);
  const { outcome, tries } = await shrink(players, outcomeOf(ACTS, ["I22"]), { budgetMs: 10_000, triesMax: 400 });
  expect(outcome.acts).toEqual([]);
  expect(tries).toBe(2);
});

test("what does not break again stays whole, and tries are bounded", async () => {
  const players = playersOf(() => []);
  const { outcome, tries, isMinimal } = await shrink(players, outcomeOf(ACTS, ["I22"]), { budgetMs: 10_000, triesMax: 11 });
  expect(outcome.acts).toHaveLength(ACTS.length);
  expect(tries).toBeLessThanOrEqual(12);
  expect(isMinimal).toBe(false);
});

test("a story is about the objects of the violation, and says what was done", () => {
  const replica = "r_aaaaaaaaaaaaaaaa";
  const manifest = Buffer.from(JSON.stringify({ assignments: [{ replica }, { replica: "r_bbbbbbbbbbbbbbbb" }] })).toString("base64url");
  const trace = [
    "100.000 operator: PUT /v1/namespaces/default/apps/app-1 → 200",
    `120.000 m1/agent#1: 200 /agent/v1/poll {"manifest":"eyJhbGciOiJFZCJ9.${manifest}.AAAA"}`,
    `130.000 m1/agent#1: POST /agent/v1/report {"seq":1,"replicas":[{"replica":"${replica}","state":"running","containerId":"${"ab".repeat(32)}"},{"replica":"r_bbbbbbbbbbbbbbbb","state":"running","containerId":null}]}`,
    `140.000 db: wrote update cluster set rev = rev + 1 [];\tinsert into "replicas" ("id", "rev", "desired") select value->>0, (select rev from cluster), value->>1 from json_each(?) ["[[\\"${replica}\\",\\"run\\"],[\\"r_bbbbbbbbbbbbbbbb\\",\\"run\\"]]"]`,
    "150.000 m1/engine: stop abababababab",
    "160.000 m2/engine: stop cdcdcdcdcdcd",
    "170.000 mischief: F22 on m1",
    "180.000 m1/agent#1: is killed",
    `200.000 checker: I17 is broken: ${replica} is back`,
    "210.000 mischief: F2 on m2",
  ];
  const violations = [{ invariant: "I17", atMs: 200, message: `${replica} is back on m1` }];
  const told = storyOf({ ...outcomeOf([{ id: "o1", atMs: 90, what: "PUT" }], []), violations, trace });
  expect(told).toEqual([
    `about ${replica} -aaaaaaaa abababababab`,
    "    0.100 s  operator        PUT /v1/namespaces/default/apps/app-1 → 200",
    `    0.120 s  m1/agent#1      200 /agent/v1/poll {manifest:{assignments:[{replica:${replica}}]}}`,
    `    0.130 s  m1/agent#1      POST /agent/v1/report {seq:1,replicas:[{replica:${replica},state:running,containerId:abababababab…}]}`,
    `    0.140 s  db              insert into replicas {id:${replica},desired:run}`,
    "    0.150 s  m1/engine       stop abababababab",
    "    0.170 s  mischief        F22 on m1",
    "    0.180 s  m1/agent#1      is killed",
    `    0.200 s  checker         I17 is broken: ${replica} is back`,
  ]);
});
