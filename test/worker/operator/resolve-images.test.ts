/** How many registries a deploy asks at once, and for how long. */
import { expect, test } from "vitest";
import type { RegistryAsk } from "../../../worker/ports.ts";
import { resolveImages } from "../../../worker/resolve-images.ts";
import { World } from "./world.ts";

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const references = new Map(Array.from({ length: 500 }, (_, n) => [`r${n}.test/app:1`, { mayPull: true }]));

test("eight at a time, until all have answered", async () => {
  const { context } = await World.start();
  let [now, most] = [0, 0];
  const resolve = async () => {
    most = Math.max(most, ++now);
    await new Promise((answer) => setImmediate(answer));
    now--;
    return { digest: digest("a") };
  };
  const images = await resolveImages({ ...context, registry: { resolve } }, { references, previous: new Map(), registries: [] });
  expect(most).toBe(8);
  expect([...images.keys()]).toEqual([...references.keys()]);
  expect([...images.values()].every((image) => image.digest === digest("a"))).toBe(true);
});

test("those that have not answered after 3 s are asked no longer, and no others are asked", async () => {
  const world = await World.start();
  const signals: AbortSignal[] = [];
  const answers: (() => void)[] = [];
  const resolve = async (reference: string, { signal }: RegistryAsk) => {
    signals.push(signal);
    if (reference === "r0.test/app:1") return { digest: digest("a") };
    await new Promise<void>((answer) => answers.push(answer));
    return { digest: digest("b") };
  };
  const previous = new Map([...references.keys()].map((reference) => [reference, { digest: digest("c"), imageId: null }]));
  const resolving = resolveImages({ ...world.context, registry: { resolve } }, { references, previous, registries: [] });
  await world.plane.clock.advance(2_900);
  expect(signals.map(({ aborted }) => aborted)).toEqual(Array(9).fill(false));
  await world.plane.clock.advance(200);
  const images = await resolving;
  expect(signals.map(({ aborted }) => aborted)).toEqual(Array(9).fill(true));
  for (const answer of answers) answer();
  await world.plane.clock.advance(0);
  expect(signals).toHaveLength(9);
  expect([...images.values()].map((image) => image.digest)).toEqual([digest("a"), ...Array(499).fill(digest("c"))]);
});
