// A stand-in for Pharos: serves ui/dist with the same security headers as crates/web, below a path
// prefix, and answers the APIs from fixtures. `node e2e/mock-server.mjs [port]` runs it by hand; the token is `test-token`.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { curve, makeTraces, METADATA, METRICS, seriesOf } from './fixtures.mjs';

export const TOKEN = 'test-token';
const DIST = new URL('../dist/', import.meta.url).pathname;
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
/** Must equal CONTENT_SECURITY_POLICY of crates/web: the browser test proves that the UI lives with it. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** Starts the server. `auth: 'off'` answers every session question with "open". Options can be changed while it runs. */
export async function startMock({ port = 0, prefix = '/pharos/', auth = 'on' } = {}) {
  const options = { auth, failSearch: false, delay_ms: 0 };
  const sessions = new Set();
  const traces = makeTraces(Date.now());
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      response.writeHead(500).end(String(error));
    });
  });

  async function handle(request, response) {
    const url = new URL(request.url, 'http://mock');
    if (!url.pathname.startsWith(prefix)) return void response.writeHead(302, { location: prefix }).end();
    const path = `/${url.pathname.slice(prefix.length)}`;
    const body = await read(request);
    const form = new URLSearchParams([...url.searchParams, ...new URLSearchParams(/form/.test(request.headers['content-type'] ?? '') ? body : '')]);
    const cookie = /pharos_session=(\w+)/.exec(request.headers.cookie ?? '')?.[1];
    const signedIn = options.auth === 'off' || sessions.has(cookie);
    const json = (status, value, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));

    if (path === '/auth/login') {
      if (JSON.parse(body).token !== TOKEN) return json(401, { error: 'unknown token' });
      const id = `s${sessions.size + 1}x${Date.now().toString(36)}`;
      sessions.add(id);
      return void response.writeHead(204, { 'set-cookie': `pharos_session=${id}; HttpOnly; SameSite=Strict; Path=${prefix}` }).end();
    }
    if (path === '/auth/logout') {
      sessions.delete(cookie);
      return void response.writeHead(204).end();
    }
    if (path === '/auth/session') {
      return signedIn ? json(200, { name: options.auth === 'off' ? 'anonymous' : 'on-call', scopes: ['metrics:read', 'traces:read'], tenant: 'shop', auth: options.auth }) : json(401, { error: 'no session' });
    }
    if (path.startsWith('/api/')) {
      if (!signedIn) return json(401, { status: 'error', errorType: 'unauthorized', error: 'a session or bearer token is needed' });
      if (options.delay_ms > 0) await new Promise((resolve) => setTimeout(resolve, options.delay_ms));
      return path.startsWith('/api/v1/') ? prometheus(path.slice('/api/v1/'.length), form, json) : jaeger(path.slice('/api/'.length), url.searchParams, json);
    }
    // Links of Prometheus' own page move as crates/web moves them.
    if (path === '/graph') return void response.writeHead(302, { location: `./#/graph${url.search}` }).end();
    return file(path, response);
  }

  function prometheus(path, form, json) {
    const ok = (data, extra = {}) => json(200, { status: 'success', data, ...extra });
    const fail = (status, errorType, error) => json(status, { status: 'error', errorType, error });
    const query = form.get('query') ?? '';
    const start = Number(form.get('start'));
    const end = Number(form.get('end'));
    if (path === 'status/buildinfo') return ok({ version: '3.14.0', revision: '4f2a91c07', branch: 'pharos-0.1.0', buildDate: '', goVersion: '', application: 'pharos', applicationVersion: '0.1.0' });
    if (path === 'label/__name__/values') return ok(Object.keys(METRICS));
    if (path === 'labels') return ok(['__name__', 'job', 'le', 'service']);
    if (path === 'label/service/values') return ok(['cart', 'checkout', 'gateway', 'inventory', 'payment']);
    if (path.startsWith('label/')) return ok(['shop']);
    if (path === 'series') return ok(seriesOf('up'));
    if (path === 'metadata') return ok(METADATA);
    if (path === 'query_exemplars') {
      if (!/_bucket|histogram_quantile/.test(query)) return ok([]);
      const slow = traces.filter((trace) => trace.spans[0].operationName.startsWith('POST'));
      return ok([
        {
          seriesLabels: { __name__: 'http_server_request_duration_seconds_bucket', service: 'checkout', le: '+Inf' },
          exemplars: slow
            .map((trace) => ({ labels: { trace_id: trace.traceID, span_id: trace.spans[0].spanID }, value: String(trace.spans[0].duration / 1e6), timestamp: trace.spans[0].startTime / 1e6 }))
            .filter((exemplar) => exemplar.timestamp >= start && exemplar.timestamp <= end),
        },
      ]);
    }
    if (path === 'query' || path === 'query_range') {
      const open = query.indexOf('(') >= 0 && query.split('(').length !== query.split(')').length;
      if (open) return fail(400, 'bad_data', `invalid parameter "query": 1:${query.length + 1}: parse error: unclosed left parenthesis`);
      if (/explode/.test(query)) return fail(422, 'execution', 'query processing would load too many samples into memory in query execution');
      const warnings = /rate\(process_resident/.test(query) ? { infos: [`PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "process_resident_memory_bytes" (1:6)`] } : {};
      if (path === 'query') {
        const time = Number(form.get('time'));
        if (/^queue_latency_seconds/.test(query)) {
          return ok({ resultType: 'vector', result: [{ metric: { __name__: 'queue_latency_seconds', queue: 'orders' }, histogram: [time, { count: '1204', sum: '96.4', buckets: [[0, '0.01', '0.02', '310'], [0, '0.02', '0.04', '612'], [0, '0.04', '0.08', '201'], [0, '0.08', '0.16', '81']] }] }] });
        }
        return ok({ resultType: 'vector', result: seriesOf(query).map((metric, index) => ({ metric, value: [time, String(curve(query, index, time))] })) }, warnings);
      }
      const step = Number(form.get('step'));
      const result = seriesOf(query).map((metric, index) => {
        const values = [];
        for (let at = start; at <= end + 1e-9; at += step) {
          // One series pauses for a while: gaps must look like gaps.
          if (index === 1 && at % 3600 > 1500 && at % 3600 < 1740) continue;
          values.push([at, String(curve(query, index, at))]);
        }
        return { metric, values };
      });
      return ok({ resultType: 'matrix', result }, warnings);
    }
    return json(404, 'not found');
  }

  function jaeger(path, params, json) {
    const ok = (data, total = 0) => json(200, { data, total, limit: 0, offset: 0, errors: null });
    const fail = (status, msg) => json(status, { data: null, total: 0, limit: 0, offset: 0, errors: [{ code: status, msg }] });
    const serviceOf = (trace, span) => trace.processes[span.processID].serviceName;
    if (path === 'services') {
      const names = [...new Set(traces.flatMap((trace) => Object.values(trace.processes).map((process) => process.serviceName)))];
      return ok(names, names.length);
    }
    const operations = /^services\/([^/]+)\/operations$/.exec(path);
    if (operations) {
      const service = decodeURIComponent(operations[1]);
      const names = [...new Set(traces.flatMap((trace) => trace.spans.filter((span) => serviceOf(trace, span) === service).map((span) => span.operationName)))];
      return ok(names, names.length);
    }
    if (path === 'traces') {
      if (options.failSearch) return fail(500, 'the search index is rebuilding: 42% done');
      const wanted = Object.entries(JSON.parse(params.get('tags') ?? '{}'));
      const us = (text, fallback) => (text ? Number.parseFloat(text) * { µs: 1, us: 1, ms: 1e3, s: 1e6 }[/[^\d.]+$/.exec(text)[0]] : fallback);
      const least = us(params.get('minDuration'), 0);
      const most = us(params.get('maxDuration'), Infinity);
      const found = traces.filter((trace) =>
        trace.spans.some(
          (span) =>
            (!params.get('service') || serviceOf(trace, span) === params.get('service')) &&
            (!params.get('operation') || span.operationName === params.get('operation')) &&
            span.startTime >= Number(params.get('start')) &&
            span.startTime <= Number(params.get('end')) &&
            span.duration >= least &&
            span.duration <= most &&
            wanted.every(([key, value]) => [...span.tags, ...trace.processes[span.processID].tags].some((entry) => entry.key === key && String(entry.value) === value)),
        ),
      );
      return ok(found.slice(0, Number(params.get('limit') ?? 20)));
    }
    const id = /^traces\/([^/]+)$/.exec(path)?.[1];
    const trace = id && traces.find((known) => known.traceID === id);
    return trace ? ok([trace]) : fail(404, 'trace not found');
  }

  function file(path, response) {
    const wanted = normalize(join(DIST, path === '/' ? 'index.html' : path));
    const name = wanted.startsWith(DIST) && existsSync(wanted) && statSync(wanted).isFile() ? wanted : join(DIST, 'index.html');
    response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-security-policy': CONTENT_SECURITY_POLICY, 'x-content-type-options': 'nosniff' });
    createReadStream(name).pipe(response);
  }

  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}${prefix}`,
    options,
    traces,
    endSessions: () => sessions.clear(),
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const mock = await startMock({ port: Number(process.argv[2] ?? 8099) });
  console.log(`${mock.url}  (token: ${TOKEN})`);
}
