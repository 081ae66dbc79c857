/** Which pulled images are berth's to remove: what is written down, and what is compared before one goes. */
import { describe, expect, test } from "vitest";
import { type PulledEntry, pullImage, removePulled } from "../../agent/images.ts";
import { EngineError } from "../../agent/engine/engine.ts";
import type { StepOf } from "../../shared/converge/steps.ts";
import { image } from "../core/converge/world.ts";

const [A, B] = [`sha256:${"a".repeat(64)}`, `sha256:${"b".repeat(64)}`];

/** An engine's images by name, a registry where every name means `registry`, and the ledger's list. */
class World {
  readonly names = new Map<string, string>();
  pulled: readonly PulledEntry[] = [];
  registry = A;
  readonly removed: string[] = [];
  diesWhilePulling = false;

  readonly engine = {
    image: async (reference: string) => {
      const id = this.names.get(reference) ?? ([...this.names.values(), ...this.untagged].includes(reference) ? reference : undefined);
      if (id === undefined) return null;
      return { id, digests: [], tags: [...this.names].filter(([, held]) => held === id).map(([name]) => name) };
    },
    pull: async (reference: string) => {
      const before = this.names.get(reference);
      if (before !== undefined && before !== this.registry) this.untagged.add(before);
      this.names.set(reference, this.registry);
      if (this.diesWhilePulling) throw new EngineError("aborted", "killed");
    },
    removeImage: async (reference: string) => {
      this.removed.push(reference);
      this.names.delete(reference);
      this.untagged.delete(reference);
    },
  };
  readonly untagged = new Set<string>();
  readonly list = {
    entries: () => this.pulled,
    put: async (entries: readonly PulledEntry[]) => {
      this.pulled = entries;
    },
  };

  pull(policy: StepOf<"pull">["policy"] = "missing") {
    const step: StepOf<"pull"> = {
      kind: "pull",
      key: "image:web",
      imageKey: "web",
      image: image({ reference: "web:1", digest: null, resolve: true }),
      policy,
      namespace: "default",
      app: "shop",
      revision: 1,
    };
    return pullImage(step, { ...this, login: null, onProgress: () => undefined, signal: new AbortController().signal });
  }
  remove(reference: string) {
    return removePulled(reference, this);
  }
}

describe("a pulled image", () => {
  test("that is pulled again while it is being removed stays known as ours", async () => {
    const world = new World();
    await world.pull();
    const remove = world.engine.removeImage;
    world.engine.removeImage = async (reference) => {
      await remove(reference);
      await world.pull();
    };
    await world.remove("web:1");
    expect([...world.names.keys()]).toEqual(["web:1"]);
    expect(world.pulled).toEqual([{ reference: "web:1", imageId: A }]);
  });

  test("is known as ours when the agent was killed between the pull and the note of it", async () => {
    const world = new World();
    world.diesWhilePulling = true;
    await expect(world.pull()).rejects.toThrow();
    expect(world.pulled).toEqual([{ reference: "web:1", imageId: null }]);
    world.diesWhilePulling = false;
    await world.pull();
    expect(world.pulled).toEqual([{ reference: "web:1", imageId: A }]);
  });

  test("that nothing wanted after the kill is removed all the same", async () => {
    const world = new World();
    world.diesWhilePulling = true;
    await expect(world.pull()).rejects.toThrow();
    await world.remove("web:1");
    expect([world.removed, world.pulled]).toEqual([["web:1"], []]);
  });

  test("keeps its own id when its tag moves, and what the tag meant before goes too", async () => {
    const world = new World();
    await world.pull("always");
    world.registry = B;
    await world.pull("always");
    expect(world.pulled).toEqual([
      { reference: A, imageId: A },
      { reference: "web:1", imageId: B },
    ]);
    await world.remove(A);
    expect([world.removed, world.names.get("web:1")]).toEqual([[A], B]);
  });

  test("whose pull was cut off after its tag had moved is ours in both its meanings", async () => {
    const world = new World();
    await world.pull("always");
    world.registry = B;
    world.diesWhilePulling = true;
    await expect(world.pull("always")).rejects.toThrow();
    world.diesWhilePulling = false;
    await world.pull("always");
    for (const { reference } of world.pulled) await world.remove(reference);
    expect(world.removed).toEqual([A, "web:1"]);
  });

  test("that never came is no claim on what somebody pulls later", async () => {
    const world = new World();
    world.engine.pull = async () => {
      throw new EngineError("denied", "no");
    };
    await expect(world.pull()).rejects.toThrow("no");
    expect(world.pulled).toEqual([]);
  });

  test("that was there before is not ours, whatever is pulled over it", async () => {
    const world = new World();
    world.names.set("web:1", A);
    world.registry = B;
    await world.pull("always");
    expect(world.pulled).toEqual([]);
  });

  test("whose tag somebody has pulled anew since is theirs", async () => {
    const world = new World();
    await world.pull();
    world.names.set("web:1", B);
    await world.remove("web:1");
    expect([world.removed, world.pulled]).toEqual([[], []]);
  });

  test("that somebody has given a name of their own stays, when its old tag has moved", async () => {
    const world = new World();
    await world.pull("always");
    world.registry = B;
    await world.pull("always");
    world.names.set("mine:1", A);
    await world.remove(A);
    expect([world.removed, world.names.get("mine:1")]).toEqual([[], A]);
  });

  test("that something runs is no longer ours to remove", async () => {
    const world = new World();
    await world.pull();
    world.engine.removeImage = async () => {
      throw new EngineError("inUse", "used");
    };
    await world.remove("web:1");
    expect(world.pulled).toEqual([]);
  });
});
