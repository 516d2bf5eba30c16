// Browser tests. Without arguments: against the mock server, every page and its failures. With PHAROS_URL (and
// PHAROS_TOKEN unless its authentication is off): a walk through a real Pharos. SCREENSHOTS=dir keeps a picture of every step.
import { mkdirSync } from 'node:fs';
import { launch } from './browser.mjs';
import { startMock } from './mock-server.mjs';
import { around } from './scenarios/around.mjs';
import { explore } from './scenarios/explore.mjs';
import { realScenarios } from './scenarios/real.mjs';
import { search } from './scenarios/search.mjs';
import { signIn } from './scenarios/sign-in.mjs';
import { trace } from './scenarios/trace.mjs';

const shots = process.env.SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/** Runs the scenarios in order on one page; each may rely on what those before it left. Answers how many failed. */
async function run(name, scenarios, options, fixture) {
  const browser = await launch(options);
  const page = await browser.context.newPage();
  page.setDefaultTimeout(8_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`page error: ${error.message}`));
  page.on('console', (message) => {
    // A failed request is logged by the browser itself; the scenarios cause some on purpose.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) complaints.push(`console: ${message.text()}`);
  });
  const origin = new URL(fixture.url).origin;
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) complaints.push(`request to another origin: ${request.url()}`);
  });

  let failed = 0;
  for (const [title, scenario] of scenarios) {
    const started = performance.now();
    complaints.length = 0;
    let problem = '';
    try {
      await scenario({ page, ...fixture });
      if (complaints.length > 0) problem = complaints.join('\n');
    } catch (error) {
      problem = [error.message, ...complaints].join('\n');
    }
    if (problem) failed += 1;
    if (shots) await page.screenshot({ path: `${shots}/${name}-${title.replace(/\W+/g, '-').slice(0, 60)}.png` });
    console.log(`${problem ? 'FAILED' : 'ok    '} ${name}: ${title} (${Math.round(performance.now() - started)} ms)${problem ? `\n${problem.replace(/^/gm, '       ')}` : ''}`);
  }
  await browser.close();
  return failed;
}

let ran = 0;
let failed = 0;
if (process.env.PHAROS_URL) {
  const url = process.env.PHAROS_URL.replace(/\/?$/, '/');
  ran = realScenarios.length;
  failed = await run('pharos', realScenarios, {}, { url, token: process.env.PHAROS_TOKEN ?? '' });
} else {
  const mock = await startMock();
  const scenarios = [...signIn, ...explore, ...search, ...trace, ...around];
  ran = scenarios.length;
  failed = await run('mock', scenarios, { permissions: ['clipboard-read', 'clipboard-write'] }, { url: mock.url, mock });
  await mock.close();
}
console.log(`browser: ${ran - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
