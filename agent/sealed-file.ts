/**
 * A value on disk that knows whether it is whole: the first line is the SHA-256 of the rest. A torn or corrupt file
 * (F9) reads as its previous version, or as null; it never throws and never reads as something else.
 */
import type { z } from "zod";
import { digestHex } from "./crypto.ts";
import { type Disk, type Log, PREVIOUS_SUFFIX } from "./ports.ts";

const DIGEST_CHARS = 64;

export class SealedFile<Schema extends z.ZodType> {
  readonly #disk: Disk;
  readonly #log: Log;
  readonly path: string;
  readonly #schema: Schema;
  readonly #keepPrevious: boolean;

  constructor(input: {
    readonly disk: Disk;
    readonly log: Log;
    readonly path: string;
    readonly schema: Schema;
    readonly keepPrevious?: boolean;
  }) {
    this.#disk = input.disk;
    this.#log = input.log;
    this.path = input.path;
    this.#schema = input.schema;
    this.#keepPrevious = input.keepPrevious ?? false;
  }

  async read(): Promise<z.infer<Schema> | null> {
    const current = await this.#readOne(this.path);
    if (current !== null || !this.#keepPrevious) return current;
    const previous = await this.#readOne(`${this.path}${PREVIOUS_SUFFIX}`);
    if (previous !== null) this.#log.warn({ file: this.path }, "read the previous version of a file");
    return previous;
  }

  async write(value: z.infer<Schema>): Promise<void> {
    const text = JSON.stringify(value);
    await this.#disk.writeAtomic(this.path, `${digestHex(text)}\n${text}`, { keepPrevious: this.#keepPrevious });
  }

  async #readOne(path: string): Promise<z.infer<Schema> | null> {
    try {
      const bytes = await this.#disk.read(path);
      if (bytes === null) return null;
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      const body = text.slice(DIGEST_CHARS + 1);
      if (text.slice(0, DIGEST_CHARS) !== digestHex(body)) throw new Error("its checksum does not match");
      return this.#schema.parse(JSON.parse(body));
    } catch (error) {
      this.#log.warn({ file: path, error: String(error) }, "a file of the ledger cannot be read");
      return null;
    }
  }
}
