import { describe, expect, test } from "vitest";
import { accepted, web, workload } from "./project.ts";

/** Lines of a service → the part of its workload that they decide. */
const rows: readonly (readonly [string, readonly string[], Record<string, unknown>])[] = [
  [
    "nothing said: always restarted, on the app's network",
    [],
    { restart: { condition: "always", delayMs: 1000 }, networkMode: "app", pullPolicy: "missing", ports: [], mounts: [], env: {} },
  ],
  ["command as words", ["command: echo 'a b' c"], { command: ["echo", "a b", "c"] }],
  ["command as a list", ['command: ["echo", "a b"]'], { command: ["echo", "a b"] }],
  ["command empty", ["command: []"], { command: [] }],
  ["entrypoint as words", ["entrypoint: /bin/sh -c"], { entrypoint: ["/bin/sh", "-c"] }],
  ["restart no", ["restart: no"], { restart: { condition: "no", delayMs: 1000 } }],
  ["restart 'no'", ['restart: "no"'], { restart: { condition: "no", delayMs: 1000 } }],
  ["restart on-failure", ["restart: on-failure"], { restart: { condition: "on-failure", delayMs: 1000 } }],
  ["restart on-failure:3", ["restart: on-failure:3"], { restart: { condition: "on-failure", attemptsMax: 3, delayMs: 1000 } }],
  ["restart unless-stopped", ["restart: unless-stopped"], { restart: { condition: "always", delayMs: 1000 } }],
  [
    "restart_policy wins over restart",
    ["restart: always", "deploy: {restart_policy: {condition: none}}"],
    { restart: { condition: "no", delayMs: 1000 } },
  ],
  [
    "restart_policy in full",
    ["deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 2, window: 1m}}"],
    { restart: { condition: "on-failure", delayMs: 5000, attemptsMax: 2, windowMs: 60_000 } },
  ],
  [
    "restart_policy any without limit",
    ["deploy: {restart_policy: {max_attempts: 0}}"],
    { restart: { condition: "always", delayMs: 1000 } },
  ],
  ["port, host port", ['ports: ["8080:80"]'], { ports: [{ target: 80, published: 8080, protocol: "tcp" }] }],
  [
    "port alone: the engine chooses",
    ['ports: ["80", 81]'],
    {
      ports: [
        { target: 80, protocol: "tcp" },
        { target: 81, protocol: "tcp" },
      ],
    },
  ],
  [
    "port with address and protocol",
    ['ports: ["127.0.0.1:53:5353/udp"]'],
    { ports: [{ target: 5353, published: 53, protocol: "udp", hostIp: "127.0.0.1" }] },
  ],
  ["port with address only", ['ports: ["127.0.0.1::80"]'], { ports: [{ target: 80, protocol: "tcp", hostIp: "127.0.0.1" }] }],
  [
    "port with an IPv6 address",
    ['ports: ["[::1]:8080:80", "::1:8081:81"]'],
    {
      ports: [
        { target: 80, published: 8080, protocol: "tcp", hostIp: "::1" },
        { target: 81, published: 8081, protocol: "tcp", hostIp: "::1" },
      ],
    },
  ],
  [
    "port ranges",
    ['ports: ["90-91:80-81"]'],
    {
      ports: [
        { target: 80, published: 90, protocol: "tcp" },
        { target: 81, published: 91, protocol: "tcp" },
      ],
    },
  ],
  [
    "port in the long form",
    ["ports: [{target: 80, published: '8080', protocol: udp, mode: ingress, name: web, app_protocol: http}]"],
    { ports: [{ target: 80, published: 8080, protocol: "udp" }] },
  ],
  ["the same port twice", ['ports: ["80:80", {target: 80, published: 80}]'], { ports: [{ target: 80, published: 80, protocol: "tcp" }] }],
  [
    "healthcheck, a string",
    ["healthcheck: {test: curl -f x, interval: 1m30s, timeout: 500ms, retries: 5, start_period: 2m, start_interval: 1s}"],
    {
      healthcheck: {
        test: ["CMD-SHELL", "curl -f x"],
        intervalMs: 90_000,
        timeoutMs: 500,
        retries: 5,
        startPeriodMs: 120_000,
        startIntervalMs: 1_000,
      },
    },
  ],
  ["healthcheck, a list", ["healthcheck: {test: [CMD, a, b]}"], { healthcheck: { test: ["CMD", "a", "b"] } }],
  [
    "healthcheck, the image's own with other times",
    ["healthcheck: {interval: 5s, retries: 7}"],
    { healthcheck: { test: [], intervalMs: 5_000, retries: 7 } },
  ],
  ["healthcheck that says nothing", ["healthcheck: {interval: 0s}"], {}],
  ["healthcheck off", ["healthcheck: {disable: true}"], { healthcheck: { test: ["NONE"] } }],
  ["healthcheck 0 is not given", ["healthcheck: {test: x, interval: 0s, retries: 0}"], { healthcheck: { test: ["CMD-SHELL", "x"] } }],
  [
    "memory and CPU",
    [
      "cpus: 1.5",
      "mem_limit: 512m",
      "memswap_limit: -1",
      "mem_swappiness: 0",
      "pids_limit: 100",
      "cpu_shares: 512",
      "cpuset: 0-3,5",
      "mem_reservation: 64mb",
    ],
    {
      limits: {
        cpuMillis: 1500,
        memoryBytes: 536_870_912,
        memorySwapBytes: -1,
        memorySwappiness: 0,
        pids: 100,
        cpuShares: 512,
        cpuset: "0-3,5",
        memoryReservationBytes: 67_108_864,
      },
    },
  ],
  [
    "deploy limits",
    ["deploy: {resources: {limits: {cpus: '0.25', memory: 1.5G, pids: 5}}}"],
    { limits: { cpuMillis: 250, memoryBytes: 1_610_612_736, pids: 5 } },
  ],
  ["the same limit twice", ["cpus: 0.5", "deploy: {resources: {limits: {cpus: '0.50'}}}"], { limits: { cpuMillis: 500 } }],
  ["quota over period", ["cpu_quota: 50000", "cpu_period: 25000"], { limits: { cpuMillis: 2000 } }],
  ["quota alone", ["cpu_quota: 50000"], { limits: { cpuMillis: 500 } }],
  ["0 is no limit", ["cpus: 0", "mem_limit: 0", "pids_limit: 0"], { limits: {} }],
  [
    "capabilities with and without CAP_",
    ["cap_add: [CAP_NET_ADMIN, sys_time]", "cap_drop: [ALL]"],
    { capAdd: ["NET_ADMIN", "SYS_TIME"], capDrop: ["ALL"] },
  ],
  [
    "devices",
    ["devices: [/dev/a, '/dev/b:/dev/c', '/dev/d:/dev/e:r', '/dev/f:rw', {source: /dev/g, permissions: m}]"],
    {
      devices: [
        { source: "/dev/a", target: "/dev/a", permissions: "rwm" },
        { source: "/dev/b", target: "/dev/c", permissions: "rwm" },
        { source: "/dev/d", target: "/dev/e", permissions: "r" },
        { source: "/dev/f", target: "/dev/f", permissions: "rw" },
        { source: "/dev/g", target: "/dev/g", permissions: "m" },
      ],
    },
  ],
  [
    "ulimits",
    ["ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3, memlock: -1}"],
    { ulimits: { nofile: { soft: 1, hard: 2 }, nproc: { soft: 3, hard: 3 }, memlock: { soft: -1, hard: -1 } } },
  ],
  ["sysctls", ["sysctls: [net.core.somaxconn=1024]"], { sysctls: { "net.core.somaxconn": "1024" } }],
  [
    "hosts",
    ["extra_hosts: ['a:1.2.3.4', 'b=host-gateway', 'c:[::1]', 'a:5.6.7.8']"],
    { extraHosts: ["a:1.2.3.4", "a:5.6.7.8", "b:host-gateway", "c:::1"] },
  ],
  [
    "names",
    ["hostname: h", "domainname: d.example", "dns: 1.1.1.1", "dns_search: [x.example]", "dns_opt: ['ndots:1']"],
    { hostname: "h", domainname: "d.example", dns: ["1.1.1.1"], dnsSearch: ["x.example"], dnsOptions: ["ndots:1"] },
  ],
  [
    "flags",
    ["init: true", "tty: true", "stdin_open: true", "read_only: true", "privileged: true", "oom_kill_disable: true"],
    { init: true, tty: true, stdinOpen: true, readOnly: true, privileged: true, oomKillDisable: true },
  ],
  [
    "namespaces",
    ["ipc: host", "pid: host", "uts: host", "cgroup: private", "network_mode: host"],
    { ipc: "host", pid: "host", uts: "host", cgroupns: "private", networkMode: "host" },
  ],
  ["no network", ["network_mode: none"], { networkMode: "none" }],
  [
    "the default network with aliases",
    ["networks: {default: {aliases: [db.example, primary]}}"],
    { networkMode: "app", aliases: ["db.example", "primary"] },
  ],
  ["container_name is a further name", ["container_name: My_Web"], { aliases: ["my_web"] }],
  ["stopping", ["stop_signal: SIGINT", "stop_grace_period: 1m"], { stopSignal: "SIGINT", stopGraceMs: 60_000 }],
  [
    "the user's side",
    ["user: '1000:100'", "group_add: [docker, 20]", "working_dir: /app"],
    { user: "1000:100", groupAdd: ["docker", "20"], workingDir: "/app" },
  ],
  ["shared memory and the killer", ["shm_size: 64m", "oom_score_adj: -500"], { shmBytes: 67_108_864, oomScoreAdj: -500 }],
  [
    "security",
    ["security_opt: ['no-new-privileges:true', 'seccomp:unconfined']"],
    { securityOpt: ["no-new-privileges:true", "seccomp:unconfined"] },
  ],
  [
    "logging",
    ["logging: {driver: local, options: {max-size: 1m, max-file: 3}}"],
    { logging: { driver: "local", options: { "max-size": "1m", "max-file": "3" } } },
  ],
  ["pulling", ["pull_policy: if_not_present"], { pullPolicy: "missing" }],
  ["pulling always", ["pull_policy: always", "runtime: runc"], { pullPolicy: "always", runtime: "runc" }],
  ["labels", ["labels: [a=b=c, 'bare']"], { labels: { a: "b=c", bare: "" } }],
];

