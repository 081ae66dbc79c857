/** Loaded before everything else (`node --import`): the simulated world chooses which jose its code has. */
import { registerHooks } from "node:module";

const choice = new URL("./jose-choice.ts", import.meta.url).href;

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "jose" && context.parentURL !== choice ? { url: choice, shortCircuit: true } : next(specifier, context),
});
