// Fails when the built UI grows beyond its budget or breaks a rule that the server's policy relies on.
// Sizes are gzip -9, as a browser would fetch them.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

const ENTRY_BYTES_MAX = 60_000;
const TOTAL_BYTES_MAX = 300_000;

const dist = new URL('../dist/', import.meta.url).pathname;
const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(dist, join(entry.parentPath ?? entry.path, entry.name)));

const html = readFileSync(join(dist, 'index.html'), 'utf8');
const entry = new Set(['index.html', ...[...html.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map((match) => match[1])]);

let entryBytes = 0;
let totalBytes = 0;
for (const file of files.sort()) {
  const bytes = gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
  totalBytes += bytes;
  if (entry.has(file)) entryBytes += bytes;
  console.log(`${String(bytes).padStart(8)}  ${file}${entry.has(file) ? '  (entry)' : ''}`);
}
console.log(`${String(entryBytes).padStart(8)}  entry, at most ${ENTRY_BYTES_MAX}`);
console.log(`${String(totalBytes).padStart(8)}  total, at most ${TOTAL_BYTES_MAX}`);

const problems = [];
if (entryBytes > ENTRY_BYTES_MAX) problems.push('the entry is over its budget');
if (totalBytes > TOTAL_BYTES_MAX) problems.push('the total is over its budget');
if (/<script(?![^>]*\bsrc=)[^>]*>/.test(html) || /<style|\sstyle=|\son\w+=/.test(html)) problems.push('index.html holds inline script or style');
if (/(?:src|href)="(?!\.\/)/.test(html)) problems.push('index.html has a URL that is not relative');
for (const file of files.filter((name) => name.endsWith('.css'))) {
  if (/url\(\s*['"]?(?:https?:)?\/\//.test(readFileSync(join(dist, file), 'utf8'))) problems.push(`${file} asks another host`);
}
for (const problem of problems) console.error(`check-budget: ${problem}`);
process.exit(problems.length === 0 ? 0 : 1);
