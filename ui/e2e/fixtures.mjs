// Fixture data of the mock server: a small shop, seeded, so that every run shows the same traces and
// curves relative to `now_ms`. Shapes are those of the Prometheus and Jaeger v1 HTTP APIs.

/** Small, fast, seedable: mulberry32. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const hex = (rng, digits) => Array.from({ length: digits }, () => Math.floor(rng() * 16).toString(16)).join('');
const tag = (key, value) => ({
  key,
  type: typeof value === 'boolean' ? 'bool' : typeof value === 'number' ? (Number.isInteger(value) ? 'int64' : 'float64') : 'string',
  value,
});

const SERVICES = ['storefront', 'gateway', 'cart', 'checkout', 'payment', 'inventory', 'shipping', 'postgres', 'redis'];

/** Builds one trace; `add` appends a span and returns it, so that shapes below read like call trees. */
class TraceBuilder {
  constructor(rng, start_us) {
    this.rng = rng;
    this.start_us = start_us;
    this.traceID = hex(rng, 32);
    this.spans = [];
    this.processes = {};
    this.ids = new Map();
  }

  process(service) {
    if (!this.ids.has(service)) {
      const id = `p${this.ids.size + 1}`;
      this.ids.set(service, id);
      const pod = `${service}-${hex(this.rng, 5)}`;
      this.processes[id] = {
        serviceName: service,
        tags: [tag('deployment.environment', 'production'), tag('k8s.namespace.name', 'shop'), tag('k8s.pod.name', pod), tag('service.version', '2.4.1'), tag('telemetry.sdk.language', 'go'), tag('telemetry.sdk.name', 'opentelemetry'), tag('telemetry.sdk.version', '1.38.0')],
      };
    }
    return this.ids.get(service);
  }

  add(parent, service, operationName, offset_us, duration_us, { kind = 'internal', tags = [], logs = [], error = '', links = [] } = {}) {
    const span = {
      traceID: this.traceID,
      spanID: hex(this.rng, 16),
      operationName,
      references: [...(parent ? [{ refType: 'CHILD_OF', traceID: this.traceID, spanID: parent.spanID }] : []), ...links],
      startTime: Math.round(this.start_us + offset_us),
      duration: Math.round(duration_us),
      tags: [
        tag('otel.scope.name', `shop/${service}`),
        ...tags,
        tag('span.kind', kind),
        ...(error ? [tag('otel.status_code', 'ERROR'), tag('error', true), tag('otel.status_description', error)] : []),
      ],
      logs: logs.map(([at_us, name, fields]) => ({
        timestamp: Math.round(this.start_us + offset_us + at_us),
        fields: [tag('event', name), ...Object.entries(fields).map(([key, value]) => tag(key, value))],
      })),
      processID: this.process(service),
      warnings: null,
    };
    this.spans.push(span);
    return span;
  }

  build() {
    return { traceID: this.traceID, spans: this.spans, processes: this.processes, warnings: null };
  }
}

const http = (method, route, status) => [tag('http.request.method', method), tag('http.route', route), tag('url.path', route.replace('{id}', '4711')), tag('http.response.status_code', status), tag('server.address', 'shop.example')];
const sql = (statement, rows) => [tag('db.system', 'postgresql'), tag('db.namespace', 'shop'), tag('db.query.text', statement), tag('db.response.returned_rows', rows)];

