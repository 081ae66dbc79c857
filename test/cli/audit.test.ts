import { CompactSign, importJWK } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import type { Client } from "../../cli/client/client.ts";
import { audit } from "../../cli/commands/audit.ts";
import { CliError } from "../../cli/exit.ts";
import { type AuditRow, CHAIN_START, chainRows } from "../../shared/audit/chain.ts";
import type { AuditEntry, AuditHead } from "../../shared/api/resources.ts";
import { JOSE_TYPES, type JoseType } from "../../shared/wire/jose.ts";
import { makeSigner, newEd25519, newKeyRing, publicHalf, signKeySet, thumbprint } from "../../worker/keys.ts";
import { random } from "../worker/agent/control-plane.ts";
import { answer, clientWith, recordingTerminal, shellOf } from "./terminal.ts";

interface Served {
  entries: readonly AuditEntry[];
  head: AuditHead | null;
  keySet: string;
}

/** A cluster's keys, and a log of five rows of which four are chained and signed. */
async function cluster() {
  const root = (await newEd25519()).jwk;
  const ring = await newKeyRing(random);
  const keys = ring.lease.map(({ kid, jwk }) => ({ kid, use: "lease" as const, jwk: publicHalf(jwk) }));
  const keySet = await signKeySet(root, { iss: "c-1", era: "e-1", version: 1, keys });
  const signer = await makeSigner(ring);
  const rows: AuditRow[] = Array.from({ length: 5 }, (_, i) => ({
    rev: 10 + i,
    atMs: Date.UTC(2026, 0, 1) + i,
    actor: "ann (t_1)",
    verb: "put",
    namespace: i === 0 ? null : "default",
    object: `app/shop-${i}`,
    detail: `\u001b[31mrevision ${i}`,
  }));
  const { hashes, head } = chainRows(CHAIN_START, rows.slice(0, 4));
  const entries = rows.map(({ atMs, ...row }, i) => ({ ...row, at: new Date(atMs).toISOString(), hash: hashes[i]?.hash ?? null }));
  const signHead = async (over: Record<string, unknown> = {}, typ: JoseType = JOSE_TYPES.auditHead) =>
    await signer.sign(typ, { iss: "c-1", era: "e-1", ...head, ...over });
  const served: Served = { entries, head: { ...head, signed: await signHead() }, keySet };
  const lease = await importJWK(ring.lease[0]!.jwk, "Ed25519");
  const signAs = (alg: string) =>
    new CompactSign(Buffer.from(JSON.stringify({ iss: "c-1", era: "e-1", ...head })))
      .setProtectedHeader({ alg, typ: JOSE_TYPES.auditHead, kid: ring.lease[0]!.kid })
      .sign(lease);
  return { root: await thumbprint(root), served, signHead, signAs };
}

let own: Awaited<ReturnType<typeof cluster>>;
let other: typeof own;
beforeAll(async () => {
  own = await cluster();
  other = await cluster();
});

/** `berth audit` against what is served, two rows a page. */
async function run(
  over: Partial<Served> | ((request: number) => Partial<Served>),
  options: { verify: boolean; pinned?: string | null; output?: "json" },
) {
  const { client } = clientWith(({ path }, count) => {
    const served = { ...own.served, ...(typeof over === "function" ? over(count) : over) };
    const url = new URL(path, "https://berth.test");
    if (url.pathname === "/agent/v1/keys") return answer(200, { keySet: served.keySet, serverNonce: "n" });
    const after = url.searchParams.get("after");
    const items = after === null ? served.entries : served.entries.filter(({ rev }) => rev > Number(after)).slice(0, 2);
    return answer(200, { rev: 14, watch: "14.0", items, head: served.head });
  });
  const terminal = recordingTerminal();
  const shell = withPin(client, options.pinned === undefined ? own.root : options.pinned);
  try {
    await audit({ ...shell, terminal, output: options.output ?? "table" }, options);
    return { text: terminal.text(), error: null };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return { text: terminal.text(), error };
  }
}
const withPin = (client: Client, root: string | null) => {
  const shell = shellOf({ client });
  return { ...shell, target: () => ({ ...shell.target(), pins: { root, spki: null } }) };
};
const changed = (at: number, over: Partial<AuditEntry>) => own.served.entries.with(at, { ...own.served.entries[at]!, ...over });