describe("the keys of a service", () => {
  test.each(rows)("%s", (_, lines, expected) => {
    expect(workload(web(...lines))).toMatchObject(expected);
  });
});

describe("environment and labels from files", () => {
  const disk = { "a.env": "A=a\nB=a", "b.env": "B=b\nC=$OUT", "raw.env": "R='$OUT'", "l.txt": "l=file\nm=file" };

  test("later files win over earlier ones, environment over all, and a bare name takes the outer value", () => {
    const compose = web(
      "env_file: [a.env, {path: b.env}, {path: raw.env, format: raw}, {path: missing.env, required: false}]",
      "environment: [C=own, OUT, UNSET]",
    );
    expect({ ...workload(compose, { disk, env: { OUT: "outer" } }).env }).toEqual({ A: "a", B: "b", C: "own", R: "'$OUT'", OUT: "outer" });
  });

  test("a bare name that is unset takes a file's value away", () => {
    expect({ ...workload(web("env_file: a.env", "environment: [A]"), { disk }).env }).toEqual({ B: "a" });
  });

  test("label files, under labels", () => {
    expect({ ...workload(web("label_file: l.txt", "labels: {m: own}"), { disk }).labels }).toEqual({ l: "file", m: "own" });
  });
});

describe("mounts", () => {
  const disk = { "nginx.conf": "conf", "run.sh": { kind: "text" as const, text: "#!", executable: true }, "sub/nginx.conf": "other" };
  const mounts = (line: string): unknown => workload(`${web(line)}\nvolumes: {data: , Big_Data_: }`, { disk }).mounts;

  test.each([
    ["a volume", "volumes: ['data:/d']", { kind: "volume", volume: "data", target: "/d", readOnly: false, noCopy: false }],
    ["a volume read-only, not filled", "volumes: ['data:/d/:ro,nocopy']", { kind: "volume", target: "/d", readOnly: true, noCopy: true }],
    ["a volume whose name is made fit", "volumes: ['Big_Data_:/d']", { kind: "volume", volume: "big_data" }],
    ["a place alone", "volumes: [/var/lib/x]", { kind: "volume", volume: "web-var-lib-x", target: "/var/lib/x" }],
    [
      "a bind, made if missing",
      "volumes: ['/srv/a/../b:/d']",
      { kind: "bind", source: "/srv/b", target: "/d", readOnly: false, createHostPath: true, propagation: "rprivate" },
    ],
    ["a bind with propagation", "volumes: ['/srv:/d:ro,rslave']", { kind: "bind", readOnly: true, propagation: "rslave" }],
    [
      "a bind in the long form is not made",
      "volumes: [{type: bind, source: /srv, target: /d, bind: {propagation: shared}}]",
      { kind: "bind", createHostPath: false, propagation: "shared" },
    ],
    [
      "a bind in the long form, made",
      "volumes: [{type: bind, source: /srv, target: /d, bind: {create_host_path: true}}]",
      { kind: "bind", createHostPath: true },
    ],
    [
      "a file beside the project",
      "volumes: ['./nginx.conf:/etc/nginx/nginx.conf:ro']",
      { kind: "config", config: "nginx.conf", target: "/etc/nginx/nginx.conf", mode: 0o444 },
    ],
    ["an executable file", "volumes: ['./run.sh:/run.sh']", { kind: "config", config: "run.sh", mode: 0o555 }],
    [
      "a file in the long form",
      "volumes: [{type: bind, source: sub/nginx.conf, target: /n}]",
      { kind: "config", config: "sub-nginx.conf" },
    ],
    [
      "a tmpfs with options",
      "tmpfs: '/run:size=64m,mode=1770,noexec'",
      { kind: "tmpfs", target: "/run", sizeBytes: 67_108_864, mode: 0o1770 },
    ],
    [
      "a tmpfs in the long form",
      "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1k, mode: 0700}}]",
      { kind: "tmpfs", target: "/t", sizeBytes: 1024, mode: 0o700 },
    ],
  ])("%s", (_, line, expected) => {
    expect(mounts(line)).toMatchObject([expected]);
  });

  test("two files of one name are two configs, one file mounted twice is one", () => {
    const { app } = accepted(web("volumes: ['./sub/nginx.conf:/a', './sub-nginx.conf:/b', './sub/nginx.conf:/c']"), {
      disk: { ...disk, "sub-nginx.conf": "third" },
    });
    expect(app.configs).toEqual({ "sub-nginx.conf": { content: "other" }, "sub-nginx.conf-2": { content: "third" } });
  });

  test("the same project elsewhere gives the same app", () => {
    const here = accepted(web("volumes: ['./nginx.conf:/n', './sub/nginx.conf:/m']"), { disk, projectName: "a" }).app;
    const files = Object.fromEntries(Object.entries(disk).map(([path, answer]) => [`/elsewhere/deep/${path}`, answer]));
    const there = accepted(web("volumes: ['./nginx.conf:/n', './sub/nginx.conf:/m']"), {
      disk: files,
      files: ["/elsewhere/deep/compose.yaml"],
      projectName: "a",
    }).app;
    expect(there).toEqual(here);
  });
});

