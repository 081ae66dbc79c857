/**
 * What `jose` is to the code in a simulated process: the synchronous stand-in, or for some seeds the real one. Its calls
 * end off-thread in an order that no seed controls, so they are done one after another in the order they were asked for,
 * with a turn of the event loop between two, and virtual time stands still meanwhile: the seed is still the whole of a run.
 */
import * as real from "jose";
import * as stand from "./jose.ts";

export type CryptoKey = stand.CryptoKey;
/** Their keys are not each other's: within one world all come from one. */
type Key = never;

let isReal = false;
let underWay = 0;
let last: Promise<unknown> = Promise.resolve();

/** Before each world. */
export function chooseJose(which: "real" | "stand-in"): void {
  isReal = which === "real";
}

/** Nothing is being signed, sealed or opened. */
export const isJoseQuiet = (): boolean => underWay === 0;

const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  underWay++;
  const mine = last.then(work);
  const over = async () => {
    await turn();
    underWay--;
  };
  last = mine.then(over, over);
  return mine;
}

/** A function of both; the arguments are the real one's. */
const either =
  <Args extends unknown[], Result>(ofReal: (...args: Args) => Promise<Result>, ofStand: unknown) =>
  (...args: Args): Promise<Result> =>
    isReal ? inTurn(() => ofReal(...args)) : (ofStand as typeof ofReal)(...args);

export const { base64url } = stand;
export const calculateJwkThumbprint = either(real.calculateJwkThumbprint, stand.calculateJwkThumbprint);
export const compactDecrypt = either(real.compactDecrypt, stand.compactDecrypt);
export const compactVerify = either(real.compactVerify, stand.compactVerify);
export const exportJWK = either(real.exportJWK, stand.exportJWK);
export const flattenedVerify = either(real.flattenedVerify, stand.flattenedVerify);
export const importJWK = either(real.importJWK, stand.importJWK);
export const importPKCS8 = either(real.importPKCS8, stand.importPKCS8);
export const generateKeyPair = either(seededKeyPair, stand.generateKeyPair);

/** Keys of the real one that the seed made. */
async function seededKeyPair(alg: string, options: { crv?: string; extractable?: boolean } = {}) {
  const made = await stand.generateKeyPair(alg, options);
  const imported = async (key: stand.CryptoKey) => real.importJWK(await stand.exportJWK(key), alg, { extractable: true });
  return { privateKey: await imported(made.privateKey), publicKey: await imported(made.publicKey) };
}

class RealSign extends real.CompactSign {
  override sign(key: Key): Promise<string> {
    return inTurn(() => super.sign(key));
  }
}
class RealGeneralSign extends real.GeneralSign {
  override sign(): Promise<real.GeneralJWS> {
    return inTurn(() => super.sign());
  }
}
/** With chance from the seed. */
class RealEncrypt extends real.CompactEncrypt {
  override encrypt(key: Key): Promise<string> {
    return inTurn(async () => {
      this.setInitializationVector(stand.drawBytes(12));
      if (!((key as unknown) instanceof Uint8Array)) {
        const { privateKey } = await seededKeyPair("ECDH-ES", { crv: "X25519" });
        this.setKeyManagementParameters({ epk: privateKey as Exclude<typeof privateKey, Uint8Array> });
      }
      return super.encrypt(key);
    });
  }
}

/** A class of both; made as the one that is chosen then. */
const eitherClass = <Class extends new (...args: never[]) => object>(ofReal: Class, ofStand: new (...args: never[]) => object): Class =>
  new Proxy(ofReal, { construct: (_, args: never[]) => (isReal ? new ofReal(...args) : new ofStand(...args)) });

export const CompactSign = eitherClass(RealSign, stand.CompactSign);
export const GeneralSign = eitherClass(RealGeneralSign, stand.GeneralSign);
export const CompactEncrypt = eitherClass(RealEncrypt, stand.CompactEncrypt);
