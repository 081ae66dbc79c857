/** What the tick loop drives in production: the cluster clock, and with it the chain of the audit log. */
import type { SignedHead } from "../../shared/audit/chain.ts";
import { JOSE_TYPES } from "../../shared/wire/jose.ts";
import type { Signer } from "../ports.ts";
import { chainStatements, nextChainStep } from "../store/audit-chain.ts";
import type { Store } from "../store/store.ts";
import type { Ticking } from "./tick-loop.ts";

/** One commit a tick: the clock, the hashes of the audit rows that waited, and the new head under the current lease key. */
export function makeTicking({ store, signer }: { readonly store: Store; readonly signer: Pick<Signer, "sign"> }): Ticking {
  return async () => {
    const step = await nextChainStep(store);
    if (step === null) return { ...(await store.tick()), isAuditLeft: false };
    const { clusterId, era } = await store.cluster();
    const head: SignedHead = { iss: clusterId, era, ...step.to };
    const signed = await signer.sign(JOSE_TYPES.auditHead, { ...head });
    return { ...(await store.tick(chainStatements(step, signed))), isAuditLeft: step.more };
  };
}
