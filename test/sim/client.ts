/** A careful client of the operator API: it asks with one key until it is answered. One that is impatient asks twice at once. */
import type { Prng } from "./prng.ts";
import type { OperatorAnswer, World } from "./world.ts";

const TRIES_MAX = 5;

export interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  /** Default: the admin's. */
  readonly token?: string | undefined;
}

export class Client {
  readonly done = { askedTwice: 0, unanswered: 0, refused: 0 };
  readonly #world: World;
  #keys = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** How patient it is, and how long it waits, is drawn from `random`, which is of this request alone. */
  async ask({ method, path, body, token = this.#world.adminToken }: Request, random: Prng): Promise<OperatorAnswer> {
    const { kernel, operator, database } = this.#world;
    const nonce = random.uint32().toString(36);
    const headers = { authorization: `Bearer ${token}`, "idempotency-key": `${database.clockMs}-${nonce}${++this.#keys}` };
    const once = () => this.#world.ask(method, path, body, headers);
    if (random.chance(0.1)) {
      this.done.askedTwice++;
      void once();
    }
    for (let attempt = 0; ; attempt++) {
      const answer = await once();
      if (answer.status !== 0 && answer.status < 500) {
        if (answer.status >= 400) this.done.refused++;
        return answer;
      }
      this.done.unanswered++;
      if (attempt === TRIES_MAX) return answer;
      await kernel.pause(random.between(500, 4_000), operator);
    }
  }
}
