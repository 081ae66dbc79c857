import { describe, expect, test } from "vitest";
import { KEY_ROWS } from "../../../shared/compose/keys.ts";
import { accepted, DIRECTORY, read, refusedWith, shown, web } from "./project.ts";

/** Lines of a service → `CODE PATH`, and a word that the message or the mend must have. */
const rows: readonly (readonly [string, readonly string[], string, string])[] = [
  // What a later version completes.
  ["secrets of a service", ["secrets: [s]"], "refused services.web.secrets", "not there yet"],
  ["jobs", ["deploy: {mode: replicated-job}"], "refused services.web.deploy.mode", "jobs are not there yet"],
  ["jobs on every node", ["deploy: {mode: global-job}"], "refused services.web.deploy.mode", "jobs are not there yet"],
  [
    "another condition",
    ["depends_on: {web2: {condition: service_gone}}"],
    "wrong_value services.web.depends_on.web2.condition",
    "service_completed_successfully",
  ],
  ["an undeclared network", ["networks: [back]"], "undefined_reference services.web.networks.back", "no network"],
  ["GPUs", ["gpus: all"], "refused services.web.gpus", "not there yet"],
  [
    "device reservations",
    ["deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}"],
    "refused services.web.deploy.resources.reservations.devices",
    "generic_resources",
  ],
  ["hooks", ["post_start: [{command: x}]"], "refused services.web.post_start", "entrypoint"],
  // What the design excludes.
  ["building", ["build: ./app"], "build_refused services.web.build", "docker build -t nginx ./app && docker push nginx"],
  ["a directory beside the project", ["volumes: ['./dir:/d']"], "refused services.web.volumes[0]", "directory"],
  ["a home directory", ["volumes: ['~/x:/d']"], "refused services.web.volumes[0]", "home directory"],
  ["a file that is not there", ["volumes: ['./gone:/d']"], "file_missing services.web.volumes[0]", "does not exist"],
  ["a file that is no text", ["volumes: ['./logo.png:/d']"], "file_not_text services.web.volumes[0]", "UTF-8"],
  ["a file that is too large", ["volumes: ['./large:/d']"], "file_too_large services.web.volumes[0]", "1000001"],
  ["network_mode bridge", ["network_mode: bridge"], "refused services.web.network_mode", "bridge"],
  ["network_mode of another service", ["network_mode: service:db"], "refused services.web.network_mode", "not supported"],
  ["network_mode of a container", ["network_mode: container:x"], "refused services.web.network_mode", "not supported"],
  ["a check that is no list of the engine's", ["healthcheck: {test: [ls]}"], "wrong_value services.web.healthcheck.test", "CMD"],
  ["two mounts at one place", ["volumes: ['data:/d', '/x:/d/']"], "wrong_value services.web.volumes[1]", "/d"],
  ["a mount and a tmpfs at one place", ["volumes: ['data:/d']", "tmpfs: /d"], "wrong_value services.web.tmpfs[0]", "/d"],
  ["one host port for two ports", ["ports: ['8080:80', '8080:81']"], "wrong_value services.web.ports", "8080/tcp"],
  ["one host port at all addresses and at one", ["ports: ['8080:80', '10.0.0.1:8080:81']"], "wrong_value services.web.ports", "8080/tcp"],
  ["a soft limit over the hard one", ["ulimits: {nofile: {soft: 2, hard: 1}}"], "wrong_value services.web.ulimits.nofile", "hard limit 1"],
  ["an unknown signal", ["stop_signal: SIGFOO"], "wrong_value services.web.stop_signal", "SIGTERM"],
  ["an unknown capability", ["cap_add: [FOO]"], "wrong_value services.web.cap_add", "FOO"],
  ["nonsense for a security option", ["security_opt: [what]"], "wrong_value services.web.security_opt", "what"],
  ["a host with no address", ["extra_hosts: ['a:1.2.3.4.5.6']"], "wrong_value services.web.extra_hosts", "1.2.3.4.5.6"],
  ["a device with www", ["devices: ['/dev/x:/dev/x:www']"], "wrong_value services.web.devices", "www"],
  ["less swap than memory", ["mem_limit: 64m", "memswap_limit: 32m"], "wrong_value services.web.memswap_limit", "below"],
  [
    "a limit below the reservation",
    ["mem_limit: 64m", "mem_reservation: 128m"],
    "wrong_value services.web.mem_reservation",
    "more than the limit",
  ],
  [
    "restarts of what is never restarted",
    ["deploy: {restart_policy: {condition: none, max_attempts: 3}}"],
    "wrong_value services.web.deploy.restart_policy.max_attempts",
    "3 times",
  ],
  [
    "a variable that is too long",
    [`environment: {A: "${"x".repeat(131_073)}"}`],
    "wrong_value services.web.environment.A",
    "at most 131072 characters",
  ],
  ["ports on the host network", ["network_mode: host", "ports: ['80:80']"], "wrong_value services.web.ports", "node's"],
  ["network_mode and networks", ["network_mode: host", "networks: [default]"], "wrong_value services.web.network_mode", "exclude"],
  ["a namespace of another service", ["pid: service:db"], "refused services.web.pid", "different nodes"],
  ["an ipc of another container", ["ipc: container:x"], "refused services.web.ipc", "different nodes"],
  ["volumes of another service", ["volumes_from: [db]"], "refused services.web.volumes_from", "different nodes"],
  ["a host port to be chosen from a range", ["ports: ['8000-8010:80']"], "refused services.web.ports[0]", "8000-8010"],
  ["sctp", ["ports: ['80:80/sctp']"], "refused services.web.ports[0]", "tcp or udp"],
  [
    "node.role==manager",
    ["deploy: {placement: {constraints: [node.role==manager]}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "label",
  ],
  [
    "node.role!=worker",
    ["deploy: {placement: {constraints: [node.role != worker]}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "manager",
  ],
  [
    "engine.labels",
    ["deploy: {placement: {constraints: [engine.labels.x==y]}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "node.labels",
  ],
  [
    "continue on failure",
    ["deploy: {update_config: {failure_action: continue}}"],
    "refused services.web.deploy.update_config.failure_action",
    "pause or rollback",
  ],
  ["pulling by time", ["pull_policy: daily"], "refused services.web.pull_policy", "deploy again"],
  ["pulling by another time", ["pull_policy: every_2h30m"], "refused services.web.pull_policy", "deploy again"],
  ["a seccomp profile", ["security_opt: ['seccomp:./p.json']"], "refused services.web.security_opt[0]", "not there yet"],
  ["a CDI device", ["devices: ['nvidia.com/gpu=all']"], "refused services.web.devices[0]", "device files"],
  ["a tmpfs option", ["tmpfs: '/x:uid=1000'"], "refused services.web.tmpfs[0]", "uid=1000"],
  ["a logging driver", ["logging: {driver: splunk}"], "refused services.web.logging.driver", "json-file"],
  ["a Windows platform", ["platform: windows/amd64"], "refused services.web.platform", "Linux"],
  ["a platform without nodes", ["platform: linux/arm/v7"], "refused services.web.platform", "linux/arm64"],
  [
    "a processor without nodes",
    ["deploy: {placement: {constraints: [node.platform.arch==s390x]}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "no node's node.arch is s390x",
  ],
  [
    "a label with a name that no label has",
    ["deploy: {placement: {constraints: ['node.labels.a~b==c']}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "nodes have no node.labels.a~b",
  ],
  [
    "another system",
    ["deploy: {placement: {constraints: [node.platform.os==windows]}}"],
    "refused services.web.deploy.placement.constraints[0]",
    "Linux",
  ],
  ["an image mount", ["volumes: [{type: image, source: x, target: /x}]"], "refused services.web.volumes[0]", "not supported"],
  [
    "a part of a volume",
    ["volumes: [{type: volume, source: data, target: /x, volume: {subpath: a}}]"],
    "refused services.web.volumes[0].volume.subpath",
    "newer engine",
  ],
  ["berth's own labels", ["labels: {berth.app: x}"], "refused services.web.labels.berth.app", "berth's own"],
  // What is wrong.
  ["an unknown key", ["portz: []"], "unknown_key services.web.portz", "did you mean ports?"],
  ["an unknown key far from any", ["frobnicate: 1"], "unknown_key services.web.frobnicate", "x-"],
  ["an unknown key below deploy", ["deploy: {replica: 1}"], "unknown_key services.web.deploy.replica", "did you mean replicas?"],
  [
    "an unknown key in a list",
    ["ports: [{target: 80, publish: 80}]"],
    "unknown_key services.web.ports[0].publish",
    "did you mean published?",
  ],
  ["a number where a string belongs", ["user: 1000"], "wrong_type services.web.user", 'put quotes around it: "1000"'],
  ["a number in a command", ["command: [sleep, 10]"], "wrong_type services.web.command", 'put quotes around it: "10"'],
  ["a list where a mapping belongs", ["deploy: [a]"], "wrong_type services.web.deploy", "a mapping"],
  ["a mapping as a value of environment", ["environment: {A: {b: c}}"], "wrong_type services.web.environment", "mapping"],
  ["a word for a boolean", ["init: perhaps"], "wrong_type services.web.init", "true or false"],
  ["a word for a number", ["scale: many"], "wrong_type services.web.scale", "a number"],
  ["half a replica", ["scale: 1.5"], "wrong_value services.web.scale", "whole number"],
  ["a billion replicas", ["scale: 1000000000"], "wrong_value services.web.scale", "100000"],
  ["negative replicas", ["deploy: {replicas: -1}"], "wrong_value services.web.deploy.replicas", "at least 0"],
  ["two counts", ["scale: 2", "deploy: {replicas: 3}"], "wrong_value services.web.scale", "keep one"],
  ["a count for global", ["deploy: {mode: global, replicas: 3}"], "wrong_value services.web.deploy.replicas", "every matching node"],
  ["two limits", ["mem_limit: 1g", "deploy: {resources: {limits: {memory: 2g}}}"], "wrong_value services.web.mem_limit", "different"],
  ["less memory than the engine takes", ["mem_limit: 1m"], "wrong_value services.web.mem_limit", "6291456"],
  ["no duration", ["stop_grace_period: soon"], "wrong_value services.web.stop_grace_period", "1m30s"],
  ["a duration without a unit", ["stop_grace_period: '10'"], "wrong_value services.web.stop_grace_period", "no duration"],
  ["no size", ["shm_size: big"], "wrong_value services.web.shm_size", "512m"],
  ["no port", ["ports: [eighty]"], "wrong_value services.web.ports[0]", "8080:80"],
  ["a port too high", ["ports: ['80:70000']"], "wrong_value services.web.ports[0]", "no port"],
  ["a host address that is none", ["ports: [{target: 80, host_ip: localhost}]"], "wrong_value services.web.ports[0]", "IP address"],
  ["ranges of two lengths", ["ports: ['80-82:90-91']"], "wrong_value services.web.ports[0]", "equally long"],
  ["too wide a range", ["ports: ['1-5000:1-5000']"], "wrong_value services.web.ports[0]", "1024"],
  ["no restart policy", ["restart: sometimes"], "wrong_value services.web.restart", "unless-stopped"],
  ["an undeclared volume", ["volumes: ['nope:/x']"], "undefined_reference services.web.volumes[0]", "declare it"],
  ["a mount without a place", ["volumes: ['data:']"], "wrong_value services.web.volumes[0]", "no mount"],
  ["a relative place", ["volumes: ['data:x']"], "wrong_value services.web.volumes[0]", "absolute"],
  ["two mounts in one place", ["volumes: ['data:/x']", "tmpfs: /x/"], "wrong_value services.web.tmpfs[0]", "two mounts"],
  ["a mount option", ["volumes: ['data:/x:rx']"], "wrong_value services.web.volumes[0]", '"rx"'],
  ["an undeclared config", ["configs: [nope]"], "undefined_reference services.web.configs[0]", "configs:"],
  ["an undefined dependency", ["depends_on: [ghost]"], "undefined_reference services.web.depends_on.ghost", "no service"],
  ["a dependency left out by profiles", ["depends_on: [idle]"], "undefined_reference services.web.depends_on.idle", "--profile"],
  ["a dependency on itself", ["depends_on: [web]"], "dependency_cycle services.web.depends_on", "web → web"],
  ["no condition", ["depends_on: {web2: {condition: ready}}"], "wrong_value services.web.depends_on.web2.condition", "service_healthy"],
  ["no image", ["image: !reset null"], "wrong_value services.web", "image:"],
  ["an image that is no reference", ["image: 'Not An Image'"], "wrong_value services.web.image", "reference"],
  ["an image with a query", ["image: x?fromSrc=y"], "wrong_value services.web.image", "reference"],
  ["an image with a path upwards", ["image: a/../../containers/json"], "wrong_value services.web.image", "reference"],
  ["a health test that is no form", ["healthcheck: {test: [curl, x]}"], "wrong_value services.web.healthcheck.test", "CMD-SHELL"],
  ["a check both off and on", ["healthcheck: {disable: true, test: x}"], "wrong_value services.web.healthcheck", "contradict"],
  ["an open quote in a command", ["command: echo 'x"], "wrong_value services.web.command", "quote"],
  [
    "a constraint that is none",
    ["deploy: {placement: {constraints: ['node.labels.a > 3']}}"],
    "wrong_value services.web.deploy.placement.constraints[0]",
    "x-berth",
  ],
  ["a missing env file", ["env_file: gone.env"], "file_missing services.web.env_file[0]", "does not exist"],
  [
    "an alias that is a service's name",
    ["networks: {default: {aliases: [web2]}}"],
    "wrong_value services.web.networks.default.aliases[0]",
    "no other service",
  ],
  ["a ulimit without hard", ["ulimits: {nofile: {soft: 1}}"], "wrong_value services.web.ulimits.nofile", "hard"],
  ["an unknown capability's form", ["cap_add: ['NET-ADMIN']"], "wrong_value services.web.cap_add[0]", ""],
];

const disk = {
  dir: { kind: "directory" as const },
  "logo.png": { kind: "binary" as const },
  large: { kind: "too-large" as const, bytes: 1_000_001 },
};
const around = "\n  web2: {image: x}\n  idle: {image: x, profiles: [idle]}\nvolumes: {data: }";

/** The lines, with an image unless they say one. */
const service = (lines: readonly string[]): string =>
  (lines.some((line) => line.startsWith("image:"))
    ? ["services:", "  web:", ...lines.map((line) => `    ${line}`)].join("\n")
    : web(...lines)) + around;

describe("refused, with the reason and what to do", () => {
  test.each(rows)("%s", (_, lines, expected, word) => {
    const errors = refusedWith(service(lines), { disk });
    const found = errors.find((error) => `${error.code} ${error.path}` === expected);
    expect(found, errors.map(shown).join("\n")).toBeDefined();
    expect(`${found?.message} ${found?.mend}`).toContain(word);
    expect(found?.mend.length).toBeGreaterThan(3);
    // One mistake, one error: no echo of it from further down.
    expect(errors.map(shown)).toHaveLength(1);
    const text = service(lines).split("\n")[(found?.line ?? 0) - 1];
    expect(text?.length).toBeGreaterThanOrEqual(found?.column ?? 1);
  });

  test.each([
    ["custom networks", "networks: {back: {}}", "refused networks.back", "known by its name"],
    ["an external default network", "networks: {default: {external: true}}", "refused networks.default.external", "one network"],
    ["a driver for the network", "networks: {default: {driver: macvlan}}", "refused networks.default.driver", "macvlan"],
    ["secrets", "secrets: {s: {file: ./s}}", "refused secrets", "not there yet"],
    ["models", "models: {m: {model: ai/x}}", "refused models", "language models"],
    [
      "another app's volume",
      "volumes: {v: {external: true, name: berth_other_db_data}}",
      "wrong_value volumes.v.name",
      "another app's data",
    ],
    ["another app's volume by its key", "volumes: {berth_x: {external: true}}", "wrong_value volumes.berth_x", "another app's data"],
    ["a volume driver", "volumes: {v: {driver: nfs}}", "refused volumes.v.driver", "nfs"],
    ["options of a volume", "volumes: {v: {driver_opts: {type: nfs}}}", "refused volumes.v.driver_opts", "absolute path"],
    ["an external config", "configs: {c: {external: true}}", "refused configs.c.external", "belong to their app"],
    ["two volumes of one name", "volumes: {data: , DATA: }", "name_conflict volumes.DATA", "case"],
    ["an unknown key", "service: {}", "unknown_key service", "did you mean services?"],
    ["a name that is none", "name: 'A b'", "wrong_value name", "lower-case"],
  ])("%s at the top of the file", (_, line, expected, word) => {
    const errors = refusedWith(`${web()}\n${line}`);
    expect(errors.map((error) => `${error.code} ${error.path}`)).toEqual([expected]);
    expect(`${errors[0]?.message} ${errors[0]?.mend}`).toContain(word);
  });

  test("more services than an app may have", () => {
    const many = Array.from({ length: 501 }, (_, index) => `  s${index}: {image: x}`).join("\n");
    const errors = refusedWith(`services:\n${many}`);
    expect(errors.map(({ path, mend }) => [path, mend])).toEqual([["services", "expected: at most 500 services an app"]]);
  });

  test("a service's name must be one", () => {
    expect(refusedWith("services: {Web: {image: x}}").map(shown)).toEqual(["compose.yaml:1:12 wrong_value services.Web"]);
  });

  test("values that ask for nothing are let through", () => {
    const { report } = accepted(web("network_mode: host", "container_name: front"));
    expect(report.find(({ path }) => path === "services.web.container_name")?.status).toBe("approximated");
    accepted(web("ports: ['0.0.0.0:53:53/udp', '[::]:53:53/udp', '53:53/tcp', '10.0.0.1:80:80', '10.0.0.2:80:80', '80', '80:80/udp']"));
    accepted(web("mem_limit: 32m", "pids_limit: 0", "memswap_limit: -1", "stop_signal: RTMIN+3", "cap_drop: [CAP_NET_RAW, all]"));
    accepted(web("isolation: default", "secrets: []", "use_api_socket: false", "gpus: []", "post_start: []"));
    accepted(
      `${web("networks: [default]")}\nnetworks: {default: {driver: bridge, external: false, internal: false, enable_ipv6: false}}\nsecrets: {}\nconfigs: {}`,
    );
  });

  test("every refused key of the table is refused when a service uses it", () => {
    const sample = {
      string: "x",
      number: "1",
      boolean: "true",
      strings: "[x]",
      scalars: "[1]",
      keyed: "{a: b}",
      list: "[{a: b}]",
      mapping: "{a: b}",
      null: "{a: b}",
    } as const;
    for (const row of KEY_ROWS.filter((candidate) => candidate.status === "refused" && /^services\.\*\.[a-z_]+$/.test(candidate.path))) {
      const key = row.path.split(".")[2] ?? "";
      const form = row.takes[0] ?? "string";
      const errors = refusedWith(web(`${key}: ${sample[form]}`));
      expect(
        errors.map((error) => `${error.code} ${error.path}`),
        row.path,
      ).toContain(`${key === "build" ? "build_refused" : "refused"} services.web.${key}`);
    }
  });

  test("all errors of a project come in one run, each once, in the order of the file", () => {
    const errors = refusedWith(
      [
        "services:",
        "  a: {image: x, restart: bad, ports: [bad]}",
        "  b: &b {image: y, bogus: 1}",
        "  c: *b",
        "volumes: {v: {driver: nfs}}",
      ].join("\n"),
    );
    expect(errors.map(shown)).toEqual([
      "compose.yaml:2:26 wrong_value services.a.restart",
      "compose.yaml:2:39 wrong_value services.a.ports[0]",
      "compose.yaml:3:20 unknown_key services.b.bogus",
      "compose.yaml:5:23 refused volumes.v.driver",
    ]);
    expect(errors.every((error) => error.file === `${DIRECTORY}/compose.yaml`)).toBe(true);
  });

  test("a circle of dependencies, also of 500", () => {
    const many = Array.from({ length: 500 }, (_, index) => `  s${index}: {image: x, depends_on: [s${(index + 1) % 500}]}`).join("\n");
    expect(refusedWith(`services:\n${many}`).map((error) => error.code)).toEqual(["dependency_cycle"]);
    const chain = Array.from({ length: 499 }, (_, index) => `  s${index}: {image: x, depends_on: [s${index + 1}]}`).join("\n");
    expect(read(`services:\n${chain}\n  s499: {image: x}`).ok).toBe(true);
  });
});

describe("--build", () => {
  test("lets build: through and says what to build", () => {
    const compose =
      "services:\n  a:\n    image: r.example/a:1\n    build: {context: ./app, dockerfile: D, target: t, args: [X=1, FROM_ENV, UNSET]}\n    pull_policy: build\n  b: {image: r.example/b:1, build: .}\n  c: {image: r.example/c:1, build: 'https://example.com/c.git'}";
    const { builds, report } = accepted(compose, { allowBuild: true, env: { FROM_ENV: "y" } });
    expect(builds).toEqual([
      { service: "a", context: `${DIRECTORY}/app`, dockerfile: "D", target: "t", args: { X: "1", FROM_ENV: "y" }, image: "r.example/a:1" },
      { service: "b", context: DIRECTORY, args: {}, image: "r.example/b:1" },
      { service: "c", context: "https://example.com/c.git", args: {}, image: "r.example/c:1" },
    ]);
    expect(report.some((line) => line.path === "services.a.build.context" && line.status === "applied")).toBe(true);
  });

  test("needs an image to push, and refuses what it would not pass on", () => {
    expect(refusedWith("services: {web: {build: .}}", { allowBuild: true }).map(shown)).toEqual([
      "compose.yaml:1:25 wrong_value services.web.build",
    ]);
    expect(refusedWith(web("build: {context: ., cache_from: [x]}"), { allowBuild: true }).map(shown)).toEqual([
      "compose.yaml:4:25 refused services.web.build.cache_from",
    ]);
  });
});
