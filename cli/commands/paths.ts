/** Paths of the operator API, spelled once. */
import { segment } from "../client/client.ts";

export const inNamespace = (namespace: string, rest: string): string => `/v1/namespaces/${segment(namespace)}${rest}`;
export const appsPath = (namespace: string): string => inNamespace(namespace, "/apps");
export const appPath = (namespace: string, app: string, rest = ""): string => inNamespace(namespace, `/apps/${segment(app)}${rest}`);
export const replicasPath = (namespace: string): string => inNamespace(namespace, "/replicas");
export const deploymentPath = (namespace: string, id: string): string => inNamespace(namespace, `/deployments/${segment(id)}`);
export const nodePath = (id: string): string => `/v1/nodes/${segment(id)}`;
