/** B69: what a running container has at its mounts is looked at for each of its runs, whatever fails on the way. */
import { expect, test } from "vitest";
import { hasBinds, runOf } from "../../agent/binds.ts";
import { EngineError, type InspectedContainer } from "../../agent/engine/engine.ts";
import { type ExecutorContext, makeExecutors } from "../../agent/executors.ts";
import { Observed } from "../../agent/observed.ts";
import { Policy } from "../../agent/policy.ts";
import { newRecord, type ReplicaRecord } from "../../shared/converge/record.ts";
import { AppSpec, ReplicaSpec } from "../../shared/model/app.ts";
import { desireApp } from "../../shared/model/desire.ts";
import type { AssignmentRef } from "../../shared/wire/poll.ts";

const ID = "c".repeat(64);
const workload = { image: "i", mounts: [{ kind: "bind" as const, source: "/srv/x", target: "/x", readOnly: false }] };
const [service] = desireApp("default", AppSpec.parse({ name: "a", services: { w: { workload } } })).services;
const spec = ReplicaSpec.parse(JSON.parse(service!.body));
const ref = {
  replica: "r_aaaaaaaaaaaaaaaa",
  namespace: "default",
  app: "a",
  service: "w",
  slot: "0",
  revision: 1,
  spec: service!.spec,
  image: { reference: "i", digest: null, imageId: null, resolve: true },
} as AssignmentRef;
const running: InspectedContainer = {
  id: ID,
  name: "n",
  labels: {},
  imageId: "sha256:1",
  status: "running",
  pid: 42,
  exitCode: 0,
  oomKilled: false,
  health: "none",
  startedWallMs: 0,
  finishedWallMs: null,
  healthySinceWallMs: null,
  ports: [],
  tty: false,
};

/** A container that has, at its mount, `inside`, where `/srv/x` is `outside`. */
function machine({ inside, failsOnce }: { readonly inside: string; readonly failsOnce?: "inspect" | "kill" }) {
  let record: ReplicaRecord = { ...newRecord(ref, "boot"), containerId: ID, imageId: "sha256:1", state: "running", hasStarted: true };
  let mayFail = true;
  const killed: string[] = [];
  const failing = (call: string) => {
    if (call !== failsOnce || !mayFail) return;
    mayFail = false;
    throw new EngineError("timeout", "no answer");
  };
  const put = async (changed: ReplicaRecord) => {
    record = changed;
  };
  const context = {
    engine: {
      inspect: async () => {
        failing("inspect");
        return running;
      },
      kill: async (id: string) => {
        failing("kill");
        killed.push(id);
      },
    },
    ledger: { record: () => record, records: new Map(), spec: () => spec, putRecord: put, concludeRecord: put, rememberRecord: put },
    observed: new Observed({ bootMs: () => 0, wallMs: () => 0, after: () => () => {} }),
    host: {
      bootId: "boot",
      isProcessOf: async () => true,
      mountInfo: async () => "1 2 3 / /x rw",
      identityInside: async () => inside,
      identityOf: async () => "outside",
      realPath: async (path: string) => path,
    },
    policy: () => ({ policy: Policy.parse({}), problem: null }),
    background: (work: Promise<void>) => void work,
  };
  const executors = makeExecutors(context as unknown as ExecutorContext);
  return {
    check: () => executors.checkMounts({ kind: "checkMounts", key: "", replica: ref.replica, containerId: ID }),
    record: () => record,
    killed,
  };
}

test("a run whose mounts are right is looked at once", async () => {
  const { check, record, killed } = machine({ inside: "outside" });
  expect(hasBinds(spec)).toBe(true);
  await check();
  expect(record().mountsCheckedOf).toBe(runOf(running, "boot"));
  expect([record().state, killed]).toEqual(["running", []]);
  expect(runOf({ ...running, pid: 43 }, "boot")).not.toBe(record().mountsCheckedOf);
});

test("one that has something else there is killed, and rejected for good", async () => {
  const { check, record, killed } = machine({ inside: "elsewhere" });
  await check();
  expect(killed).toEqual([ID]);
  expect(record()).toMatchObject({ state: "rejected", reason: "mount" });
});

test.each(["inspect", "kill"] as const)("where the engine does not answer to %s it is looked at again", async (failsOnce) => {
  const { check, record, killed } = machine({ inside: "elsewhere", failsOnce });
  await expect(check()).rejects.toThrow("no answer");
  expect(record()).toMatchObject({ state: "running", mountsCheckedOf: null });
  await check();
  expect(killed).toEqual([ID]);
  expect(record()).toMatchObject({ state: "rejected", reason: "mount" });
});
