/** The agents that wake.ts lets hold their polls, in a process of their own: what they do must not delay what is measured. */
import { FACTS, FakeAgent, type JoinSecret } from "../test/worker/agent/fake-agent.ts";
import { connections, sender } from "./sender.ts";

export type AgentsOrder =
  | { readonly kind: "enroll"; readonly url: string; readonly token: JoinSecret; readonly count: number }
  /** The same number of connections and more requests than are measured, none of them held. */
  | { readonly kind: "warm"; readonly url: string; readonly rounds: number }
  | { readonly kind: "poll"; readonly url: string }
  | { readonly kind: "stop" };

const AT_ONCE = 20;
let agents: FakeAgent[] = [];
let isOver = false;
let polling: Promise<void>[] = [];

async function enroll({ url, token, count }: Extract<AgentsOrder, { kind: "enroll" }>): Promise<void> {
  const pool = connections(AT_ONCE);
  const send = sender(url, pool);
  const one = async () => {
    const agent = await FakeAgent.make(send);
    await agent.enroll(token);
    await comeBack(agent);
    agents.push(agent);
  };
  while (agents.length < count) await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - agents.length) }, one));
  pool.destroy();
}

async function comeBack(agent: FakeAgent): Promise<void> {
  await agent.openSession();
  await agent.request("POST", "/agent/v1/report", agent.reportBody({ facts: FACTS }));
}

async function warm({ url, rounds }: Extract<AgentsOrder, { kind: "warm" }>): Promise<void> {
  const pool = connections(50);
  const send = sender(url, pool);
  const nothing = `/agent/v1/bodies/${"0".repeat(64)}`;
  agents = agents.map((agent) => agent.over(send));
  // They were silent for longer than a node may be.
  for (let from = 0; from < agents.length; from += 50) await Promise.all(agents.slice(from, from + 50).map(comeBack));
  for (let round = 0; round < rounds; round++)
    for (let from = 0; from < agents.length; from += 50)
      await Promise.all(agents.slice(from, from + 50).map((agent) => agent.request("GET", nothing)));
  pool.destroy();
}

/** Each polls again whenever it is answered, as an agent does. */
async function keepPolling(agent: FakeAgent): Promise<void> {
  while (!isOver) {
    try {
      await agent.accept();
    } catch (error) {
      if (!isOver) throw error;
    }
  }
}

async function carryOut(order: AgentsOrder): Promise<void> {
  if (order.kind === "enroll") await enroll(order);
  if (order.kind === "warm") await warm(order);
  if (order.kind === "poll") {
    const send = sender(order.url, connections(Number.POSITIVE_INFINITY));
    agents = agents.map((agent) => agent.over(send));
    polling = agents.map(keepPolling);
  }
  if (order.kind === "stop") {
    isOver = true;
    await Promise.allSettled(polling);
  }
}

process.on("disconnect", () => process.exit(0));
process.on("message", (order: AgentsOrder) => {
  carryOut(order).then(() => process.send?.("done"));
});
