// A page of another site that sends a span with the OpenTelemetry SDK's exporter for browsers, in Debian's Chromium.
//
//   node browser-exporter.mjs PAGE_PORT EXPORT_URL TOKEN
//
// Prints one line of JSON: how the export with the token ended, how one with a wrong token did, and what the page could read of that
// refusal. The page's origin is http://127.0.0.1:PAGE_PORT; packages are those of examples/node and ui.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const { rolldown } = await import(createRequire(`${root}/ui/package.json`).resolve('rolldown'));
const { launch } = await import(`${root}/ui/e2e/browser.mjs`);
const [port, url, token] = process.argv.slice(2);

const entry = `
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { TracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { resourceFromAttributes } from '@opentelemetry/resources';

globalThis.sendSpan = (url, token) =>
  new Promise((resolve) => {
    const exporter = new OTLPTraceExporter({ url, headers: { authorization: 'Bearer ' + token }, timeoutMillis: 20_000 });
    const watched = {
      export: (spans, done) => exporter.export(spans, (result) => { done(result); resolve({ code: result.code, error: result.error?.message ?? '' }); }),
      shutdown: () => exporter.shutdown(),
      forceFlush: () => exporter.forceFlush(),
    };
    const provider = new TracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'browser' }),
      spanProcessors: [new SimpleSpanProcessor({ exporter: watched })],
    });
    provider.getTracer('page').startSpan('click').end();
  });

globalThis.readRefusal = async (url) => {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', authorization: 'Bearer wrong' }, body: '{}' });
  return { status: answer.status, body: await answer.json() };
};
`;

const bundle = await rolldown({
  input: 'entry',
  platform: 'browser',
  resolve: { modules: [`${root}/examples/node/node_modules`] },
  plugins: [{ name: 'entry', resolveId: (id) => (id === 'entry' ? `${root}/examples/node/entry.js` : null), load: (id) => (id.endsWith('/entry.js') ? entry : null) }],
});
const { output } = await bundle.generate({ format: 'iife' });
const page = `<!doctype html><script>globalThis.process ??= { env: {} };${output[0].code.replaceAll('</script', '<\\/script')}</script>`;
const server = createServer((_, answer) => answer.setHeader('content-type', 'text/html; charset=utf-8').end(page)).listen(Number(port), '127.0.0.1');

const browser = await launch({ ignoreHTTPSErrors: true });
try {
  const tab = await browser.context.newPage();
  await tab.goto(`http://127.0.0.1:${port}/`);
  const sent = await tab.evaluate(([url, token]) => globalThis.sendSpan(url, token), [url, token]);
  const refused = await tab.evaluate((url) => globalThis.sendSpan(url, 'wrong'), url);
  const read = await tab.evaluate((url) => globalThis.readRefusal(url), url);
  console.log(JSON.stringify({ sent, refused, read }));
} finally {
  await browser.close();
  server.close();
}
