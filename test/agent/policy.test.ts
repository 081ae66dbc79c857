import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { prepareBinds } from "../../agent/binds.ts";
import { allocateDevices } from "../../agent/devices.ts";
import { openHost } from "../../agent/node-host.ts";
import { isBindAllowed, judgeByPolicy, Policy, POLICY_DEFAULT, readPolicy } from "../../agent/policy.ts";
import { newRecord } from "../../shared/converge/record.ts";
import type { AppSpecInput } from "../../shared/model/app.ts";
import { desired, image, ref } from "../core/converge/world.ts";

type WorkloadInput = AppSpecInput["services"][string]["workload"];
const judge = (workload: Partial<WorkloadInput>, policy: unknown = {}, changes: Parameters<typeof ref>[0] = {}): string | null => {
  const { spec } = desired(workload);
  return (
    judgeByPolicy({ ref: ref(changes), spec, policy: readPolicy(JSON.stringify(policy), null).policy, file: "/x/policy.json" })?.message ??
    null
  );
};
const bind = (source: string, readOnly = false): Partial<WorkloadInput> => ({ mounts: [{ kind: "bind", source, target: "/t", readOnly }] });

describe("a policy file", () => {
  test.each([
    ["absent", null, null],
    ["empty", "{}", null],
    ["not JSON", "{", "is not JSON"],
    ["a list", "[]", "policy.json"],
    ["a key that does not exist", '{"privilegd":true}', "privilegd"],
    ["a value of the wrong kind", '{"privileged":"yes"}', "privileged"],
    ["a root with '..'", '{"bindRoots":["/srv/../etc"]}', "bindRoots"],
  ])("%s", (_, text, problem) => {
    const read = readPolicy(text, null);
    if (problem === null) expect(read).toEqual({ policy: POLICY_DEFAULT, problem: null });
    else expect(read.problem).toContain(problem);
  });

  test("that cannot be read leaves the last good one in force, and without one allows nothing", () => {
    const good = readPolicy('{"hostNetwork":true,"labels":{"rack":"7"}}', null).policy;
    expect(readPolicy('{"hostNetwork":tr', good).policy).toEqual(good);
    expect(readPolicy("", null).policy).toMatchObject({ hostNetwork: false, allowedRegistries: [], bindRoots: [], logs: false });
  });
});

describe("what is refused by default, and the key that allows it", () => {
  test.each<[string, Partial<WorkloadInput>, object]>([
    ["privileged", { privileged: true }, { privileged: true }],
    ["unconfined system calls", { securityOpt: ["seccomp=unconfined"] }, { privileged: true }],
    ["unconfined AppArmor", { securityOpt: ["apparmor:unconfined"] }, { privileged: true }],
    ["no SELinux", { securityOpt: ["label=disable"] }, { privileged: true }],
    ["open system paths", { securityOpt: ["systempaths=unconfined"] }, { privileged: true }],
    ["a strong capability", { capAdd: ["SYS_ADMIN"] }, { capabilities: ["SYS_ADMIN"] }],
    ["the same with its prefix", { capAdd: ["CAP_SYS_ADMIN"] }, { capabilities: ["SYS_ADMIN"] }],
    ["all capabilities", { capAdd: ["ALL"] }, { capabilities: ["ALL"] }],
    ["the host's network", { networkMode: "host" }, { hostNetwork: true }],
    ["the host's processes", { pid: "host" }, { hostNamespaces: true }],
    ["the host's IPC", { ipc: "host" }, { hostNamespaces: true }],
    ["the host's name", { uts: "host" }, { hostNamespaces: true }],
    ["the host's cgroups", { cgroupns: "host" }, { hostNamespaces: true }],
    ["a device", { devices: [{ source: "/dev/sda", target: "/dev/sda" }] }, { devicePaths: ["/dev/sda"] }],
    ["protection from the out-of-memory killer", { oomScoreAdj: -500 }, { privileged: true }],
    ["no out-of-memory killer", { oomKillDisable: true }, { privileged: true }],
    ["the root", bind("/"), { bindRoots: ["/"] }],
    ["the engine's socket", bind("/var/run/docker.sock"), { bindRoots: ["/var/run/docker.sock"] }],
    ["a neighbour of a root", bind("/srvx"), { bindRoots: ["/srvx"] }],
    ["the time, writable", bind("/etc/localtime"), { bindRoots: ["/etc/localtime"] }],
  ])("%s", (_, workload, allowing) => {
    const sentence = judge(workload);
    expect(sentence).toContain(`"${Object.keys(allowing)[0]}"`);
    expect(sentence).toContain("/x/policy.json");
    expect(judge(workload, allowing)).toBeNull();
  });

  test.each<[string, Partial<WorkloadInput>]>([
    ["an ordinary workload", {}],
    ["capabilities that the engine grants anyway", { capAdd: ["NET_BIND_SERVICE", "CAP_CHOWN"], capDrop: ["ALL"] }],
    ["less confinement for nobody", { securityOpt: ["no-new-privileges:true"] }],
    ["a profile of the host's", { securityOpt: ["apparmor=docker-nginx"] }],
    ["a directory below a root", bind("/srv/data")],
    ["the root directory itself", bind("/srv/")],
    ["the time, read-only", bind("/etc/localtime", true)],
  ])("%s is allowed", (_, workload) => {
    expect(judge(workload)).toBeNull();
  });

  test("registries by name; a local image by `local`", () => {
    const allowed = { allowedRegistries: ["registry.example.com:5000"] };
    expect(judge({}, allowed, { image: image({ reference: "nginx:1" }) })).toContain(
      'images may not come from docker.io: add it to "allowedRegistries"',
    );
    expect(judge({}, allowed, { image: image({ reference: "registry.example.com:5000/a/b:1" }) })).toBeNull();
    const local = image({ imageId: `sha256:${"a".repeat(64)}`, digest: null });
    expect(judge({}, allowed, { image: local })).toContain("local");
    expect(judge({}, { allowedRegistries: ["local"] }, { image: local })).toBeNull();
  });

  test("more than the machine's owner gives", () => {
    expect(judge({}, { memoryMiBMax: 63 })).toContain('64 MiB are reserved and 63 allowed: raise "memoryMiBMax"');
    expect(judge({}, { cpuMillisMax: 49 })).toContain('raise "cpuMillisMax"');
    expect(judge({}, { memoryMiBMax: 64, cpuMillisMax: 50 })).toBeNull();
  });

  test("a label with the reserved prefix, always", () => {
    const { spec } = desired();
    const forged = { ...spec, workload: { ...spec.workload, labels: { "berth.replica": "x" } } };
    expect(judgeByPolicy({ ref: ref(), spec: forged, policy: POLICY_DEFAULT, file: "/x" })?.message).toContain("reserved");
  });

  test.each([
    ["//srv//x", true],
    ["/srv/./x", true],
    ["/", false],
    ["/srv..", false],
    ["/mnt", true],
  ])("the path %s is allowed: %s", (source, expected) => {
    expect(isBindAllowed({ source, readOnly: false }, POLICY_DEFAULT)).toBe(expected);
  });
});

