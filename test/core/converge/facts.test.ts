import { describe, expect, test } from "vitest";
import { type FactInput, factOf } from "../../../shared/converge/facts.ts";
import { C1, container, ended, record, started, view } from "./world.ts";

const fact = (changes: Parameters<typeof view>[0] = {}, more: Partial<FactInput> = {}) =>
  factOf({ view: view(changes), waiting: undefined, isPreparing: false, isManifestConfirmed: true, pull: null, ...more });

describe("the state that is reported", () => {
  test.each([
    ["nothing done yet", {}, {}, "assigned"],
    ["its image is being fetched", {}, { isPreparing: true }, "preparing"],
    ["its container is made", { container: container({ status: "created" }), record: record({ containerId: C1 }) }, {}, "starting"],
    ["it runs", { container: container(), record: started() }, {}, "running"],
    ["it waits to be started again", { container: ended(), record: started() }, {}, "running"],
    ["its container was removed by somebody", { container: null, record: started() }, { isPreparing: true }, "running"],
    ["it left the manifest", { desired: null, container: container(), record: started() }, {}, "stopping"],
    [
      "the manifest it is missing from may be an old one",
      { desired: null, container: container(), record: started() },
      { isManifestConfirmed: false },
      "running",
    ],
    ["it is wanted again by a restored database", { container: container(), record: started({ state: "stopping" }) }, {}, "running"],
    ["it has failed", { container: ended(), record: started({ state: "failed" }) }, {}, "failed"],
    ["it has failed and left the manifest", { desired: null, container: null, record: started({ state: "failed" }) }, {}, "failed"],
  ] as const)("%s", (_, changes, more, expected) => {
    expect(fact(changes, more).state).toBe(expected);
  });

  test("never goes back: a container that is made anew does not make the replica new", () => {
    expect(fact({ record: record({ state: "starting" }) }).state).toBe("starting");
  });
});

test("why it waits is said while it lives, and why it ended when it has", () => {
  const waiting = { reason: "pullFailed", message: "no route" };
  expect(fact({}, { waiting })).toMatchObject(waiting);
  expect(fact({ record: started({ state: "failed", reason: "exited", message: "ended with exit code 1" }) }, { waiting })).toMatchObject({
    reason: "exited",
    message: "ended with exit code 1",
  });
});

test("ports and health are those of the running container only", () => {
  const ports = [{ target: 80, protocol: "tcp" as const, hostIp: "0.0.0.0", hostPort: 8080 }];
  expect(fact({ container: container({ ports, health: "healthy" }), record: started() })).toMatchObject({ ports, health: "healthy" });
  expect(fact({ container: ended({ ports, health: "healthy" }), record: started({ state: "failed" }) })).toMatchObject({
    ports: [],
    health: "none",
  });
});

test("the last words come with the exit code, never without", () => {
  expect(fact({ record: started({ logTail: ["x"] }) }).logTail).toEqual([]);
  expect(fact({ record: started({ logTail: ["x"], exitCode: 3 }) })).toMatchObject({ logTail: ["x"], exitCode: 3 });
});
