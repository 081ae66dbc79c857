/** Types of the API's resources that have only a schema there. Types alone: nothing of this is loaded at run time. */
import type { z } from "zod";
import type * as api from "../../shared/api/resources.ts";

export type Namespace = z.infer<typeof api.Namespace>;
export type Site = z.infer<typeof api.Site>;
export type JoinTokenInfo = z.infer<typeof api.JoinTokenInfo>;
export type JoinTokenCreate = z.input<typeof api.JoinTokenCreate>;
export type TokenInfo = z.infer<typeof api.TokenInfo>;
export type TokenCreate = z.input<typeof api.TokenCreate>;
export type TokenCreated = z.infer<typeof api.TokenCreated>;
export type RegistryInfo = z.infer<typeof api.RegistryInfo>;
export type AppDetail = z.infer<typeof api.AppDetail>;
export type Revision = z.infer<typeof api.Revision>;
export type NodePatch = z.input<typeof api.NodePatch>;
export type PlannedReplica = z.infer<typeof api.PlannedReplica>;
export type WhoAmI = z.infer<typeof api.WhoAmI>;
