/** What the CLI prints of other people's text: one line of it, or a line of a log. */
import { isUnsafe, visible, visibleQuoted } from "../../shared/text/visible.ts";
import { ESCAPE } from "./width.ts";

export { isUnsafe, visible, visibleQuoted };

/** Colours and weights (SGR) are so common in logs that showing them as text would bury the text: they are dropped. */
const COLOURS = new RegExp(`${ESCAPE}\\[[0-9;:]*m`, "g");

/** A log line: as `visible`, but tabs are spaces and colours are dropped. */
export const visibleLog = (text: string): string => visible(text.replace(COLOURS, "").replaceAll("\t", "    ").replace(/\r$/, ""));
