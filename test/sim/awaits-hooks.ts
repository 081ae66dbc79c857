/** Loaded before everything else (`node --import`) where each await is a place to be killed at. */
import { hook } from "./awaits.ts";

hook();
