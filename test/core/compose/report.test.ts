// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import { describe, expect, test } from "vitest";
import { accepted, read, refusedWith, shown, web } from "./project.ts";

describe("the report", () => {
  test("has one line for each key used, with its place and what happens", () => {
    const { report } = accepted(
      web("attach: false", "x-note: hi", "ports: ['80:80']", "deploy: {replicas: 2, labels: {a: b}}", "environment: {A: 1}"),
    );
    expect(report.map((line) => `${line.line}:${line.column} ${line.status} ${line.path}`)).toEqual([
      "3:5 applied services.web.image",
      "4:5 approximated services.web.attach",
      "5:5 applied services.web.x-note",
      "6:5 applied services.web.ports",
      "7:14 applied services.web.deploy.replicas",
      "7:27 approximated services.web.deploy.labels",
      "8:5 applied services.web.environment",
    ]);
    expect(report.find((line) => line.path === "services.web.attach")?.note).toMatch(/^No effect/);
  });

  test("tells refused keys too, whether by the table or by their value", () => {
    const result = read(web("user: u", "secrets: [s]", "network_mode: bridge", "build: ."));
    expect(result.report.map((line) => `${line.status} ${line.path}`)).toEqual([
      "applied services.web.image",
      "applied services.web.user",
      "refused services.web.secrets",
      "refused services.web.network_mode",
      "refused services.web.build",
    ]);
  });

  test("a custom network is refused at every place that names it", () => {
    const result = read(`${web("networks: [back, default]")}\nnetworks: {back: {}}`);
    expect(result.report.filter((line) => line.path.includes("networks")).map((line) => `${line.status} ${line.path}`)).toEqual([
      "refused services.web.networks.back",
      "applied services.web.networks.default",
      "refused networks.back",
    ]);
  });

  test("a line names the file its key came from", () => {
    const { report } = accepted([web("user: a"), "services: {web: {hostname: h}}"]);
    expect(Object.fromEntries(report.map((line) => [line.path, line.file.split("/").at(-1)]))).toMatchObject({
      "services.web.user": "compose.yaml",
      "services.web.hostname": "override-1.yaml",
    });
  });

  test("a service left out by its profile has no lines", () => {
    const { report } = accepted("services: {web: {image: x}, idle: {image: x, profiles: [p]}}");
    expect(report.filter((line) => line.path.startsWith("services.idle"))).toEqual([]);
  });

  test.each([
    ["a volume without a name", web("volumes: [/data]"), "services.web.volumes[0]", "web-data"],
    ["a file sent along", web("volumes: ['./f:/f']"), "services.web.volumes[0]", "versioned config"],
    [
      "node.role==worker",
      web("deploy: {placement: {constraints: [node.role==worker]}}"),
      "services.web.deploy.placement.constraints[0]",
      "No effect",
    ],
    [
      "node.platform.os==linux",
      web("deploy: {placement: {constraints: [node.platform.os == linux]}}"),
      "services.web.deploy.placement.constraints[0]",
      "runs Linux",
    ],
    ["relabelling", web("volumes: ['/a:/b:z']"), "services.web.volumes[0]", "SELinux"],
    ["a container name that can be no DNS name", web("container_name: 'a b!'"), "services.web.container_name", "No effect"],
    ["a platform's variant", web("platform: linux/amd64/v2"), "services.web.platform", "no effect on placement"],
    ["logging options without a driver", web("logging: {options: {max-size: 1m}}"), "services.web.logging.options", "json-file"],
    ["a volume's name made fit", `${web()}\nvolumes: {Data_: }`, "volumes.Data_", "Called data"],
  ])("%s is told as approximated", (_, compose, path, word) => {
    const { report } = accepted(compose, { disk: { f: "x" } });
    expect(report.find((line) => line.path === path)).toMatchObject({ status: "approximated", note: expect.stringContaining(word) });
  });
});

describe("the project's name", () => {
  const name = (compose: string, project: Parameters<typeof accepted>[1] = {}): string => accepted(compose, project).app.name;

  test.each([
    ["-p wins over all", "name: key\n", { projectName: "flag", env: { COMPOSE_PROJECT_NAME: "env" } }, "flag"],
    ["then the environment", "name: key\n", { env: { COMPOSE_PROJECT_NAME: "env" } }, "env"],
    ["then the key, interpolated", "name: ${N}-app\n", { env: { N: "my" } }, "my-app"],
    ["then the directory", "", {}, "shop"],
    ["the directory is made fit", "", { files: ["/srv/_My Shop.v2-/compose.yaml"] }, "myshopv2"],
    ["--project-directory counts", "", { projectDirectory: "/srv/other" }, "other"],
  ])("%s", (_, head, project, expected) => {
    expect(name(head + web(), project)).toBe(expected);
  });

  test.each([
    ["a flag that is none", { projectName: "My App" }, "wrong_value name"],
    ["a variable that is none", { env: { COMPOSE_PROJECT_NAME: "-x-" } }, "wrong_value name"],
    ["a directory that gives none", { files: ["/compose.yaml"] }, "name_missing name"],
    ["a directory of other letters", { files: ["/проект/compose.yaml"] }, "name_missing name"],
  ])("%s is an error", (_, project, expected) => {
    expect(refusedWith(web(), project).map((error) => `${error.code} ${error.path}`)).toEqual([expected]);
  });

  test.each([
    ["of the key", "name: my-${X}\n", { env: { X: "shop" } }, "my-shop-db"],
    ["of -p", "name: other\n", { projectName: "flag" }, "flag-db"],
    ["of the directory", "", {}, "shop-db"],
    ["of the environment", "", { env: { COMPOSE_PROJECT_NAME: "env" } }, "env-db"],
  ])("files may use COMPOSE_PROJECT_NAME: %s", (_, head, project, expected) => {
    const { app, warnings } = accepted(head + web("hostname: ${COMPOSE_PROJECT_NAME}-db"), project);
    expect(app.services.web?.workload.hostname).toBe(expected);
    expect(warnings).toEqual([]);
  });

  test("a later file's name wins", () => {
    expect(accepted([`name: one\n${web()}`, "name: two"]).app.name).toBe("two");
  });
});

test("a refused value of environment is not repeated in the message", () => {
  const [error] = refusedWith(web("environment: {PASSWORD: hunter2}").replace("hunter2", `hunter2${"x".repeat(140_000)}`));
  expect(error?.path).toBe("services.web.environment.PASSWORD");
  expect(JSON.stringify(error)).not.toContain("hunter2");
});

describe("relative paths", () => {
  test("of an override file start from the first file's directory", () => {
    const disk = { "a.env": "A=root" };
    expect(
      accepted([web(), "services: {web: {env_file: a.env}}"], { disk, files: ["compose.yaml", "deep/override.yaml"] }).app.services.web
        ?.workload.env,
    ).toEqual({ A: "root" });
  });

  test("an error's place is the file where it was written", () => {
    expect(
      refusedWith([web(), "services: {web: {env_file: no.env}}"], { files: ["compose.yaml", "deep/override.yaml"] }).map(shown),
    ).toEqual(["deep/override.yaml:1:28 file_missing services.web.env_file[0]"]);
  });
});
