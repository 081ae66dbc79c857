/** A place in the apps of a namespace, as people type it. */
export interface Place {
  readonly app?: string;
  readonly service?: string;
  readonly slot?: string;
}

/** `shop`, `shop/web`, `shop/web/0`, or `shop web`. */
export function splitPlace(app: string | undefined, service?: string): Place {
  const [name, ofPath, slot] = (app ?? "").split("/");
  const chosen = service ?? ofPath;
  return {
    ...(name === undefined || name === "" ? {} : { app: name }),
    ...(chosen === undefined || chosen === "" ? {} : { service: chosen }),
    ...(slot === undefined || slot === "" ? {} : { slot }),
  };
}
