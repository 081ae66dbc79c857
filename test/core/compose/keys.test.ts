import { describe, expect, test } from "vitest";
import { KEY_STATUSES } from "../../../shared/compose/key-row.ts";
import { KEY_ROWS } from "../../../shared/compose/keys.ts";
import published from "./compose-spec-keys.json" with { type: "json" };

type Shape = null | string | readonly Shape[] | { readonly [key: string]: Shape };

/** Every key path of the published schema, in the notation of the rows. */
function pathsOf(shape: Shape, path: string): string[] {
  if (shape === null) return [];
  if (typeof shape === "string") {
    const definition: Shape | undefined = (published.definitions as { [name: string]: Shape })[shape.slice(1)];
    if (definition === undefined) throw new Error(`no definition ${shape}`);
    return pathsOf(definition, path);
  }
  if (Array.isArray(shape)) return shape.flatMap((item: Shape) => pathsOf(item, `${path}[]`));
  return Object.entries(shape).flatMap(([key, below]) => {
    const here = path === "" ? key : `${path}.${key}`;
    return [here, ...pathsOf(below, here)];
  });
}

const PUBLISHED = pathsOf(published.root, "");
const ROWS = new Map(KEY_ROWS.map((row) => [row.path, row]));

describe("the key table against the published schema", () => {
  test("the published schema has the paths that this test is about", () => {
    expect(PUBLISHED.length).toBeGreaterThan(300);
    for (const path of [
      "services.*.ports[].app_protocol",
      "services.*.deploy.resources.reservations.devices[].count",
      "networks.*.ipam.config[].subnet",
    ]) {
      expect(PUBLISHED).toContain(path);
    }
  });

  test("every published key path has a row", () => {
    expect(PUBLISHED.filter((path) => !ROWS.has(path))).toEqual([]);
  });

  test("every row is a published key path, or the item of a published list", () => {
    const known = new Set(PUBLISHED);
    expect(
      KEY_ROWS.map((row) => row.path).filter((path) => !known.has(path) && !(path.endsWith("[]") && known.has(path.slice(0, -2)))),
    ).toEqual([]);
  });

  test("no path has two rows", () => {
    expect(KEY_ROWS.length).toBe(ROWS.size);
  });

  test("every row says what happens, and a refusal what to do instead", () => {
    const silent = KEY_ROWS.filter((row) => row.note.length < 4 || (row.mend === "") === (row.status === "refused"));
    expect(silent.map((row) => row.path)).toEqual([]);
    expect(new Set(KEY_ROWS.map((row) => row.status))).toEqual(new Set(KEY_STATUSES));
  });

  test("an approximated key says what happens instead, or that it has no effect", () => {
    const approximated = KEY_ROWS.filter((row) => row.status === "approximated");
    expect(approximated.length).toBeGreaterThan(20);
    expect(approximated.filter((row) => /^No effect$/.test(row.note) || row.note.split(" ").length < 4).map((row) => row.path)).toEqual([]);
  });
});
