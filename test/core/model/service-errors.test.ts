import { describe, expect, test } from "vitest";
import { AppSpec, type AppSpecInput } from "../../../shared/model/app.ts";

type Service = AppSpecInput["services"][string];
const service = (over: Partial<Service>): Service => ({ workload: { image: "x" }, ...over });
const workload = (over: Partial<Service["workload"]>): Service => ({ workload: { image: "x", ...over } });
const constraint = (operator: "=" | "!=" | "in" | "notIn" | "exists" | "notExists" | "<" | ">", ...values: string[]): Service =>
  service({ placement: { constraints: [{ key: "node.labels.n", operator, values }] } });
const updated = (update: Service["update"]): Service => service({ replicas: 3, update });
const volume = (target: string) => ({ kind: "volume" as const, volume: "v", target });
const check = (...words: string[]): Service => workload({ healthcheck: { test: words } });
const device = (permissions: string): Service => workload({ devices: [{ source: "/dev/x", target: "/dev/x", permissions }] });
const MIB = 1024 * 1024;

const refusals = (input: Service): string[] => {
  const parsed = AppSpec.safeParse({ name: "shop", services: { web: input }, volumes: { v: {} } });
  return parsed.success ? [] : parsed.error.issues.map(({ path, message }) => `${path.slice(2).join(".")}: ${message}`);
};

describe("refused", () => {
  test.for<[Service, string, string]>([
    [check("ls"), "workload.healthcheck.test", "CMD-SHELL"],
    [check("CMD"), "workload.healthcheck.test", "CMD"],
    [check("NONE", "x"), "workload.healthcheck.test", "NONE"],
    [check("CMD-SHELL", "a", "b"), "workload.healthcheck.test", "one line"],
    [workload({ mounts: [volume("/d"), { kind: "tmpfs", target: "/d/" }] }), "workload.mounts", "/d"],
    [workload({ mounts: [volume("/d/./e"), volume("/d//e")] }), "workload.mounts", "/d/e"],
    [workload({ networkMode: "none", ports: [{ target: 80 }] }), "workload.ports", "none"],
    [workload({ networkMode: "host", ports: [{ target: 80, published: 80 }] }), "workload.ports", "host"],
    [workload({ networkMode: "host", aliases: ["db"] }), "workload.aliases", "names"],
    [workload({ uts: "host", hostname: "web" }), "workload.hostname", "host name"],
    [service({ mode: "global", replicas: 3 }), "replicas", "no number"],
    [service({ mode: "global", placement: { maxPerNode: 2 } }), "placement.maxPerNode", "global"],
    [service({ mode: "global", placement: { spreadBy: ["node.site"] } }), "placement.spreadBy", "global"],
    [updated({ maxSurge: 0, maxUnavailable: 0 }), "update.maxSurge", "nothing could ever change over"],
    [updated({ maxSurge: 0, order: "start-first" }), "update.maxSurge", "start-first"],
    [updated({ maxUnavailable: 0, order: "stop-first" }), "update.maxUnavailable", "stop-first"],
    [{ ...workload({ mounts: [volume("/d")] }), update: { maxUnavailable: 0 } }, "update.maxUnavailable", "two must not write"],
    [updated({ canaries: 4 }), "update.canaries", "4 canaries of 3"],
    [updated({ canaries: 1, order: "stop-first" }), "update.canaries", "beside the old replica"],
    [updated({ canaries: 1, maxSurge: 0 }), "update.canaries", "maxSurge is 0"],
    [{ ...workload({ mounts: [volume("/d")] }), update: { canaries: 1 } }, "update.canaries", "two must not write"],
    [
      { ...workload({ ports: [{ target: 80, published: 80 }] }), mode: "global", update: { canaries: 1 } },
      "update.canaries",
      "host port 80/tcp",
    ],
    [constraint("="), "placement.constraints", "one value, not none"],
    [constraint("!=", "a", "b"), "placement.constraints", "one value, not a, b"],
    [constraint("in"), "placement.constraints", "at least one"],
    [constraint("<", "many"), "placement.constraints", "decimal"],
    [constraint(">", "1", "2"), "placement.constraints", "decimal"],
    [constraint("exists", "a"), "placement.constraints", "no value"],
    [constraint("notExists", "a"), "placement.constraints", "no value"],
    [workload({ restart: { condition: "no", attemptsMax: 3 } }), "workload.restart.attemptsMax", "3"],
    [workload({ ulimits: { nofile: { soft: 2, hard: 1 } } }), "workload.ulimits.nofile", "hard limit 1"],
    [workload({ ulimits: { nofile: { soft: -1, hard: 1 } } }), "workload.ulimits.nofile", "without end"],
    [{ ...workload({ limits: { memoryBytes: 64 * MIB } }), reservation: { memoryMiB: 65 } }, "workload.limits.memoryBytes", "65 MiB"],
    [
      workload({ limits: { memoryBytes: 64 * MIB, memoryReservationBytes: 65 * MIB } }),
      "workload.limits.memoryReservationBytes",
      "more than",
    ],
    [workload({ limits: { memoryBytes: 64 * MIB, memorySwapBytes: 32 * MIB } }), "workload.limits.memorySwapBytes", "below"],
    [workload({ limits: { memorySwapBytes: 32 * MIB } }), "workload.limits.memorySwapBytes", "needs"],
    [workload({ limits: { pids: 0 } }), "workload.limits.pids", "0 processes"],
    [workload({ stopSignal: "SIGFOO" }), "workload.stopSignal", "SIGFOO"],
    [workload({ stopSignal: "99" }), "workload.stopSignal", "99"],
    [workload({ stopSignal: "RTMIN+16" }), "workload.stopSignal", "RTMIN+16"],
    [workload({ capAdd: ["FOO"] }), "workload.capAdd", "FOO"],
    [workload({ capDrop: ["CAP_FOO"] }), "workload.capDrop", "CAP_FOO"],
    [workload({ securityOpt: ["what"] }), "workload.securityOpt", "what"],
    [workload({ securityOpt: ["seccomp=x.json"] }), "workload.securityOpt", "x.json"],
    [workload({ extraHosts: ["a:1.2.3.4.5.6"] }), "workload.extraHosts", "1.2.3.4.5.6"],
    [device("www"), "workload.devices", "twice"],
    [
      workload({
        ports: [
          { target: 80, published: 8080 },
          { target: 81, published: 8080 },
        ],
      }),
      "workload.ports",
      "8080/tcp",
    ],
    [
      workload({
        ports: [
          { target: 80, published: 8080, hostIp: "0.0.0.0" },
          { target: 81, published: 8080, hostIp: "10.0.0.1" },
        ],
      }),
      "workload.ports",
      "for 80 and for 81",
    ],
  ])("%j", ([input, path, word]) => {
    const [only, ...more] = refusals(input);
    expect([only?.split(":")[0], more]).toEqual([path, []]);
    expect(only).toContain(word);
  });
});

