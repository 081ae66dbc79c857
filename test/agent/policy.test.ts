import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { prepareBinds } from "../../agent/binds.ts";
import { allocateDevices } from "../../agent/devices.ts";
import { LOG_DRIVERS, type LogDriver } from "../../agent/log-options.ts";
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
const logging = (driver: LogDriver, options: Record<string, string>): Partial<WorkloadInput> => ({ logging: { driver, options } });
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
  test.each<[string, Partial<WorkloadInput>, object, object?]>([
    ["privileged", { privileged: true }, { privileged: true }],
    ["unconfined system calls", { securityOpt: ["seccomp=unconfined"] }, { privileged: true }],
    ["unconfined AppArmor", { securityOpt: ["apparmor:unconfined"] }, { privileged: true }],
    ["no SELinux", { securityOpt: ["label=disable"] }, { privileged: true }],
    ["an unconfined SELinux type", { securityOpt: ["label=type:spc_t"] }, { securityOptions: ["label=type:spc_t"] }],
    ["another of them", { securityOpt: ["label:type:unconfined_t"] }, { securityOptions: ["label=type:unconfined_t"] }],
    ["a role of SELinux", { securityOpt: ["label=role:sysadm_r"] }, { securityOptions: ["label:role:sysadm_r"] }],
    ["the same where all is allowed", { securityOpt: ["label=user:sysadm_u"] }, { privileged: true }],
    ["a profile of another program", { securityOpt: ["apparmor=docker-nginx"] }, { securityOptions: ["apparmor:docker-nginx"] }],
    ["privileges by set-user-ID where the engine denies them", { securityOpt: ["no-new-privileges:false"] }, { privileged: true }],
    ["a runtime", { runtime: "kata" }, { runtimes: ["kata"] }],
    ["logs to a socket of the host", logging("syslog", { "syslog-address": "unix:///run/host.sock" }), { logDrivers: ["syslog"] }],
    ["logs to an address inside", logging("gelf", { "gelf-address": "tcp://169.254.169.254:80" }), { logDrivers: ["gelf"] }],
    ["logs over the network", logging("fluentd", {}), { logDrivers: ["fluentd"] }],
    ["logs at all", logging("local", {}), { logDrivers: ["local"] }, { logDrivers: [] }],
    ["a large log", logging("json-file", { "max-size": "1g", "max-file": "2" }), { logMiBMax: 2048 }],
    ["a large log of the local driver", logging("local", { "max-file": "100" }), { logMiBMax: 2000 }],
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
  ])("%s", (_, workload, allowing, forbidding = {}) => {
    const sentence = judge(workload, forbidding);
    expect(sentence).toContain(`"${Object.keys(allowing)[0]}"`);
    expect(sentence).toContain("/x/policy.json");
    expect(judge(workload, allowing)).toBeNull();
  });

  test.each<[string, Partial<WorkloadInput>]>([
    ["an ordinary workload", {}],
    ["capabilities that the engine grants anyway", { capAdd: ["NET_BIND_SERVICE", "CAP_CHOWN"], capDrop: ["ALL"] }],
    ["less confinement for nobody", { securityOpt: ["no-new-privileges:true"] }],
    ["a category, and the engine's own profile", { securityOpt: ["label:level:s0:c1,c2", "apparmor=docker-default"] }],
    [
      "logs with bounds",
      { logging: { driver: "json-file", options: { "max-size": "0.1g", "max-file": "10", tag: "{{.Name}}/{{ .ID }}" } } },
    ],
    ["logs with the driver's bounds", { logging: { driver: "json-file", options: { "max-file": "5" } } }],
    [
      "logs of the journal",
      { logging: { driver: "journald", options: { tag: "shop", labels: "a,b", mode: "non-blocking", "max-buffer-size": "4m" } } },
    ],
    ["no logs", { logging: { driver: "none" } }],
    ["logs of the local driver", { logging: { driver: "local", options: { compress: "false" } } }],
    ["a directory below a root", bind("/srv/data")],
    ["the root directory itself", bind("/srv/")],
    ["the time, read-only", bind("/etc/localtime", true)],
  ])("%s is allowed", (_, workload) => {
    expect(judge(workload)).toBeNull();
  });

  test.each<[string, Partial<WorkloadInput>]>([
    ["no bound", logging("json-file", { "max-size": "-1" })],
    ["no size", logging("local", { "max-size": "0" })],
    ["a size that is none", logging("json-file", { "max-size": "1e9m" })],
    ["a fraction of nothing", logging("json-file", { "max-size": "1.m" })],
    ["less than a byte", logging("json-file", { "max-size": "0.5b" })],
    ["files without end", logging("json-file", { "max-file": "100000" })],
    ["a buffer in the engine's memory", logging("journald", { mode: "non-blocking", "max-buffer-size": "1g" })],
    ["a program in a tag", logging("json-file", { tag: '{{range printf "%1000000d" 1}}{{end}}' })],
    ["another driver's option", logging("local", { "syslog-address": "unix:///run/host.sock" })],
    ["an option of no driver", logging("none", { "gelf-address": "tcp://169.254.169.254:80" })],
    ["a name of every object", logging("json-file", { constructor: "x" })],
  ])("a log with %s is refused, always", (_, workload) => {
    expect(judge(workload)).toContain("not even a key");
    expect(judge(workload, { privileged: true, logDrivers: [...LOG_DRIVERS], logMiBMax: 1_000_000 })).toContain("not even a key");
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
    const volume = { ...spec, volumes: { data: { engineName: "v", external: false, labels: { "berth.node": "x" } } } };
    expect(judgeByPolicy({ ref: ref(), spec: volume, policy: POLICY_DEFAULT, file: "/x" })?.message).toContain("reserved");
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
    await expect(prepare(join(root, "x", "y"))).rejects.toThrow(`${join(root, "x")} does not exist on this node`);
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
