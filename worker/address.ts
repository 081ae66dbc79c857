/** How machines reach this control plane; goes into join tokens and the join script. */
export interface AddressInfo {
  /** `https://host:port` or, on loopback, `http://127.0.0.1:port`. */
  readonly url: string;
  /** SHA-256 of the served certificate's SubjectPublicKeyInfo, base64url; null behind a proxy or without TLS. */
  readonly spki: string | null;
}
