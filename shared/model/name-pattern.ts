/** Names of namespaces, sites, nodes, apps, services, volumes and configs: lower case, at most 63 characters. */
export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?$/;
export const NAME_RULE = "use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit";
