/** From apps to rows. Properties numbered as in docs/spec/planner.md. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AppSpec, type AppSpecInput, ReplicaSpec } from "../../../shared/model/app.ts";
import { canonicalJson, contentHash, hashText } from "../../../shared/model/content.ts";
import { deployErrors, splitErrors } from "../../../shared/model/deploy-errors.ts";
import { colocatedServices, desireApp, engineVolumeName, replicaSpec, servicePlanning } from "../../../shared/model/desire.ts";

type Services = AppSpecInput["services"];
const app = (services: Services, rest: Partial<AppSpecInput> = {}): AppSpec => AppSpec.parse({ name: "shop", services, ...rest });
const image = { workload: { image: "nginx:1" } };
const apart = { workload: { image: "nginx:1", networkMode: "none" as const } };

describe("content", () => {
  test("SHA-256 of the UTF-8 of the canonical text", () => {
    expect(canonicalJson({ b: [1, undefined, "ü"], a: { d: null, c: undefined } })).toBe('{"a":{"d":null},"b":[1,null,"ü"]}');
    expect(hashText("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test.for([Number.NaN, Number.POSITIVE_INFINITY, 1n, () => 0, Symbol("x")])("%s has no canonical text", (value) => {
    expect(() => canonicalJson({ value })).toThrow(TypeError);
  });

  test("P13 the order of keys never changes a hash, a value always does", () => {
    const reversed = (value: unknown): unknown =>
      Array.isArray(value)
        ? value.map(reversed)
        : value !== null && typeof value === "object"
          ? Object.fromEntries(
              Object.entries(value)
                .reverse()
                .map(([key, member]) => [key, reversed(member)]),
            )
          : value;
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(contentHash(reversed(a))).toBe(contentHash(a));
        const text = canonicalJson(a);
        expect(canonicalJson(JSON.parse(text))).toBe(text);
        if (canonicalJson(b) !== text) expect(contentHash(b)).not.toBe(contentHash(a));
      }),
    );
  });
});

describe("desire", () => {
  test("P14 no two volumes share an engine name", () => {
    const name = fc.constantFrom("a", "b", "a_b", "b_a", "a__b", "a_b_a", "b_a_b", "a-b");
    fc.assert(
      fc.property(fc.tuple(name, name, name), fc.tuple(name, name, name), (a, b) => {
        expect(engineVolumeName(...a) === engineVolumeName(...b)).toBe(a.join("/") === b.join("/"));
      }),
      { numRuns: 2000 },
    );
    expect(engineVolumeName("default", "shop", "data")).toBe("berth_default_shop_data");
  });

  test("a service's body names its configs by content and its volumes by engine name, and parses on the wire", () => {
    const spec = app(
      {
        db: {
          workload: {
            image: "postgres:17",
            mounts: [
              { kind: "volume", volume: "data", target: "/data" },
              { kind: "volume", volume: "old", target: "/old" },
              { kind: "config", config: "conf", target: "/etc/conf" },
            ],
          },
        },
      },
      { volumes: { data: {}, old: { externalName: "pg" } }, configs: { conf: { content: "x=1" } } },
    );
    const { services, configs } = desireApp("default", spec);
    const body = ReplicaSpec.parse(JSON.parse(services[0]!.body));
    expect(body.volumes).toEqual({
      data: { engineName: "berth_default_shop_data", external: false },
      old: { engineName: "pg", external: true },
    });
    expect(body.configs).toEqual({ conf: hashText("x=1") });
    expect(configs).toEqual([{ name: "conf", hash: hashText("x=1"), content: "x=1" }]);
    expect(services[0]!.spec).toBe(hashText(services[0]!.body));
    expect(canonicalJson(replicaSpec("default", spec, "db", () => hashText("x=1")))).toBe(services[0]!.body);
  });

  test("counts, placement and rollout do not change the hash; the workload, a config's content and the reservation do", () => {
    const hash = (change: object, content = "a") =>
      desireApp(
        "default",
        app(
          { web: { workload: { image: "nginx:1", mounts: [{ kind: "config", config: "c", target: "/c" }] }, ...change } },
          { configs: { c: { content } } },
        ),
      ).services[0]!.spec;
    const before = hash({});
    expect(hash({ replicas: 5, placement: { maxPerNode: 5, strategy: "binpack" }, update: { parallelism: 3 } })).toBe(before);
    expect(hash({}, "b")).not.toBe(before);
    expect(hash({ reservation: { memoryMiB: 128 } })).not.toBe(before);
    expect(hash({ workload: { image: "nginx:2" } })).not.toBe(before);
  });

  test("the planner's half", () => {
    const spec = app(
      {
        web: {
          workload: {
            image: "nginx:1",
            ports: [{ target: 80, published: 8080, hostIp: "10.0.0.1" }, { target: 81 }],
            mounts: [
              { kind: "volume", volume: "data", target: "/a", readOnly: true },
              { kind: "volume", volume: "data", target: "/b" },
            ],
          },
          placement: { tolerations: [{ key: "gpu" }] },
          dependsOn: { web2: { condition: "healthy" } },
        },
        web2: apart,
      },
      { volumes: { data: {} } },
    );
    expect(servicePlanning("default", spec, "web")).toMatchObject({
      hostPorts: [{ port: 8080, protocol: "tcp", hostIp: "10.0.0.1" }],
      volumes: [{ name: "data", engineName: "berth_default_shop_data", readOnly: false }],
      tolerations: [{ key: "gpu" }],
      maxPerNode: null,
      colocate: false,
      dependsOn: [{ service: "web2", condition: "healthy", required: true }],
      imageReference: "nginx:1",
    });
  });

  test.for<[string, Services, string[]]>([
    ["one service on the app's network is free", { web: image }, []],
    ["two share a node", { web: image, db: image }, ["db", "web"]],
    ["one without a network stays free", { web: image, db: image, job: apart }, ["db", "web"]],
    ["those without a network are free", { a: apart, b: apart }, []],
    [
      "but not if they share a volume",
      {
        a: { workload: { image: "x", networkMode: "host", mounts: [{ kind: "volume", volume: "v", target: "/v" }] } },
        b: { workload: { image: "x", networkMode: "none", mounts: [{ kind: "volume", volume: "v", target: "/v" }] } },
      },
      ["a", "b"],
    ],
  ])("colocation: %s", ([, services, expected]) => {
    expect([...colocatedServices(app(services, { volumes: { v: {} } }))].sort()).toEqual(expected);
  });
});

describe("refusals at deploy", () => {
  const on = (key: string, operator: "=" | "!=" | "in" | "notIn" | "exists" | "notExists" | "<" | ">", ...values: string[]) => ({
    ...image,
    placement: { constraints: [{ key, operator, values }] },
  });
  const port = (published: number, hostIp?: string) => ({
    workload: { image: "nginx:1", ports: [{ target: 80, published, ...(hostIp === undefined ? {} : { hostIp }) }] },
  });

  test.for<[string, Services, [code: string, path: string][]]>([
    ["nothing wrong", { web: image, db: image }, []],
    ["a global service alone", { web: { ...image, mode: "global" } }, []],
    ["a global service among others", { web: { ...image, mode: "global" }, db: image }, [["global_in_group", "services.web.mode"]]],
    ["a global service beside the network", { web: { ...apart, mode: "global" }, db: image, api: image }, []],
    [
      "maxPerNode below replicas",
      { web: { ...image, replicas: 3, placement: { maxPerNode: 2 } }, db: image },
      [["max_per_node_in_group", "services.web.placement.maxPerNode"]],
    ],
    ["maxPerNode alone", { web: { ...image, replicas: 3, placement: { maxPerNode: 2 } } }, []],
    [
      "replicas with one host port",
      { web: { ...port(80), replicas: 2 }, db: image },
      [["host_port_replicas", "services.web.workload.ports"]],
    ],
    ["two with one host port", { web: port(80), db: port(80, "10.0.0.1") }, [["host_port_conflict", "services.web.workload.ports"]]],
    ["two with one port on two addresses", { web: port(80, "10.0.0.1"), db: port(80, "10.0.0.2") }, []],
    [
      "spread in a group",
      { web: { ...image, placement: { spreadBy: ["node.site"] } }, db: image },
      [["spread_in_group", "services.web.placement.spreadBy"]],
    ],
    [
      "= and =",
      { web: on("node.labels.z", "=", "a"), db: on("node.labels.z", "=", "b") },
      [["constraints_conflict", "services.web.placement.constraints"]],
    ],
    ["the same twice", { web: on("node.labels.z", "=", "a"), db: on("node.labels.z", "=", "a") }, []],
    ["other keys", { web: on("node.labels.z", "=", "a"), db: on("node.labels.y", "=", "b") }, []],
    ["= and in", { web: on("node.labels.z", "=", "a"), db: on("node.labels.z", "in", "a", "b") }, []],
    [
      "in and in",
      { web: on("node.labels.z", "in", "a", "b"), db: on("node.labels.z", "in", "c") },
      [["constraints_conflict", "services.web.placement.constraints"]],
    ],
    [
      "= and !=",
      { web: on("node.labels.z", "=", "a"), db: on("node.labels.z", "!=", "a") },
      [["constraints_conflict", "services.web.placement.constraints"]],
    ],
    [
      "exists and notExists",
      { web: on("node.labels.z", "exists"), db: on("node.labels.z", "notExists") },
      [["constraints_conflict", "services.web.placement.constraints"]],
    ],
    [
      "> and <",
      { web: on("node.labels.n", ">", "5"), db: on("node.labels.n", "<", "5") },
      [["constraints_conflict", "services.web.placement.constraints"]],
    ],
    ["> and < with room", { web: on("node.labels.n", ">", "5"), db: on("node.labels.n", "<", "7") }, []],
  ])("%s", ([, services, expected]) => {
    expect(splitErrors(app(services)).map(({ code, path }) => [code, path])).toEqual(expected);
  });

  test("each says what, why and what to do", () => {
    expect(splitErrors(app({ web: on("node.labels.z", "=", "a"), db: on("node.labels.z", "=", "b") }))).toEqual([
      {
        code: "constraints_conflict",
        message: "no node can satisfy both node.labels.z = b (db) and node.labels.z = a (web), and the two share one node",
        mend: "give both services constraints on node.labels.z that one node can satisfy",
        path: "services.web.placement.constraints",
      },
    ]);
  });

  test("dependencies: cycles and absences, unless they are optional", () => {
    const on = (...services: string[]) => ({
      ...apart,
      dependsOn: Object.fromEntries(services.map((name) => [name, { condition: "started" as const }])),
    });
    expect(deployErrors(app({ a: on("b"), b: on("c"), c: on("a"), d: on("a") })).map(({ message }) => message)).toEqual([
      "services wait for each other: a → b → c → a",
    ]);
    expect(deployErrors(app({ a: on("a") })).map(({ code }) => code)).toEqual(["dependency_cycle"]);
    expect(deployErrors(app({ a: on("b", "c"), b: on("d"), c: on("d"), d: on() }))).toEqual([]);
    expect(deployErrors(app({ a: on("gone") })).map(({ code }) => code)).toEqual(["dependency_missing"]);
    expect(deployErrors(app({ a: { ...apart, dependsOn: { gone: { condition: "started", required: false } } } }))).toEqual([]);
  });

  test("waiting for the end of what is started again whenever it ends", () => {
    const waiting = { ...apart, dependsOn: { job: { condition: "completed" as const } } };
    const job = (condition: "always" | "no") => ({ ...apart, workload: { ...apart.workload, restart: { condition } } });
    expect(deployErrors(app({ web: waiting, job: job("always") }))).toMatchObject([
      { code: "dependency_endless", path: "services.web.dependsOn.job" },
    ]);
    expect(deployErrors(app({ web: waiting, job: job("no") }))).toEqual([]);
  });

  test("more replicas together than a cluster can hold", () => {
    const of = (a: number, b: number) =>
      deployErrors(app({ a: { ...apart, replicas: a }, b: { ...apart, replicas: b }, c: { ...apart, mode: "global" } }));
    expect(of(60_000, 40_000)).toEqual([]);
    expect(of(60_000, 40_001).map(({ code, message }) => [code, message])).toEqual([
      ["replicas_total", "the services of shop want 100001 replicas together; an app may have 100000"],
    ]);
  });

  describe("an external volume", () => {
    const mounts = [{ kind: "volume", volume: "v", target: "/v" }];
    const has = (key: string, operator: string, ...values: string[]) => ({ constraints: [{ key, operator, values }] });
    const alone = { workload: { image: "x", networkMode: "none", mounts } };
    test.for<[string, Record<string, object>, string[]]>([
      ["with no constraint", { a: alone }, ["services.a.workload.mounts[0]"]],
      ["on a node by name", { a: { ...alone, placement: has("node.name", "=", "n1") } }, []],
      ["on a node by host name", { a: { ...alone, placement: has("node.hostname", "in", "n1", "n2") } }, []],
      ["on nodes with a label", { a: { ...alone, placement: has("node.labels.nas", "exists") } }, []],
      ["on any node but one", { a: { ...alone, placement: has("node.name", "!=", "n1") } }, ["services.a.workload.mounts[0]"]],
      ["on nodes of an architecture", { a: { ...alone, placement: has("node.arch", "=", "x64") } }, ["services.a.workload.mounts[0]"]],
      ["of a global service", { a: { ...alone, mode: "global" } }, []],
      ["of a service that shares the node of one that is placed", { a: alone, b: { ...alone, placement: has("node.id", "=", "n") } }, []],
      [
        "of a service apart from one that is placed",
        { a: alone, b: { workload: { image: "x", networkMode: "none" }, placement: has("node.id", "=", "n") } },
        ["services.a.workload.mounts[0]"],
      ],
    ])("%s", ([, services, paths]) => {
      const spec = AppSpec.parse({ name: "shop", services, volumes: { v: { externalName: "theirs" } } });
      const found = deployErrors(spec).filter(({ code }) => code === "volume_unplaced");
      expect(found.map(({ path }) => path)).toEqual(paths);
      for (const { message } of found) expect(message).toBe("a mounts the external volume theirs, and nothing says which node has it");
    });

    test("berth's own volume needs none", () => {
      expect(deployErrors(AppSpec.parse({ name: "shop", services: { a: alone }, volumes: { v: {} } }))).toEqual([]);
    });
  });

  test("volumes and configs that are not declared", () => {
    const spec = app({
      a: {
        workload: {
          image: "x",
          mounts: [
            { kind: "volume", volume: "v", target: "/v" },
            { kind: "config", config: "c", target: "/c" },
          ],
        },
      },
    });
    expect(deployErrors(spec).map(({ code, path }) => [code, path])).toEqual([
      ["volume_missing", "services.a.workload.mounts[0]"],
      ["config_missing", "services.a.workload.mounts[1]"],
    ]);
    expect(() => desireApp("default", spec)).toThrow("volume v is mounted but not declared");
  });
});
