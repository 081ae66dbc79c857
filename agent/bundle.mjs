// Builds dist/agent.mjs: the agent in one file, for machines that have nothing but Node.
//   node agent/bundle.mjs [outfile] [entry]
// dockerode reaches for ssh2, gRPC and protobuf for transports that an agent on its engine's own machine never uses.
import { readFileSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outfile = process.argv[2] ?? join(root, "dist", "agent.mjs");
const entry = process.argv[3] ?? join(root, "agent", "main.ts");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Required and never used: each becomes an empty module. Its cost would be memory on every node. */
const STUBBED =
  /^(?:ssh2|cpu-features|@grpc\/grpc-js|@grpc\/proto-loader|protobufjs|tar-fs|@balena\/dockerignore|pino-pretty|thread-stream|debug|uuid)(?:\/.*)?$/;

/** undici without fetch, caches, mocks and HTTP/2: the dispatcher and its `request`. */
const UNDICI = `
  const Dispatcher = require("undici/lib/dispatcher/dispatcher.js");
  Object.assign(Dispatcher.prototype, require("undici/lib/api/index.js"));
  module.exports = { Agent: require("undici/lib/dispatcher/agent.js") };`;

const slim = {
  name: "slim",
  setup(builder) {
    builder.onResolve({ filter: STUBBED }, ({ path }) => ({ path, namespace: "stub" }));
    builder.onResolve({ filter: /client-h2/ }, ({ path }) => ({ path, namespace: "stub" }));
    builder.onLoad({ filter: /.*/, namespace: "stub" }, ({ path }) => ({
      contents: path === "debug" ? "module.exports = () => () => {}" : "module.exports = {}",
      loader: "js",
    }));
    builder.onResolve({ filter: /^undici$/ }, ({ path }) => ({ path, namespace: "undici" }));
    builder.onLoad({ filter: /.*/, namespace: "undici" }, () => ({ contents: UNDICI, loader: "js", resolveDir: root }));
    // Of 50 languages of error messages, one.
    builder.onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: 'export { default as en } from "./en.js";',
      loader: "js",
    }));
  },
};

await mkdir(dirname(outfile), { recursive: true });
// Built beside it and renamed: whoever downloads it meanwhile gets the old one whole.
const temporary = `${outfile}.${process.pid}`;
await build({
  entryPoints: [entry],
  outfile: temporary,
  bundle: true,
  minify: true,
  platform: "node",
  format: "esm",
  target: "node24",
  legalComments: "none",
  logLevel: "warning",
  plugins: [slim],
  define: {
    BERTH_VERSION: JSON.stringify(version),
    BERTH_BUILD_WALL_MS: String(Date.now()),
    // ws tries two native helpers; as empty modules they would count as there, and fail at the first frame of 48 bytes.
    "process.env.WS_NO_BUFFER_UTIL": '"1"',
    "process.env.WS_NO_UTF_8_VALIDATE": '"1"',
  },
  // Packages in CommonJS ask for `require` of Node's own modules.
  banner: { js: 'import { createRequire as berthRequire } from "node:module"; const require = berthRequire(import.meta.url);' },
});
await rename(temporary, outfile);
