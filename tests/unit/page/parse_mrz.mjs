// Parses machine-readable zones with npm's mrz: an array of [first, second] in, an array of results out.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The library is installed beside tests/package.json, wherever this script was started.
const require = createRequire(new URL("../../package.json", import.meta.url));
const { parse } = await import(pathToFileURL(require.resolve("mrz")));

const zones = JSON.parse(readFileSync(0, "utf8"));
const results = zones.map((zone) => {
  const { format, valid, fields, details } = parse(zone);
  const wrong = details.filter((detail) => !detail.valid).map((detail) => detail.field);
  return { format, valid, fields, wrong };
});
process.stdout.write(JSON.stringify(results));