function checkout(rng, start_us, link) {
  const t = new TraceBuilder(rng, start_us);
  const slow = rng() < 0.25 ? 3 + rng() * 6 : 1;
  const failed = rng() < 0.22;
  const ms = (least, spread) => (least + rng() * spread) * 1000;
  const pay = ms(60, 90) * slow;
  const stock = ms(25, 20);
  const total = ms(24, 8) + stock + pay + ms(38, 10);
  const root = t.add(null, 'storefront', 'POST /checkout', 0, total, {
    kind: 'client',
    tags: [...http('POST', '/checkout', failed ? 502 : 200), tag('enduser.id', `u-${Math.floor(rng() * 9000)}`), tag('session.cart.size', 3)],
    error: failed ? 'payment was declined by the provider' : '',
    links: link ? [{ refType: 'FOLLOWS_FROM', traceID: link, spanID: hex(rng, 16) }] : [],
  });
  const edge = t.add(root, 'gateway', 'POST /api/checkout', 1_400, total - 2_600, { kind: 'server', tags: http('POST', '/api/checkout', failed ? 502 : 200), error: failed ? 'upstream answered 502' : '' });
  t.add(edge, 'gateway', 'authorize', 1_800, 2_100, { tags: [tag('auth.method', 'jwt'), tag('auth.cache.hit', true)] });
  const order = t.add(edge, 'checkout', 'PlaceOrder', 5_200, total - 8_400, { kind: 'server', tags: [tag('rpc.system', 'grpc'), tag('rpc.service', 'shop.Checkout'), tag('rpc.method', 'PlaceOrder'), tag('order.items', '["sku-114","sku-203","sku-998"]')], error: failed ? 'payment was declined by the provider' : '' });
  const cart = t.add(order, 'cart', 'GetCart', 6_000, 7_400, { kind: 'server', tags: [tag('rpc.system', 'grpc'), tag('rpc.method', 'GetCart')] });
  t.add(cart, 'redis', 'HGETALL', 7_100, 1_900, { kind: 'client', tags: [tag('db.system', 'redis'), tag('db.query.text', 'HGETALL cart:4711')] });
  for (let item = 0; item < 3; item += 1) {
    const at = 14_000 + item * (stock / 3.2);
    const reserve = t.add(order, 'inventory', 'Reserve', at, stock / 3.4, { kind: 'server', tags: [tag('rpc.method', 'Reserve'), tag('inventory.sku', ['sku-114', 'sku-203', 'sku-998'][item])] });
    t.add(reserve, 'postgres', 'SELECT stock', at + 900, stock / 9, { kind: 'client', tags: sql('SELECT qty FROM stock WHERE sku = $1 FOR UPDATE', 1) });
    t.add(reserve, 'postgres', 'UPDATE stock', at + 900 + stock / 8, stock / 8, { kind: 'client', tags: sql('UPDATE stock SET qty = qty - $2 WHERE sku = $1', 1) });
  }
  const payAt = 14_000 + stock + 1_200;
  const charge = t.add(order, 'payment', 'Charge', payAt, pay, {
    kind: 'server',
    tags: [tag('rpc.method', 'Charge'), tag('payment.provider', 'acme-pay'), tag('payment.amount', 129.9), tag('payment.currency', 'EUR')],
    error: failed ? 'card declined: insufficient funds' : '',
    logs: failed
      ? [
          [pay * 0.12, 'provider.request', { 'http.request.method': 'POST', attempt: 1 }],
          [pay * 0.55, 'retry', { attempt: 2, reason: 'timeout after 40ms' }],
          [pay * 0.96, 'exception', { 'exception.type': 'CardDeclined', 'exception.message': 'insufficient funds', 'exception.stacktrace': 'CardDeclined: insufficient funds\n    at charge (payment.go:118)\n    at serve (server.go:52)' }],
        ]
      : [[pay * 0.1, 'provider.request', { attempt: 1 }], [pay * 0.93, 'provider.response', { 'http.response.status_code': 200 }]],
  });
  t.add(charge, 'payment', 'POST acme-pay/v2/charges', payAt + pay * 0.1, pay * 0.84, { kind: 'client', tags: http('POST', '/v2/charges', failed ? 402 : 200), error: failed ? '402 Payment Required' : '' });
  if (!failed) {
    const after = payAt + pay + 1_000;
    t.add(order, 'postgres', 'INSERT orders', after, 5_800, { kind: 'client', tags: sql('INSERT INTO orders (…) VALUES (…) RETURNING id', 1) });
    t.add(order, 'shipping', 'Quote', after + 6_200, 9_800, { kind: 'server', tags: [tag('rpc.method', 'Quote'), tag('shipping.carrier', 'parcel')] });
    t.add(order, 'shipping', 'publish order.created', after + 17_000, 2_300 + 60_000, { kind: 'producer', tags: [tag('messaging.system', 'kafka'), tag('messaging.destination.name', 'orders')] });
  }
  return t.build();
}

function product(rng, start_us) {
  const t = new TraceBuilder(rng, start_us);
  const ms = (least, spread) => (least + rng() * spread) * 1000;
  const total = ms(8, 24);
  const root = t.add(null, 'storefront', 'GET /product/{id}', 0, total, { kind: 'client', tags: http('GET', '/product/{id}', 200) });
  const edge = t.add(root, 'gateway', 'GET /api/product/{id}', total * 0.08, total * 0.85, { kind: 'server', tags: http('GET', '/api/product/{id}', 200) });
  const item = t.add(edge, 'inventory', 'GetItem', total * 0.15, total * 0.7, { kind: 'server', tags: [tag('rpc.method', 'GetItem')] });
  t.add(item, 'redis', 'GET', total * 0.2, total * 0.08, { kind: 'client', tags: [tag('db.system', 'redis'), tag('cache.hit', rng() < 0.7)] });
  if (rng() < 0.4) t.add(item, 'postgres', 'SELECT items', total * 0.32, total * 0.45, { kind: 'client', tags: sql('SELECT * FROM items WHERE id = $1', 1) });
  return t.build();
}