describe("configs", () => {
  test("from a file, from text, from a variable", () => {
    const compose = `${web("configs: [f, {source: c, target: etc/c, uid: '5', gid: '6', mode: 0440}, {source: e, mode: '0400'}]")}\nconfigs: {f: {file: ./f.txt}, c: {content: 'hi \${WHO}'}, e: {environment: WHO}}`;
    const { app } = accepted(compose, { disk: { "f.txt": "file" }, env: { WHO: "ada" } });
    expect(app.configs).toEqual({ f: { content: "file" }, c: { content: "hi ada" }, e: { content: "ada" } });
    expect(app.services.web?.workload.mounts).toEqual([
      { kind: "config", config: "f", target: "/f", mode: 0o444, uid: 0, gid: 0 },
      { kind: "config", config: "c", target: "/etc/c", mode: 0o440, uid: 5, gid: 6 },
      { kind: "config", config: "e", target: "/e", mode: 0o400, uid: 0, gid: 0 },
    ]);
  });

  test("one that no service uses is not read, and the report says so", () => {
    const result = accepted(`${web()}\nconfigs: {unused: {file: ./not-there}}`);
    expect(result.app.configs).toEqual({});
    expect(result.report.find((line) => line.path === "configs.unused")).toMatchObject({
      status: "approximated",
      note: expect.stringContaining("No effect"),
    });
  });
});

