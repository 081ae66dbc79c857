import { counted } from "../../../shared/text/counted.ts";
import { Removed, Site, SiteCreate, SitePatch } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, STAMP } from "../../stamp.ts";
import { NOW } from "../../store/commit-types.ts";
import { readSite, readSites, type SiteView } from "../../store/read-cluster.ts";
import { patchLabels } from "./labels.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Sites";
const toSite = ({ name, labels, nodes, createdMs }: SiteView) => ({ name, labels, nodes, created: isoTime(createdMs) });
const noSite = (name: string) => new BerthError("not_found", `there is no site ${name}`, { reason: "site" });

export const siteRoutes: readonly Route[] = [
  list({
    path: "/v1/sites",
    tag,
    summary: "Sites and how many nodes stand in each",
    role: "viewer",
    scope: "cluster",
    item: Site,
    load: async ({ context }) => {
      const { marks, sites } = await readSites(context.store);
      return { marks, items: sites.map(toSite) };
    },
  }),
  mutation({
    method: "post",
    path: "/v1/sites",
    tag,
    summary: "Make a site",
    role: "admin",
    scope: "cluster",
    body: SiteCreate,
    answer: Site,
    status: 201,
    verb: "create",
    draft: async ({ context, body: { name, labels } }) => {
      const { marks, site } = await readSite(context.store, name);
      if (site !== null) throw new BerthError("refused", `site ${name} exists already`, { reason: "exists" });
      return {
        marks,
        changes: [{ op: "insert", table: "sites", rows: [{ name, labels, createdMs: NOW }] }],
        audit: { namespace: null, object: `site/${name}`, detail: "" },
        answer: { name, labels, nodes: 0, created: STAMP.time },
      };
    },
  }),
  mutation({
    method: "patch",
    path: "/v1/sites/{site}",
    tag,
    summary: "Set or remove labels of a site",
    role: "admin",
    scope: "cluster",
    params: { site: Name },
    body: SitePatch,
    answer: Site,
    verb: "patch",
    draft: async ({ context, params, body }) => {
      const { marks, site } = await readSite(context.store, params.site);
      if (site === null) throw noSite(params.site);
      const { labels, words } = patchLabels(site.labels, body.labels);
      return {
        marks,
        guards: [{ table: "sites", key: { name: site.name }, rev: site.rev }],
        changes: words.length === 0 ? [] : [{ op: "update", table: "sites", rows: [{ name: site.name, labels }] }],
        audit: { namespace: null, object: `site/${site.name}`, detail: words.join(", ") },
        answer: toSite({ ...site, labels }),
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/sites/{site}",
    tag,
    summary: "Delete a site with no nodes, and the join tokens for it",
    role: "admin",
    scope: "cluster",
    params: { site: Name },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params }) => {
      const { marks, site, joinTokens } = await readSite(context.store, params.site);
      if (site === null) throw noSite(params.site);
      if (site.nodes > 0)
        throw new BerthError("refused", `site ${site.name} still has ${counted(site.nodes, "node")}; remove them first`, {
          reason: "notEmpty",
        });
      return {
        marks,
        guards: [
          { table: "sites", key: { name: site.name }, rev: site.rev },
          // Enrolling into it does not move its rev.
          { table: "nodes", none: { site: site.name } },
        ],
        changes: [
          { op: "delete", table: "sites", keys: [{ name: site.name }] },
          { op: "delete", table: "joinTokens", keys: [{ site: site.name }] },
        ],
        audit: { namespace: null, object: `site/${site.name}`, detail: counted(joinTokens.length, "join token") },
        answer: {
          removed: site.name,
          notes:
            joinTokens.length === 0 ? [] : [`${counted(joinTokens.length, "join token for it was", "join tokens for it were")} deleted`],
        },
      };
    },
  }),
];
