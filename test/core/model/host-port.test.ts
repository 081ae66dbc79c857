import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AppSpec, PortSpec } from "../../../shared/model/app.ts";
import { splitErrors } from "../../../shared/model/deploy-errors.ts";
import { addressesOverlap, canonicalAddress } from "../../../shared/model/host-port.ts";
import { lintPlan } from "../../../shared/plan/lint-plan.ts";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import { world } from "../plan/world.ts";

const port = (hostIp: string) => ({ target: 80, published: 8080, ...(hostIp === "" ? {} : { hostIp }) });

describe("an address", () => {
  test.for<[string, string]>([
    ["", ""],
    ["127.0.0.1", "127.0.0.1"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["0000::0", "::"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["::ffff:192.168.1.5", "192.168.1.5"],
    ["::FFFF:c0a8:105", "192.168.1.5"],
  ])("%s is written %s", ([written, canonical]) => {
    expect(canonicalAddress(written)).toBe(canonical);
    if (written !== "") expect(PortSpec.parse(port(written)).hostIp).toBe(canonical);
  });

  test("is written once and for all, and only where it is one", () => {
    fc.assert(
      fc.property(fc.ipV6(), (written) => {
        const canonical = PortSpec.shape.hostIp.parse(written)!;
        expect(PortSpec.shape.hostIp.parse(canonical)).toBe(canonical);
        // Another writing of RFC 5952, but for IPv4 inside IPv6.
        if (canonical.includes(":")) expect(new URL(`http://[${written}]`).hostname).toBe(`[${canonical}]`);
      }),
      { numRuns: 2_000 },
    );
    expect(PortSpec.shape.hostIp.safeParse("::1::").success).toBe(false);
  });
});

describe("two services on one host port", () => {
  test.for<[string, string, boolean]>([
    ["", "10.0.0.1", true],
    ["", "::1", true],
    ["", "0.0.0.0", true],
    ["0.0.0.0", "127.0.0.1", true],
    ["0.0.0.0", "192.168.1.5", true],
    ["::", "::1", true],
    ["::1", "0:0:0:0:0:0:0:1", true],
    ["127.0.0.1", "::ffff:127.0.0.1", true],
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.1", "192.168.1.5", false],
    ["0.0.0.0", "::", false],
    ["0.0.0.0", "::1", false],
    ["::", "127.0.0.1", false],
  ])("of %s and %s clash: %s, for the planner, its linter and the checks of a deploy", ([a, b, clashes]) => {
    const [first, second] = [canonicalAddress(a), canonicalAddress(b)];
    expect([addressesOverlap(first, second), addressesOverlap(second, first)]).toEqual([clashes, clashes]);

    const made = world().nodes(1);
    for (const [name, hostIp] of [
      ["api", first],
      ["web", second],
    ] as const)
      made.service(name, { hostPorts: [{ port: 8080, protocol: "tcp", hostIp }] });
    const plan = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
    const assigns = plan.changes.flatMap((change) => (change.kind === "assign" ? [change] : []));
    expect(assigns).toHaveLength(clashes ? 1 : 2);
    const { spec, revision } = made.serviceOf("web");
    const other = { ...assigns[0]!, service: "web", spec, revision, replica: "r_aaaaaaaaaaaaaaaa" as const };
    expect(lintPlan(made.snapshot(), { ...plan, changes: [assigns[0]!, other] })).toEqual(
      clashes ? ["port: n1 would have host port 8080/tcp twice"] : [],
    );

    const services = { api: { workload: { image: "x:1", ports: [port(a)] } }, web: { workload: { image: "x:1", ports: [port(b)] } } };
    const codes = splitErrors(AppSpec.parse({ name: "shop", services })).map(({ code }) => code);
    expect(codes).toEqual(clashes ? ["host_port_conflict"] : []);
  });
});

test("a replica that stops first may come back on another address of its own port", () => {
  const made = world()
    .nodes(1)
    .app("shop", { revision: 2 })
    .service("web", { hostPorts: [{ port: 80, protocol: "tcp", hostIp: "" }] })
    .replica("web", 0, "n1")
    .changeService("web", { spec: "v2", revision: 2, planning: { hostPorts: [{ port: 80, protocol: "tcp", hostIp: "127.0.0.1" }] } })
    .deployment({ fromRevision: 1 });
  const plan = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
  expect(plan.changes).toMatchObject([{ kind: "stop", reason: "update" }]);
});
