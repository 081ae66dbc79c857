import { compactVerify, decodeJwt, importJWK } from "jose";
import { describe, expect, test } from "vitest";
import { verifyChain } from "../../../shared/audit/chain.ts";
import type { AuditEntry, AuditHead } from "../../../shared/api/resources.ts";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import type { KeySet } from "../../../shared/wire/keys.ts";
import { until } from "../agent/control-plane.ts";
import { type List, World } from "./world.ts";

type Log = List<AuditEntry> & { readonly head: AuditHead | null };
const AUDIT = "/v1/audit";
const rowsOf = ({ items }: Log) => items.map(({ at, ...entry }) => ({ ...entry, atMs: Date.parse(at) }));
const read = async (world: World, query = "") => (await world.get<Log>(`${AUDIT}${query}`)).body;

/** Time passes until every row is chained; signing is done on another thread. */
async function ticked(world: World): Promise<void> {
  await world.plane.clock.advance(3_000);
  await until("the audit log is chained", async () => (await read(world)).items.every(({ hash }) => hash !== null));
}

describe("the audit log", () => {
  test("has a row for each mutation, and says who", async () => {
    const world = await World.start();
    await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
    await world.call("POST", "/v1/sites?dryRun=true", { body: { name: "paris" } });
    await world.call("DELETE", "/v1/sites/berlin");
    const { items, head } = await read(world);
    expect(items).toMatchObject([
      { verb: "create", object: "site/berlin", actor: expect.stringMatching(/^admin\S* \(t_[a-z2-7]+\)$/), namespace: null, hash: null },
      { verb: "delete", object: "site/berlin" },
    ]);
    expect(head).toBeNull();
  });

  test("is chained within seconds, and its head signed under the lease key; then nothing more is written", async () => {
    const world = await World.start();
    await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
    await ticked(world);
    await world.call("POST", "/v1/sites", { body: { name: "paris" } });
    await ticked(world);
    const log = await read(world, "?after=0");
    expect(verifyChain(rowsOf(log), log.head)).toEqual({ kind: "intact", rows: 2, waiting: 0 });

    const { keySet } = world.context.shard.cluster;
    const [lease] = decodeJwt<KeySet>(keySet).keys;
    const { payload, protectedHeader } = await compactVerify(log.head!.signed, await importJWK(lease!.jwk, "Ed25519"));
    const { clusterId, era } = world.context.shard.cluster;
    expect(protectedHeader).toEqual({ alg: "Ed25519", typ: JOSE_TYPES.auditHead, kid: lease!.kid });
    const { rev, rows, hash } = log.head!;
    expect(JSON.parse(new TextDecoder().decode(payload))).toEqual({ iss: clusterId, era, rev, rows, hash });

    const before = await world.dump();
    await world.plane.clock.advance(600_000);
    expect(await world.dump()).toBe(before);
  });

  test("is chained by the next process too, when the one before ended first", async () => {
    const world = await World.start();
    await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
    const plane = await world.plane.restart();
    await plane.clock.advance(3_000);
    await until("chained", async () => (await read(world)).head !== null);
    await plane.context.shard.stop();
  });

  test("is chained once the database takes writes again", async () => {
    const world = await World.start();
    await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
    const { database } = world.context.store;
    const write = database.write.bind(database);
    database.write = async () => {
      throw new Error("SQLITE_BUSY: database is locked");
    };
    await world.plane.clock.advance(3_000);
    await until("the tick failed", () => world.plane.log.lines.some(({ message }) => message.includes("tick")));
    database.write = write;
    await ticked(world);
    expect((await read(world)).head).not.toBeNull();
  });

  test("names the row that was changed in the database, and the one after a row that was removed", async () => {
    const world = await World.start();
    for (const name of ["a", "b", "c"]) await world.call("POST", "/v1/sites", { body: { name } });
    await ticked(world);
    const [first, second, third] = (await read(world)).items.map(({ rev }) => rev);
    const verdict = async () => {
      const log = await read(world, "?after=0");
      return verifyChain(rowsOf(log), log.head);
    };
    const { database } = world.context.store;
    await database.write([`update audit set actor = 'somebody else' where rev = ${second}`]);
    expect(await verdict()).toMatchObject({ kind: "broken", rev: second });
    await database.write([`delete from audit where rev = ${second}`]);
    expect(await verdict()).toMatchObject({ kind: "broken", rev: third, message: expect.stringContaining(`between ${first} and it`) });
  });

  test("comes in pages", async () => {
    const world = await World.start();
    for (const name of ["a", "b", "c"]) await world.call("POST", "/v1/sites", { body: { name } });
    const { items } = await read(world);
    expect((await read(world, `?after=${items[0]!.rev}`)).items).toEqual(items.slice(1));
    expect((await world.get(`${AUDIT}?after=-1`)).status).toBe(400);
  });
});
