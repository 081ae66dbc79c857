import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AuditRow, CHAIN_START, chainRows, verifyChain } from "../../../shared/audit/chain.ts";

const row = (rev: number, over: Partial<AuditRow> = {}): AuditRow => ({
  rev,
  atMs: 1_000 * rev,
  actor: "ann (t_1)",
  verb: "put",
  namespace: "default",
  object: "app/shop",
  detail: `revision ${rev}`,
  ...over,
});

/** Rows 2, 4, 6 … chained in ticks of the given sizes, with the head. */
function chained(...sizes: number[]) {
  let head = CHAIN_START;
  const rows: (AuditRow & { hash: string | null })[] = [];
  for (const size of sizes) {
    const fresh = Array.from({ length: size }, (_, i) => row(2 * (rows.length + i + 1)));
    const step = chainRows(head, fresh);
    rows.push(...fresh.map((each, i) => ({ ...each, hash: step.hashes[i]!.hash })));
    head = step.head;
  }
  return { rows, head };
}

describe("a chain", () => {
  test("is the same however many rows a tick takes", () => {
    expect(chained(1, 4)).toEqual(chained(5));
    expect(chained(5).head).toMatchObject({ rev: 10, rows: 5, hash: chained(5).rows[4]!.hash });
  });

  test("hashes the hash before it and the row's canonical JSON", () => {
    const { createHash } = process.getBuiltinModule("node:crypto");
    const [first, second] = chained(2).rows;
    const json = (rev: number) =>
      `{"actor":"ann (t_1)","atMs":${1_000 * rev},"detail":"revision ${rev}","namespace":"default","object":"app/shop","rev":${rev},"verb":"put"}`;
    expect(first!.hash).toBe(createHash("sha256").update(json(2)).digest("hex"));
    expect(second!.hash).toBe(
      createHash("sha256")
        .update(first!.hash + json(4))
        .digest("hex"),
    );
  });

  test("that nobody touched is intact, and newer rows wait", () => {
    const { rows, head } = chained(3);
    expect(verifyChain([...rows, { ...row(8), hash: null }], head)).toEqual({ kind: "intact", rows: 3, waiting: 1 });
    expect(verifyChain([], null)).toEqual({ kind: "intact", rows: 0, waiting: 0 });
    expect(verifyChain([{ ...row(2), hash: null }], null)).toEqual({ kind: "intact", rows: 0, waiting: 1 });
  });

  type Rows = ReturnType<typeof chained>["rows"];
  const again = (rows: Rows): Rows => {
    const { hashes } = chainRows(CHAIN_START, rows);
    return rows.map((each, i) => ({ ...each, hash: hashes[i]!.hash }));
  };
  test.each<[string, (rows: Rows) => Rows, number]>([
    ["the first is changed", (rows) => rows.with(0, { ...rows[0]!, actor: "bob" }), 2],
    ["one is changed", (rows) => rows.with(2, { ...rows[2]!, detail: "" }), 6],
    ["one belongs to another namespace", (rows) => rows.with(2, { ...rows[2]!, namespace: null }), 6],
    ["one is earlier", (rows) => rows.with(2, { ...rows[2]!, atMs: 1 }), 6],
    ["a hash is changed", (rows) => rows.with(2, { ...rows[2]!, hash: rows[1]!.hash }), 6],
    ["a hash is taken away", (rows) => rows.with(2, { ...rows[2]!, hash: null }), 6],
    ["the first is removed", (rows) => rows.slice(1), 4],
    ["one is removed", (rows) => rows.toSpliced(2, 1), 8],
    ["one is put in", (rows) => rows.toSpliced(2, 0, { ...row(5), hash: rows[1]!.hash }), 5],
    ["two change places", (rows) => rows.with(1, rows[2]!).with(2, rows[1]!), 6],
    ["the last is removed", (rows) => rows.slice(0, -1), 10],
    ["all are removed", () => [], 10],
    ["one is changed and all are chained anew", (rows) => again(rows.with(2, { ...rows[2]!, detail: "" })), 10],
    ["one is removed and the rest chained anew", (rows) => again(rows.toSpliced(2, 1)), 10],
  ])("breaks where %s", (_name, tamper, rev) => {
    const { rows, head } = chained(5);
    expect(verifyChain(tamper(rows), head)).toMatchObject({ kind: "broken", rev });
  });

  test("whose end was removed says so", () => {
    const { rows, head } = chained(5);
    expect(verifyChain(rows.slice(0, -1), head)).toMatchObject({
      message: expect.stringContaining("row 10 is missing, and with it all after 8"),
    });
  });

  test("whose head is gone breaks at the first row", () => {
    expect(verifyChain(chained(2).rows, null)).toMatchObject({ kind: "broken", rev: 2 });
  });

  test("breaks at the first row that is not as it was, whichever value of whichever row changes (I37)", () => {
    const { rows, head } = chained(6);
    fc.assert(
      fc.property(fc.nat({ max: 5 }), fc.constantFrom("actor", "verb", "object", "detail", "namespace"), fc.string(), (at, key, value) => {
        fc.pre(rows[at]![key] !== value);
        expect(verifyChain(rows.with(at, { ...rows[at]!, [key]: value }), head)).toMatchObject({ kind: "broken", rev: rows[at]!.rev });
      }),
    );
  });
});
