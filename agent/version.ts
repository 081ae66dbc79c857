/** The bundler replaces both with the release's own. */
declare const BERTH_VERSION: string | undefined;
declare const BERTH_BUILD_WALL_MS: number | undefined;

export const AGENT_VERSION: string = typeof BERTH_VERSION === "string" ? BERTH_VERSION : "0.1.0-dev";
/** No machine that runs this can be earlier: a wall clock before it is wrong. */
export const BUILD_WALL_MS: number = typeof BERTH_BUILD_WALL_MS === "number" ? BERTH_BUILD_WALL_MS : 1_735_689_600_000;
