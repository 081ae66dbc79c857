import { describe, test } from "vitest";
import { KEY_ROWS } from "../../../shared/compose/keys.ts";
import { quickly, read, web } from "./project.ts";

/** Texts that make a careless pattern go over them again and again: long runs that almost match, and then do not. */
const LENGTH = 10_000;
const run = (part: string, end = "!"): string => part.repeat(Math.floor(LENGTH / part.length)) + end;
const TEXTS: readonly string[] = [
  run("a"),
  run("a."),
  run("a__"),
  run("a/"),
  run("0", ""),
  run("1:"),
  run("1m"),
  run("a="),
  run("[::"),
  run(" "),
  run("-"),
  run("\\", ""),
  run("'", "'"),
];

const SERVICE_KEYS = KEY_ROWS.filter((row) => /^services\.\*\.[a-z_]+$/.test(row.path)).map((row) => row.path.split(".")[2] ?? "");

describe("no value of any key takes long to refuse", () => {
  test.each(SERVICE_KEYS)("%s", (key) => {
    quickly(() => {
      for (const text of TEXTS) {
        const value = JSON.stringify(text);
        for (const form of [value, `[${value}]`, `{${value}: x}`])
          read(key === "image" ? `services: {web: {image: ${form}}}` : web(`${key}: ${form}`));
      }
    });
  });

  test("constraints, tolerations, names and durations", () => {
    quickly(() => {
      for (const text of TEXTS) {
        const value = JSON.stringify(text);
        read(web(`deploy: {placement: {constraints: [${value}], preferences: [{spread: ${value}}]}, update_config: {delay: ${value}}}`));
        read(web(`x-berth: {constraints: [${value}], tolerations: [${value}], spreadBy: [${value}], minHealthy: ${value}}`));
        read(web(`healthcheck: {test: [CMD, x], interval: ${value}}`, `logging: {driver: ${value}, options: {a: ${value}}}`));
        read(`name: ${value}\n${web()}\nvolumes: {${value}: {}}\nconfigs: {${value}: {content: x}}`);
      }
    });
  });
});
