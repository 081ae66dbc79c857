/** Loaded before everything else (`node --import`): the simulated world's jose stands in for the real one. */
import { registerHooks } from "node:module";

const stand = new URL("./jose.ts", import.meta.url).href;

registerHooks({
  resolve: (specifier, context, next) => (specifier === "jose" ? { url: stand, shortCircuit: true } : next(specifier, context)),
});
