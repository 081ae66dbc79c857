import { expect, test } from "vitest";
import { Workload } from "../../../shared/model/app.ts";

test("labels of containers are as proxies read them; berth's own and hostile ones are refused", () => {
  const accepts = (key: string) => Workload.safeParse({ image: "web:1", labels: { [key]: "x" } }).success;
  for (const key of ["traefik.http.routers.web.tls.domains[0].main", "com.example/a", "homepage.widget.fields"])
    expect([key, accepts(key)]).toEqual([key, true]);
  for (const key of ["", "berth.replica", "a=b", "a b", "a\nb", "constructor", "é"]) expect([key, accepts(key)]).toEqual([key, false]);
});