describe("binds on a file system that others write to (B69)", () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "berth-binds-"));
  });
  afterEach(async () => {
    await rm(root, { recursive: true, force: true });
  });
  const prepare = async (source: string, createHostPath = false) =>
    prepareBinds(
      desired({ mounts: [{ kind: "bind", source, target: "/t", createHostPath }] }).spec,
      Policy.parse({ bindRoots: [root] }),
      await openHost(),
    );

  test("a directory, and a file", async () => {
    await mkdir(join(root, "a"));
    await writeFile(join(root, "a", "f"), "");
    expect([await prepare(join(root, "a")), await prepare(join(root, "a", "f")), await prepare(root)]).toEqual([null, null, null]);
  });

  test("what is missing is said, or made when that was asked for", async () => {
    expect(await prepare(join(root, "x", "y"))).toBe(`${join(root, "x")} does not exist on this node`);
    expect(await prepare(join(root, "x", "y"), true)).toBeNull();
    expect(await prepare(join(root, "x", "y"))).toBeNull();
  });

  test("a symbolic link anywhere below the root is refused, also one that stays inside", async () => {
    await mkdir(join(root, "real"));
    await symlink("/etc", join(root, "out"));
    await symlink(join(root, "real"), join(root, "in"));
    expect(await prepare(join(root, "out"))).toContain("is a symbolic link");
    expect(await prepare(join(root, "out", "passwd"))).toContain("is a symbolic link");
    expect(await prepare(join(root, "in"))).toContain("is a symbolic link");
    expect(await prepare(join(root, "out", "new"), true)).toContain("is a symbolic link");
  });
});

describe("counted devices", () => {
  const policy = Policy.parse({ devices: { gpu: { count: 2 }, serial: { count: 2, paths: ["/dev/ttyUSB0", "/dev/ttyUSB1"] } } });
  const reservation = (devices: Record<string, number>) => ({ cpuMillis: 0, memoryMiB: 0, devices });
  const holding = (devices: Record<string, number[]>, state: "running" | "failed" = "running") =>
    new Map([["r_other", { ...newRecord(ref(), "b"), devices, state }]]);

  test("the free ones are given, by index or by file", () => {
    expect(
      allocateDevices({
        reservation: reservation({ gpu: 1, serial: 1 }),
        policy,
        records: holding({ gpu: [0], serial: [0] }),
        replica: "r_me",
      }),
    ).toEqual({
      held: { gpu: [1], serial: [1] },
      requests: [{ Driver: "nvidia", DeviceIDs: ["1"], Capabilities: [["gpu"]] }],
      paths: ["/dev/ttyUSB1"],
    });
  });

  test("those of what has ended are free", () => {
    expect(
      allocateDevices({ reservation: reservation({ gpu: 2 }), policy, records: holding({ gpu: [0, 1] }, "failed"), replica: "r_me" }).held,
    ).toEqual({ gpu: [0, 1] });
  });

  test("too few are said with the numbers", () => {
    expect(() =>
      allocateDevices({ reservation: reservation({ gpu: 2 }), policy, records: holding({ gpu: [0] }), replica: "r_me" }),
    ).toThrow('2 of device "gpu" are wanted, 1 of 2 are free');
  });
});
