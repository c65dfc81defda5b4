// Bundles the web UI into dist/, compressed: that is what the program embeds.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const types = "src/openapi.d.ts";
execFileSync("node_modules/.bin/openapi-typescript", ["../docs/reference/openapi.json", "-o", types], { stdio: "ignore" });
execFileSync("node_modules/.bin/tsc", ["--noEmit"], { stdio: "inherit" });

const result = await build({
  entryPoints: ["src/main.tsx"],
  bundle: true,
  minify: true,
  write: false,
  outdir: "out",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
});

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
let html = readFileSync("src/index.html", "utf8");
let total = 0;
const write = (name, bytes) => {
  const small = gzipSync(bytes, { level: 9 });
  total += small.length;
  writeFileSync(`dist/${name}.gz`, small);
};
for (const file of result.outputFiles) {
  const kind = file.path.split(".").pop();
  const name = `app-${createHash("sha256").update(file.contents).digest("hex").slice(0, 12)}.${kind}`;
  write(name, file.contents);
  html = html.replace(`app.${kind}`, name);
}
write("icon.svg", readFileSync("src/icon.svg"));
write("index.html", Buffer.from(html));
console.log(`web UI: ${(total / 1000).toFixed(1)} kB compressed`);
if (total > 300_000) {
  console.error("the web UI is larger than 300 kB");
  process.exit(1);
}