describe("volumes", () => {
  test("external ones keep the engine's name, others berth's", () => {
    const { app, report } = accepted(
      `${web()}\nvolumes: {a: , b: {external: true}, c: {external: true, name: real}, d: {name: wish, labels: {x: 1}, driver: local}, e: {external: {name: old}}}`,
    );
    expect(app.volumes).toEqual({
      a: { labels: {} },
      b: { labels: {}, externalName: "b" },
      c: { labels: {}, externalName: "real" },
      d: { labels: { x: "1" } },
      e: { labels: {}, externalName: "old" },
    });
    expect(report.find((line) => line.path === "volumes.d.name")).toMatchObject({
      status: "approximated",
      note: expect.stringContaining("No effect"),
    });
    expect(report.find((line) => line.path === "volumes.c.name")).toMatchObject({ status: "applied" });
  });
});

describe("counts, rollout, placement, reservations", () => {
  const service = (...lines: string[]): unknown => accepted(web(...lines)).app.services.web;

  test.each([
    ["one replica", [], { mode: "replicated", replicas: 1 }],
    ["replicas", ["deploy: {replicas: 3}"], { mode: "replicated", replicas: 3 }],
    ["none", ["deploy: {replicas: 0}"], { replicas: 0 }],
    ["scale", ["scale: 2"], { replicas: 2 }],
    ["global", ["deploy: {mode: global}"], { mode: "global" }],
    [
      "update_config",
      [
        "deploy: {update_config: {parallelism: 2, delay: 5s, monitor: 30s, order: start-first, failure_action: rollback, max_failure_ratio: 0.1}}",
      ],
      { update: { parallelism: 2, delayMs: 5_000, minHealthyMs: 30_000, order: "start-first", failureAction: "rollback" } },
    ],
    ["all at once", ["deploy: {update_config: {parallelism: 0}}"], { update: { parallelism: 100_000 } }],
    [
      "reservations",
      [
        "deploy: {resources: {reservations: {cpus: '0.5', memory: 100M, generic_resources: [{discrete_resource_spec: {kind: GPU, value: 2}}]}}}",
      ],
      { reservation: { cpuMillis: 500, memoryMiB: 100, devices: { gpu: 2 } } },
    ],
    ["a reservation is rounded up to MiB", ["mem_reservation: 1500k"], { reservation: { memoryMiB: 2 } }],
    [
      "constraints",
      [
        "deploy: {placement: {constraints: [node.labels.a==b, 'node.hostname != x y', node.platform.arch==x86_64, node.platform.os==linux, node.id==n1]}}",
      ],
      {
        placement: {
          constraints: [
            { key: "node.labels.a", operator: "=", values: ["b"] },
            { key: "node.hostname", operator: "!=", values: ["x y"] },
            { key: "node.arch", operator: "=", values: ["x64"] },
            { key: "node.id", operator: "=", values: ["n1"] },
          ],
        },
      },
    ],
    [
      "every node is a worker",
      ["deploy: {placement: {constraints: [node.role==worker, node.role!=manager]}}"],
      { placement: { constraints: [] } },
    ],
    [
      "spread and most per node",
      ["deploy: {placement: {preferences: [{spread: node.labels.zone}, {spread: node.site}], max_replicas_per_node: 2}}"],
      { placement: { spreadBy: ["node.labels.zone", "node.site"], maxPerNode: 2 } },
    ],
    [
      "platform",
      ["platform: linux/arm64/v8"],
      {
        placement: {
          constraints: [{ key: "node.arch", operator: "=", values: ["arm64"] }],
        },
      },
    ],
    ["platform, architecture alone", ["platform: amd64"], { placement: { constraints: [{ key: "node.arch", values: ["x64"] }] } }],
  ])("%s", (_, lines, expected) => {
    expect(service(...lines)).toMatchObject(expected);
  });
});

