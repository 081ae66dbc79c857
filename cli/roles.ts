/** The API's roles, spelled again: importing them would load the whole schema library for `berth --help`. */
import type { Role } from "../shared/api/resources.ts";

export const ROLES = ["viewer", "deployer", "admin"] as const satisfies readonly Role[];