/** A nightly job with thousands of spans: what the virtual list is for. */
function reindex(rng, start_us) {
  const t = new TraceBuilder(rng, start_us);
  const root = t.add(null, 'inventory', 'reindex', 0, 42_000_000, { tags: [tag('job.name', 'reindex'), tag('job.items', 3_600)] });
  for (let batch = 0; batch < 60; batch += 1) {
    const at = batch * 690_000 + 20_000;
    const parent = t.add(root, 'inventory', `batch ${batch}`, at, 640_000, { tags: [tag('batch.index', batch)] });
    for (let item = 0; item < 60; item += 1) {
      const failed = rng() < 0.004;
      t.add(parent, 'postgres', 'UPSERT items', at + 4_000 + item * 10_400, 2_000 + rng() * 7_000, { kind: 'client', tags: sql('INSERT INTO items … ON CONFLICT …', 1), error: failed ? 'deadlock detected' : '' });
    }
  }
  return t.build();
}

export function makeTraces(now_ms) {
  const rng = random(7);
  const traces = [];
  for (let index = 0; index < 64; index += 1) {
    const start_us = (now_ms - 20_000 - Math.floor(rng() * 3_500_000)) * 1000 + Math.floor(rng() * 1000);
    traces.push(rng() < 0.55 ? checkout(rng, start_us, index % 9 === 0 ? traces[0]?.traceID : undefined) : product(rng, start_us));
  }
  traces.push(reindex(rng, (now_ms - 1_500_000) * 1000));
  return traces.sort((a, b) => b.spans[0].startTime - a.spans[0].startTime);
}

export const METRICS = {
  http_server_request_duration_seconds_bucket: null,
  http_server_request_duration_seconds_count: null,
  http_server_request_duration_seconds_sum: null,
  http_server_active_requests: { type: 'gauge', help: 'Requests in flight.', unit: '' },
  orders_placed_total: { type: 'counter', help: 'Orders placed, by outcome.', unit: '' },
  payment_amount_euros_total: { type: 'counter', help: 'Money charged.', unit: 'euros' },
  process_cpu_seconds_total: { type: 'counter', help: 'CPU time spent, user and system.', unit: 'seconds' },
  process_resident_memory_bytes: { type: 'gauge', help: 'Resident memory size.', unit: 'bytes' },
  queue_latency_seconds: { type: 'histogram', help: 'Time a message waits (native histogram).', unit: 'seconds' },
  target_info: { type: 'info', help: 'Resource attributes of the sender.', unit: '' },
  up: { type: 'gauge', help: '1 when the last scrape succeeded.', unit: '' },
};

export const METADATA = {
  ...Object.fromEntries(Object.entries(METRICS).filter(([, entry]) => entry).map(([name, entry]) => [name, [entry]])),
  http_server_request_duration_seconds: [{ type: 'histogram', help: 'Duration of HTTP server requests.', unit: 'seconds' }],
};

const METRIC_SERVICES = ['cart', 'checkout', 'gateway', 'inventory', 'payment'];

/** Deterministic curves: a daily swell, a ripple, some noise that depends on series and instant alone. */
export function curve(expression, series, time_s) {
  const noise = random(Math.floor(time_s) * 31 + series * 7919)();
  const swell = 1 + 0.35 * Math.sin(time_s / 1700 + series * 1.3);
  const incident = Math.exp(-(((time_s % 3600) - 2500) ** 2) / 90_000);
  if (/histogram_quantile|_duration_seconds/.test(expression)) return 0.03 * (series + 1) * swell * (0.85 + 0.3 * noise) * (1 + (series === 3 ? 4 * incident : 0));
  if (/_bytes/.test(expression)) return (90 + 55 * series) * 1048576 * (1 + 0.08 * Math.sin(time_s / 900 + series)) + noise * 4e6;
  if (/^up\b/.test(expression)) return 1;
  return (12 + 9 * series) * swell * (0.9 + 0.2 * noise);
}

export function seriesOf(expression) {
  if (/^\s*-?[\d.]+\s*$/.test(expression)) return [{}];
  if (/nothing/.test(expression)) return [];
  const name = /^[a-zA-Z_:][\w:]*/.exec(expression)?.[0] ?? '';
  const bare = name in METRICS ? { __name__: name } : {};
  if (/many/.test(expression)) return Array.from({ length: 260 }, (_, index) => ({ ...bare, pod: `worker-${index}`, service: METRIC_SERVICES[index % 5] }));
  return METRIC_SERVICES.map((service) => ({ ...bare, job: 'shop', service }));
}

export { SERVICES };
