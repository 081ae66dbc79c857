/** Rows for the keys outside services. */
import { applied, approximated, each, type KeyRow, refused } from "./key-row.ts";

const NO_CUSTOM_NETWORKS = {
  why: "custom networks are not there yet: the services of an app share one network, named default, in which each is known by its name",
  mend: "remove networks: (services of one app reach each other by name without it)",
};
const NO_SECRETS = {
  why: "secrets are not there yet",
  mend: "for now, remove secrets: and give the value in a way you accept, e.g. a file on the node bound by its absolute path",
};
const NO_MODELS = { why: "berth runs containers, not language models", mend: "run the model server as a service of its own" };

export const PROJECT_ROWS: readonly KeyRow[] = [
  applied("version", "string|number", "Ignored, as the specification says; every file is read by the current rules."),
  applied("name", "string", "The app's name, unless -p or COMPOSE_PROJECT_NAME gives one."),
  applied("include", "list", "The named projects become part of this one, each with its own directory and .env."),
  applied("include[]", "string|mapping", "A path, from the directory of the including file."),
  applied("include[].path", "string|strings", "One path, or several merged in order."),
  applied("include[].env_file", "string|strings", "Defaults for variables of the included files, instead of the .env beside them."),
  applied("include[].project_directory", "string", "Where relative paths of the included files start."),
  applied("services", "mapping", "At least one service must remain after profiles."),
  applied("services.*", "mapping", "A service of the app. Names are lower-case letters, digits, '-', '_' and '.'."),
  applied("networks", "mapping|null", "Only the network default, which every app has."),
  refused("networks.*", "mapping|null", NO_CUSTOM_NETWORKS),
  ...each("networks.*", { driver_opts: "mapping", external: "boolean|mapping", internal: "boolean" }, (path, takes) =>
    refused(path, takes, NO_CUSTOM_NETWORKS, { harmless: [false], open: path.endsWith("driver_opts") }),
  ),
  applied("networks.*.driver", "string", "For default: bridge and overlay are what berth's network is; another driver is refused."),
  approximated("networks.*.name", "string", "No effect: berth names the bridge."),
  approximated("networks.*.attachable", "boolean", "No effect: only services of the app join its network."),
  approximated("networks.*.labels", "keyed", "No effect: berth's bridges carry berth's labels only."),
  applied("networks.*.enable_ipv4", "boolean", "For default: true is what berth's network has; false is refused."),
  refused(
    "networks.*.enable_ipv6",
    "boolean",
    { why: "an app's network carries IPv4 only", mend: "remove enable_ipv6" },
    { harmless: [false] },
  ),
  refused("networks.*.ipam", "mapping", {
    why: "berth chooses the addresses of an app's network, so that they are unique over the site",
    mend: "remove ipam",
  }),
  ...each("networks.*.ipam", { driver: "string", config: "list", options: "mapping" }, (path, takes) =>
    refused(path, takes, NO_CUSTOM_NETWORKS, { open: path.endsWith("options") }),
  ),
  ...each(
    "networks.*.ipam.config[]",
    { subnet: "string", ip_range: "string", gateway: "string", aux_addresses: "mapping" },
    (path, takes) => refused(path, takes, NO_CUSTOM_NETWORKS, { open: path.endsWith("addresses") }),
  ),
  refused("networks.*.external.name", "string", NO_CUSTOM_NETWORKS),

  applied("volumes", "mapping|null", "Named volumes; each is kept on the node where its replica runs."),
  applied("volumes.*", "mapping|null", "A volume of the app, in the engine berth_<namespace>_<app>_<volume>. Names are made lower-case."),
  approximated(
    "volumes.*.name",
    "string",
    "With external: the engine's name of the volume. Otherwise no effect: berth names the app's own volumes.",
  ),
  applied("volumes.*.driver", "string", "local; any other driver is refused."),
  refused(
    "volumes.*.driver_opts",
    "mapping",
    {
      why: "volumes with driver options (NFS, CIFS, bind by option) are refused, because options can name any path or device of a node",
      mend: "mount the share on the node and bind its absolute path",
    },
    { open: true },
  ),
  applied(
    "volumes.*.external",
    "boolean|mapping",
    "The volume must exist on the node; berth neither makes nor removes it. Unless the service is global, a constraint must name the node, or a label of the nodes that have it.",
  ),
  applied("volumes.*.external.name", "string", "The engine's name of the external volume (old form of name:)."),
  applied("volumes.*.labels", "keyed", "Set on the engine's volume when berth makes it."),

  applied("configs", "mapping|null", "Files whose content is versioned with the app."),
  applied("configs.*", "mapping", "A config: content of at most 1 MB, from file:, content: or environment:."),
  applied("configs.*.file", "string", "Read when deploying, as UTF-8 text of at most 1 MB."),
  applied("configs.*.content", "string", "The text itself, interpolated."),
  applied("configs.*.environment", "string", "The value of this variable when deploying; it must be set."),
  approximated("configs.*.name", "string", "No effect: the key is the config's name inside the app."),
  refused(
    "configs.*.external",
    "boolean|mapping",
    { why: "configs belong to their app; there is no store of external ones", mend: "give file:, content: or environment:" },
    { harmless: [false] },
  ),
  refused("configs.*.external.name", "string", { why: "configs belong to their app", mend: "give file:, content: or environment:" }),
  approximated("configs.*.labels", "keyed", "No effect: a config has no labels."),
  refused("configs.*.template_driver", "string", { why: "configs are not templates", mend: "use $VARIABLES in content:" }),

  refused("secrets", "mapping|null", NO_SECRETS),
  refused("secrets.*", "mapping", NO_SECRETS),
  ...each(
    "secrets.*",
    {
      name: "string",
      environment: "string",
      file: "string",
      external: "boolean|mapping",
      labels: "keyed",
      driver: "string",
      driver_opts: "mapping",
      template_driver: "string",
    },
    (path, takes) => refused(path, takes, NO_SECRETS, { open: path.endsWith("opts") || path.endsWith("labels") }),
  ),
  refused("secrets.*.external.name", "string", NO_SECRETS),

  refused("models", "mapping|null", NO_MODELS),
  refused("models.*", "mapping", NO_MODELS),
  ...each("models.*", { name: "string", model: "string", context_size: "number", runtime_flags: "strings" }, (path, takes) =>
    refused(path, takes, NO_MODELS),
  ),
];
