/** `docs/compose.md`, made from the key table and the x-berth schema, so that the page cannot say what the code does not do. */
import { DEPLOY_ROWS } from "./keys-deploy.ts";
import { PROJECT_ROWS } from "./keys-project.ts";
import { DEVELOP_ROWS, SERVICE_ROWS } from "./keys-service.ts";
import type { KeyRow } from "./key-row.ts";
import { xBerthJsonSchema } from "./x-berth.ts";
import { DEPTH_MAX, FILE_CHARS_MAX, VALUES_MAX } from "./yaml.ts";

export function composeDocument(): string {
  const rows = [...PROJECT_ROWS, ...SERVICE_ROWS, ...DEPLOY_ROWS, ...DEVELOP_ROWS];
  const parts = [
    "# Compose files",
    "<!-- Generated: node docs/generate-compose.ts. Change shared/compose instead. -->",
    INTRODUCTION,
    `Of the ${rows.length} key paths below, ${counted(rows, "applied")} are applied, ${counted(rows, "approximated")} approximated and ${counted(rows, "refused")} refused. An unknown key is an error with its line and column; keys that begin with \`x-\` are kept for anchors and otherwise ignored, except \`x-berth\`.`,
    section("The file", PROJECT_ROWS),
    section("Services", SERVICE_ROWS),
    section("deploy", DEPLOY_ROWS),
    section("develop", DEVELOP_ROWS),
    extension(),
  ];
  return `${parts.join("\n\n")}\n`;
}

const counted = (rows: readonly KeyRow[], status: KeyRow["status"]): number => rows.filter((row) => row.status === status).length;

const INTRODUCTION = `\`berth deploy\` reads a project as Docker Compose does, by the current Compose Specification, and tells for every key what it does with it: **applied**, **approximated** (with what happens instead) or **refused** (with what to do about it). Nothing is accepted and left out in silence. All errors of a project come in one run, each with file, line and column.

## How a project is read

- **Files**: \`-f\` (several are merged in order, \`-\` is standard input), else \`COMPOSE_FILE\`, else \`compose.yaml\`, \`compose.yml\`, \`docker-compose.yaml\` or \`docker-compose.yml\` with its override file, in this directory or the nearest above it.
- **Variables**: \`$VAR\`, \`\${VAR}\`, \`\${VAR:-default}\`, \`\${VAR-default}\`, \`\${VAR:?message}\`, \`\${VAR?message}\`, \`\${VAR:+other}\`, \`\${VAR+other}\`, nested, and \`$$\` for a dollar sign. The environment wins over \`--env-file\` (else \`COMPOSE_ENV_FILES\`, else \`.env\` beside the first file). A variable that is not set and has no default is the empty string, with a warning.
- **Merging**: mappings merge, lists are appended, \`command\`, \`entrypoint\` and \`healthcheck.test\` are replaced; \`ports\`, \`volumes\`, \`configs\`, \`devices\` and \`env_file\` have one entry for each port, place or file. \`!reset\` takes away what earlier files said, \`!override\` replaces it.
- **Name**: \`-p\`, else \`COMPOSE_PROJECT_NAME\`, else \`name:\`, else the name of the directory in lower case with only letters, digits, \`-\` and \`_\`.
- **Profiles**: \`--profile\` or \`COMPOSE_PROFILES\`; \`*\` chooses all.
- **Relative paths** start from the directory of the first file; in an included or extended file, from its own.
- **Limits**: a file has at most ${FILE_CHARS_MAX} characters and ${VALUES_MAX} values with its aliases expanded, nested at most ${DEPTH_MAX} deep.`;

function section(title: string, rows: readonly KeyRow[]): string {
  const lines = rows.map(
    (row) =>
      `| \`${row.path}\` | ${row.status} | ${cell(row.status === "refused" ? `${capital(row.note)}. Instead: ${row.mend}.` : row.note)} |`,
  );
  return [`## ${title}`, "", "| key | berth | what happens |", "| --- | --- | --- |", ...lines].join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ").replaceAll("<", "&lt;").replaceAll("*", "\\*");
/** The product's name stays lower-case, also at the beginning of a sentence. */
const capital = (text: string): string => (text.startsWith("berth") ? text : text.replace(/^./, (letter) => letter.toUpperCase()));

type Described = { description?: string; properties?: { [key: string]: { description?: string } } };

function extension(): string {
  const schema = xBerthJsonSchema();
  const { properties = {} } = schema as Described;
  return [
    "## x-berth",
    "",
    "What Compose has no word for. It stands on a service, or at the top of the file for every service: conditions and tolerations add up, of the rest the service's word wins. Unknown words in it are errors.",
    "",
    "| key | meaning |",
    "| --- | --- |",
    ...Object.entries(properties).map(([key, { description = "" }]) => `| \`${key}\` | ${cell(description)} |`),
    "",
    "```yaml",
    EXAMPLE,
    "```",
    "",
    "A condition may also be an object: `{key: node.site, operator: in, values: [berlin, hamburg]}`. The schema, as JSON Schema:",
    "",
    "```json",
    JSON.stringify(schema, null, 2),
    "```",
  ].join("\n");
}

const EXAMPLE = `x-berth:
  tolerations: [edge]
services:
  sensor:
    image: registry.example.com/plant/sensor:2
    deploy: {mode: global}
    x-berth:
      constraints:
        - site.labels.kind = plant
        - node.labels.ram > 3.5
        - node.site in berlin, hamburg
        - node.labels.maintenance notExists
  api:
    image: registry.example.com/plant/api:2
    deploy: {replicas: 4}
    x-berth:
      spreadBy: [node.site]
      strategy: binpack
      order: start-first
      minHealthy: 30s
      healthyDeadline: 3m`;
