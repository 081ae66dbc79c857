/**
 * Makes `reference/*.json` anew: what docker-compose 1.29 (Debian's package docker-compose) says of every project of
 * the corpus. Run it by hand where that program is installed: node test/core/compose/make-references.ts
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { CASES, CORPUS, PROJECT_DIRECTORY, REFERENCE } from "./corpus.ts";

/**
 * YAML to JSON as docker-compose's own libraries read it, with command lines split as it splits them when it makes the
 * container (Python's shlex); `config` shows them whole.
 */
const TO_JSON = `
import json, shlex, sys, yaml
config = yaml.safe_load(sys.stdin)
for service in config["services"].values():
    for key in ("command", "entrypoint"):
        if isinstance(service.get(key), str):
            service[key] = shlex.split(service[key])
json.dump(config, sys.stdout, indent=2, ensure_ascii=False)
print()
`;

rmSync(REFERENCE, { recursive: true, force: true });
mkdirSync(REFERENCE);
for (const { name, files, env, profiles } of CASES) {
  const work = mkdtempSync(path.join(tmpdir(), "reference-"));
  const directory = path.join(work, "project");
  cpSync(fileURLToPath(new URL(`${name}/`, CORPUS)), directory, { recursive: true });
  const output = execFileSync("docker-compose", [...files.flatMap((file) => ["-f", file]), "config"], {
    cwd: directory,
    env: { PATH: process.env.PATH, HOME: "/root", ...env, COMPOSE_PROFILES: profiles.join(",") },
    encoding: "utf8",
  });
  rmSync(work, { recursive: true });
  const json = execFileSync("/usr/bin/python3", ["-c", TO_JSON], {
    input: output.replaceAll(directory, PROJECT_DIRECTORY),
    encoding: "utf8",
  });
  writeFileSync(new URL(`${name}.json`, REFERENCE), json);
}
