/** A control plane as an operator meets it: the whole app over a real store, with tokens of every kind and two tenants. */
import type { Hono } from "hono";
import { onTestFinished } from "vitest";
import type { AppSpecInput } from "../../../shared/model/app.ts";
import type { DeployAnswer, ErrorBody, Role } from "../../../shared/api/resources.ts";
import { createApp } from "../../../worker/app.ts";
import { hashToken, newToken } from "../../../worker/auth.ts";
import type { Context } from "../../../worker/context.ts";
import { newId } from "../../../worker/new-id.ts";
import type { Registry } from "../../../worker/ports.ts";
import { makePlanning } from "../../../worker/shard/planning.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { id, nodeRow } from "../../store/rows.ts";
import { ControlPlane, type ControlPlaneOptions, random } from "../agent/control-plane.ts";

export interface Answer<Body = ErrorBody> {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Body;
}

export interface List<Item> {
  readonly rev: number;
  readonly watch: string;
  readonly items: readonly Item[];
}

export interface Ask {
  readonly token?: string | null;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface WorldOptions extends Omit<ControlPlaneOptions, "planning"> {
  readonly registry?: Registry;
  /** Plan for real; without it nothing moves but what a test writes. */
  readonly plans?: boolean;
}

export const OTHER = "tenant-b";

export class World {
  readonly plane: ControlPlane;
  readonly context: Context;
  readonly app: Hono;
  /** Admin of all namespaces. */
  readonly admin: string;

  private constructor(plane: ControlPlane, context: Context, admin: string) {
    this.plane = plane;
    this.context = context;
    this.app = createApp(context);
    this.admin = admin;
  }

  /** Namespaces `default` and `tenant-b`, no nodes. */
  static async start({ registry, plans = false, ...options }: WorldOptions = {}): Promise<World> {
    const planning: ControlPlaneOptions["planning"] = ({ store, snapshots }) =>
      makePlanning({ store, snapshots, rollBack: async () => {} });
    const plane = await ControlPlane.start({ ...options, ...(plans ? { planning } : {}) });
    onTestFinished(() => plane.stop());
    const context = registry === undefined ? plane.context : { ...plane.context, registry };
    await plane.commit({ changes: [{ op: "insert", table: "namespaces", rows: [{ name: OTHER, createdMs: NOW }] }] });
    await plane.context.shard.refresh();
    return new World(plane, context, await storeToken(plane, "admin", null));
  }

  token(role: Role, namespace: string | null, expiresMs: number | null = null): Promise<string> {
    return storeToken(this.plane, role, namespace, expiresMs);
  }

  /** Without a type the answer is taken for a refusal. */
  async call<Body = ErrorBody>(method: string, path: string, { token = this.admin, body, headers = {} }: Ask = {}): Promise<Answer<Body>> {
    const response = await this.app.request(path, {
      method,
      headers: { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson =
      response.headers.get("content-type")?.includes("json") === true && !response.headers.get("content-type")?.includes("x-ndjson");
    return { status: response.status, headers: response.headers, text, body: (isJson && text !== "" ? JSON.parse(text) : null) as Body };
  }

  get<Body = ErrorBody>(path: string, ask?: Ask): Promise<Answer<Body>> {
    return this.call<Body>("GET", path, ask);
  }

  /** Deploys and expects it to be taken. */
  async deploy(
    spec: AppSpecInput,
    { namespace = "default", token = this.admin }: { namespace?: string; token?: string } = {},
  ): Promise<Answer<DeployAnswer>> {
    const answer = await this.call<DeployAnswer>("PUT", `/v1/namespaces/${namespace}/apps/${spec.name}`, { token, body: { spec } });
    if (answer.status !== 200) throw new Error(`deploying ${spec.name}: ${answer.status} ${answer.text}`);
    return answer;
  }

  /** Admitted, reported and ready, with 4 CPUs and 8 GiB. */
  async node(number: number, over: Parameters<typeof nodeRow>[1] = {}): Promise<string> {
    const row = nodeRow(number, over);
    await this.plane.commit({
      changes: [
        { op: "insert", table: "nodes", rows: [row] },
        {
          op: "insert",
          table: "nodeReports",
          rows: [
            {
              nodeId: row.id,
              session: row.session as number,
              seq: 1,
              generation: 0,
              complete: true,
              engineReachable: true,
              engineMessage: "",
              asOfMs: 1,
              mark: 0,
            },
          ],
        },
      ],
    });
    await this.context.shard.refresh();
    return row.id;
  }

  async rev(): Promise<number> {
    return (await this.context.store.marks()).rev;
  }

  /** Every row of every table, as text. */
  async dump(): Promise<string> {
    const { results } = await this.context.store.readRaw([
      "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name",
    ]);
    const names = results[0]!.rows.map((row) => String(row[0]));
    const tables = await this.context.store.readRaw(names.map((name) => `select * from "${name}"`));
    return JSON.stringify(names.map((name, i) => [name, tables.results[i]!.rows.map((row) => Object.values(row))]));
  }
}

async function storeToken(plane: ControlPlane, role: Role, namespace: string | null, expiresMs: number | null = null): Promise<string> {
  const token = newToken(random);
  const rowId = newId(random, "t");
  await plane.commit({
    changes: [
      {
        op: "insert",
        table: "tokens",
        rows: [{ id: rowId, hash: hashToken(token), name: `${role}-of-${namespace ?? "all"}`, role, namespace, createdMs: NOW, expiresMs }],
      },
    ],
  });
  await plane.context.shard.refresh();
  return token;
}

/** One service `web`; pass services to have others. */
export const appSpec = (name: string, over: Partial<AppSpecInput> = {}): AppSpecInput => ({
  name,
  services: { web: { workload: { image: "registry.test/web:1" } } },
  ...over,
});

export { id };
