import { LibsqlError } from "@libsql/client";
import { DrizzleQueryError } from "drizzle-orm";
import { expect, test } from "vitest";
import { errorText } from "../../worker/error-text.ts";

test("a failed query says why it failed, and nothing of what was bound to it", () => {
  const cause = new LibsqlError("database is locked", "SQLITE_BUSY", "SQLITE_BUSY", 5);
  expect(errorText(new DrizzleQueryError("select 1 from tokens where hash = ?", ["s3cret"], cause))).toBe(
    "Failed query: select 1 from tokens where hash = ?; because: SQLITE_BUSY: database is locked",
  );
});

test("fetch's own words with those of its cause", () => {
  const cause = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:5000"), { code: "ECONNREFUSED" });
  expect(errorText(new TypeError("fetch failed", { cause }))).toBe("fetch failed; because: connect ECONNREFUSED 127.0.0.1:5000");
});

test("what nobody foresaw comes with its place", () => {
  expect(errorText(new TypeError("x is not a function"))).toMatch(/^TypeError: x is not a function\n\s+at .*error-text\.test\.ts/);
});

test("causes that go round end, and what is no error is said as it is", () => {
  const round = new Error("a");
  round.cause = round;
  expect(errorText(round)).toBe("a; because: a; because: a; because: a; because: a");
  expect(errorText("gone")).toBe("gone");
});
