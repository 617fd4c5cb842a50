// Runs what docs/clients.md shows, so that it shows only what runs: the block under a heading, with the gateway at
// CORELANE_URL in the place of http://localhost:8000. It stands beside the packages for as long as it runs.

import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";

export async function documented(heading, beside) {
  const sections = readFileSync(process.env.CORELANE_DOCS, "utf8").split(/^## /m);
  const section = sections.find((text) => text.startsWith(`${heading}\n`));
  const code = section?.match(/^```js\n([^]*?)^```$/m)?.[1];
  assert.ok(code?.includes("http://localhost:8000"), `no block under ${heading}`);
  const file = new URL(`documented-${process.pid}.mjs`, beside);
  writeFileSync(file, code.replaceAll("http://localhost:8000", process.env.CORELANE_URL));
  const printed = [];
  const { log } = console;
  const { write } = process.stdout;
  console.log = (...words) => printed.push(words.join(" "), "\n");
  process.stdout.write = (words) => printed.push(String(words));
  try {
    await import(file);
  } finally {
    Object.assign(console, { log });
    Object.assign(process.stdout, { write });
    rmSync(file);
  }
  assert.match(printed.join(""), /You said: Hello/, heading);
}
