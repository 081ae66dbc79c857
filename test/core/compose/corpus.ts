/** The corpus: Compose projects in the manner of public ones, and how each is read. Texts are berth's own. */
import { readdirSync } from "node:fs";

export const CORPUS = new URL("./corpus/", import.meta.url);
export const REFERENCE = new URL("./reference/", import.meta.url);
/** Where every project stands for both parsers, so that resolved paths agree. */
export const PROJECT_DIRECTORY = "/project";

export type CorpusCase = { name: string; files: string[]; env: Record<string, string>; profiles: string[] };

/** What differs from: compose.yaml with an override beside it, an empty environment, no profiles. */
const READ_AS: Readonly<Record<string, Partial<Omit<CorpusCase, "name">>>> = {
  "09-pihole": { env: { WEBPASSWORD: "hunter2" } },
  "13-override": { files: ["compose.yaml", "compose.override.yaml"] },
  "14-three-files": { files: ["base.yaml", "staging.yaml", "site.yaml"] },
  "16-interpolation": { env: { PORT: "9999" } },
  "32-environment": { env: { USER_INPUT: "typed" } },
  "34-profiles": { profiles: ["debug"] },
  "42-ghost-extends-chain": { env: { SITE_URL: "https://blog.example.com" } },
  "43-device-edge": { env: { SITE: "plant-7" } },
  "45-json": { files: ["compose.json"] },
  "48-multi-env": { env: { SHARED: "from-shell" } },
  "50-override-lists": { files: ["compose.yaml", "more.yaml"] },
};

export const CASES: readonly CorpusCase[] = readdirSync(CORPUS)
  .sort()
  .map((name) => ({ name, files: ["compose.yaml"], env: {}, profiles: [], ...READ_AS[name] }));
