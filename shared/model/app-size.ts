/** How large an app may be: its spec, texts of configs included, travels in one request. */
import type { AppSpec } from "./app.ts";

/** The API takes bodies of 1,000,000 bytes; a message of 256 characters, six bytes each at most, and the JSON around both fit beside it. */
export const APP_BYTES_MAX = 998_000;

export interface TooLarge {
  readonly message: string;
  readonly mend: string;
  /** The biggest part: `configs.NAME` or `services.NAME`. */
  readonly path: string;
}

/** Null: it fits. */
export function tooLarge(app: AppSpec): TooLarge | null {
  const bytes = jsonBytes(app);
  if (bytes <= APP_BYTES_MAX) return null;
  const parts = [
    ...Object.entries(app.configs).map(([name, config]) => ({ path: `configs.${name}`, what: `config ${name}`, bytes: jsonBytes(config) })),
    ...Object.entries(app.services).map(([name, service]) => ({
      path: `services.${name}`,
      what: `service ${name}`,
      bytes: jsonBytes(service),
    })),
  ];
  const biggest = parts.reduce((a, b) => (b.bytes > a.bytes ? b : a));
  return {
    message: `the app has ${bytes} bytes and may have ${APP_BYTES_MAX}; its biggest part is ${biggest.what} with ${biggest.bytes}`,
    mend: "put large files into an image or a volume, or make it two apps",
    path: biggest.path,
  };
}

/** Length in UTF-8, as it is sent. */
function jsonBytes(value: unknown): number {
  const text = JSON.stringify(value);
  let bytes = text.length;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    // A pair of surrogates is four bytes for two units; JSON.stringify leaves no lone one.
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}