describe("berth audit", () => {
  test("shows who changed what, and what is chained", async () => {
    const { text } = await run({}, { verify: false });
    const lines = text.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^REV +AGE +ACTOR +VERB +NAMESPACE +OBJECT +HASH +DETAIL$/);
    expect(lines[1]).toMatch(/^ *10 +\S+ +ann \(t_1\) +put +- +app\/shop-0 +[0-9a-f]{12} +\\x1b\[31mrevision 0$/);
    expect(lines[5]).toContain("not yet");
    expect(JSON.parse((await run({}, { verify: false, output: "json" })).text)).toMatchObject({
      head: { rev: 13, rows: 4 },
      items: own.served.entries,
    });
    expect((await run({ entries: [], head: null }, { verify: false })).text).toBe("nothing has been changed yet\n");
  });

  test("--verify says that it is unbroken, by which key, and what waits", async () => {
    const { text, error } = await run({}, { verify: true });
    expect(error).toBeNull();
    expect(text).toBe(
      `unbroken: 4 rows up to rev 13, head ${own.served.head!.hash}\n1 newer row waits to be chained, which takes a few seconds\nsigned under the root key that this context pins\n`,
    );
    expect(JSON.parse((await run({}, { verify: true, output: "json" })).text)).toEqual({
      kind: "intact",
      rows: 4,
      waiting: 1,
      head: { rev: 13, hash: own.served.head!.hash },
      root: own.root,
      rootPinned: true,
    });
    expect((await run({}, { verify: true, pinned: null })).text).toContain(`root key ${own.root}, which nothing here pins`);
    expect((await run({ entries: [], head: null }, { verify: true })).text).toContain("unbroken: 0 rows\n");
  });

  test.each<[string, () => Partial<Served>, RegExp]>([
    [
      "a row was changed",
      () => ({ entries: changed(1, { actor: "bob" }) }),
      /^the audit log is broken at row 11: row 11 was changed, or rows between 10/,
    ],
    [
      "a row was removed",
      () => ({ entries: own.served.entries.toSpliced(1, 1) }),
      /broken at row 12: row 12 was changed, or rows between 10 and it were removed$/,
    ],
    ["its end was removed", () => ({ entries: own.served.entries.slice(0, 3) }), /broken at row 13: row 13 is missing/],
    [
      "the head was changed",
      () => ({ head: { ...own.served.head!, hash: "0".repeat(64) } }),
      /^the head of the audit log was changed: row 13/,
    ],
    ["the head was taken away", () => ({ head: null }), /broken at row 10/],
    ["the head is another cluster's", () => ({ head: other.served.head }), /its key is not in key set 1$/],
    [
      "the key set is another cluster's",
      () => ({ keySet: other.served.keySet }),
      /^the key set is not what this cluster signed: its root key/,
    ],
    ["the head is no signature", () => ({ head: { ...own.served.head!, signed: "x" } }), /is not a signed object$/],
  ])("--verify fails where %s", async (_name, served, message) => {
    const { error, text } = await run(served(), { verify: true });
    expect(error?.message).toMatch(message);
    expect([error?.exitCode, text]).toEqual([1, ""]);
  });

  test("--verify takes no head that was signed for something else, for another cluster, or changed after", async () => {
    const signed = own.served.head!.signed.split(".");
    const forged = [
      await own.signHead({}, JOSE_TYPES.manifest),
      await own.signAs("EdDSA"),
      await own.signHead({ iss: "c-2" }),
      await own.signHead({ rows: 3 }),
      [signed[0], Buffer.from(JSON.stringify({ iss: "c-1", ...own.served.head })).toString("base64url"), signed[2]].join("."),
      [Buffer.from('{"alg":"none","typ":"berth-audit-head+jwt"}').toString("base64url"), signed[1], ""].join("."),
    ];
    expect((await run({ head: { ...own.served.head!, signed: await own.signAs("Ed25519") } }, { verify: true })).error).toBeNull();
    for (const head of forged) expect((await run({ head: { ...own.served.head!, signed: head } }, { verify: true })).error).not.toBeNull();
  });

  test("--verify is not confused by a tick that comes between two pages", async () => {
    const { served } = own;
    const entries: AuditEntry[] = served.entries.map((entry) => ({ ...entry, hash: null }));
    const before = { head: null, entries };
    expect(await run((request) => (request === 1 ? before : {}), { verify: true })).toMatchObject({
      error: null,
      text: expect.stringContaining("unbroken: 4 rows"),
    });
    // With a head already: the rows of its first page are not yet chained to the one that the next page has.
    const { hashes, head } = chainRows(
      CHAIN_START,
      served.entries.slice(0, 1).map(({ at, ...entry }) => ({ ...entry, atMs: Date.parse(at) })),
    );
    const first = {
      head: { ...head, signed: await own.signHead({ ...head }) },
      entries: entries.with(0, { ...served.entries[0]!, hash: hashes[0]!.hash }),
    };
    expect(await run((request) => (request === 1 ? first : {}), { verify: true })).toMatchObject({
      error: null,
      text: expect.stringContaining("unbroken: 1 row "),
    });
  });

  test("--verify takes no key set whose root key did not sign it", async () => {
    const [, payload, signature] = other.served.keySet.split(".");
    const [header] = own.served.keySet.split(".");
    const { error } = await run({ ...other.served, keySet: [header, payload, signature].join(".") }, { verify: true });
    expect(error?.message).toContain("the signature does not verify");
  });
});