test.each<Service>([
  check("CMD", "ls"),
  check("CMD-SHELL", "ls || exit 1"),
  check("NONE"),
  workload({ networkMode: "none", hostname: "web" }),
  service({ mode: "global" }),
  updated({ canaries: 3 }),
  updated({ maxSurge: 0, maxUnavailable: 1 }),
  updated({ maxSurge: 1, maxUnavailable: 0, order: "start-first" }),
  constraint("=", "a"),
  constraint("in", "a", "b"),
  constraint("exists"),
  constraint("<", " 1.5"),
  workload({ restart: { condition: "on-failure", attemptsMax: 3 } }),
  workload({ ulimits: { nofile: { soft: 1, hard: -1 }, core: { soft: -1, hard: -1 } } }),
  // What is reserved unasked is no contradiction to a small limit.
  workload({ limits: { memoryBytes: 32 * MIB, memorySwapBytes: -1, pids: -1 } }),
  workload({ limits: { memoryBytes: 32 * MIB, memorySwapBytes: 32 * MIB } }),
  workload({ stopSignal: "SIGRTMIN+3" }),
  workload({ stopSignal: "64" }),
  workload({ capAdd: ["NET_ADMIN", "CAP_SYS_TIME"], capDrop: ["ALL"] }),
  workload({ securityOpt: ["no-new-privileges:true", "apparmor=unconfined", "label:disable", "seccomp=unconfined"] }),
  workload({ extraHosts: ["a:1.2.3.4", "b:::1", "c:host-gateway"] }),
  device("mr"),
  workload({
    ports: [
      { target: 80, published: 8080, hostIp: "10.0.0.1" },
      { target: 80, published: 8080, hostIp: "10.0.0.2" },
      { target: 80, published: 8080, hostIp: "10.0.0.1", protocol: "udp" },
      { target: 53, published: 53, hostIp: "0.0.0.0" },
      { target: 53, published: 53, hostIp: "::" },
      { target: 80 },
      { target: 80 },
    ],
  }),
])("accepted: %j", (input) => {
  expect(refusals(input)).toEqual([]);
});