describe("dependencies", () => {
  const compose = (web: string): string => `services:\n  db: {image: x}\n  cache: {image: x, profiles: [extra]}\n  web: {image: x, ${web}}`;

  test.each([
    ["a list", "depends_on: [db]", { db: { condition: "started", required: true } }],
    ["conditions", "depends_on: {db: {condition: service_healthy, restart: true}}", { db: { condition: "healthy", required: true } }],
    [
      "one that need not be there",
      "depends_on: {cache: {condition: service_started, required: false}, nope: {condition: service_started, required: false}}",
      {},
    ],
    ["links", "links: [db]", { db: { condition: "started", required: true } }],
    [
      "links add to depends_on",
      "links: ['db:database'], depends_on: {db: {condition: service_healthy}}",
      { db: { condition: "healthy", required: true } },
    ],
  ])("%s", (_, line, expected) => {
    expect(accepted(compose(line)).app.services.web?.dependsOn).toEqual(expected);
  });

  test.each([
    ["no restart said", "", { condition: "no" }],
    ["its own word stands", "restart: on-failure", { condition: "on-failure" }],
    ["its policy too", "deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", { condition: "on-failure", attemptsMax: 2 }],
  ])("what others wait for to complete is run once: %s", (_, line, restart) => {
    const text = `services:\n  db: {image: x, ${line}}\n  web: {image: x, depends_on: {db: {condition: service_completed_successfully}}}`;
    const { services } = accepted(text).app;
    expect(services.web?.dependsOn).toEqual({ db: { condition: "completed", required: true } });
    expect(services.db?.workload.restart).toMatchObject(restart);
    expect(services.web?.workload.restart).toMatchObject({ condition: "always" });
  });

  test("a link's alias is a further name of its target", () => {
    expect(accepted(compose("links: ['db:database']")).app.services.db?.workload.aliases).toEqual(["database"]);
  });
});

describe("profiles", () => {
  const compose =
    "services:\n  web: {image: x}\n  debug: {image: x, profiles: [debug, all]}\n  seed: {image: x, profiles: [seed], secrets: [s], build: .}\n";

  test.each([
    [[], ["web"]],
    [["debug"], ["debug", "web"]],
    [["all"], ["debug", "web"]],
    [["nope"], ["web"]],
  ])("%j → %j", (profiles, expected) => {
    expect(Object.keys(accepted(compose, { profiles }).app.services).sort()).toEqual(expected);
  });
});
