// Builds dist/agent.mjs: the agent in one file, for machines that have nothing but Node.
//   node agent/bundle.mjs [outfile]
// dockerode reaches for ssh2, gRPC and protobuf for transports that an agent on its engine's own machine never uses.
import { readFileSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outfile = process.argv[2] ?? join(root, "dist", "agent.mjs");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Packages that are required and never used: each becomes an empty module. */
const STUBBED =
  /^(?:ssh2|cpu-features|@grpc\/grpc-js|@grpc\/proto-loader|protobufjs|pino-pretty|bufferutil|utf-8-validate|thread-stream|debug|uuid)(?:\/.*)?$/;

const stubs = {
  name: "stubs",
  setup(builder) {
    builder.onResolve({ filter: STUBBED }, ({ path }) => ({ path, namespace: "stub" }));
    builder.onLoad({ filter: /.*/, namespace: "stub" }, ({ path }) => ({
      contents: path === "debug" ? "module.exports = () => () => {}" : "module.exports = {}",
      loader: "js",
    }));
  },
};

await mkdir(dirname(outfile), { recursive: true });
// Built beside it and renamed: whoever downloads it meanwhile gets the old one whole.
const temporary = `${outfile}.${process.pid}`;
await build({
  entryPoints: [join(root, "agent", "main.ts")],
  outfile: temporary,
  bundle: true,
  minify: true,
  platform: "node",
  format: "esm",
  target: "node24",
  legalComments: "none",
  logLevel: "warning",
  plugins: [stubs],
  define: { BERTH_VERSION: JSON.stringify(version), BERTH_BUILD_WALL_MS: String(Date.now()) },
  // Packages in CommonJS ask for `require` of Node's own modules.
  banner: { js: 'import { createRequire as berthRequire } from "node:module"; const require = berthRequire(import.meta.url);' },
});
await rename(temporary, outfile);
