/** The simulated world's jose beside the real one. */
import * as real from "jose";
import { type Jose, joseMakes, joseRefuses } from "../contract/jose.ts";
import * as stand from "./jose.ts";

/** Its keys are Node's own objects. */
const simulated = stand as unknown as Jose;

joseMakes("the real one for itself", real, real);
joseMakes("the real one for the simulated", real, simulated);
joseMakes("the simulated for the real one", simulated, real);
joseMakes("the simulated for itself", simulated, simulated);
joseRefuses("the real one", real, real);
joseRefuses("the simulated", simulated, real);
