// The reference workload, part one: wiring, and the spans of ../README.md, "The workload".

import { randomBytes } from 'node:crypto';

import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  defaultTextMapGetter,
  defaultTextMapSetter,
  trace,
} from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

import { Instruments, SERVICE_NAMESPACE, VIEWS, expectedMetrics } from './conformance-metrics.js';
import { RecordingExporter, writeReference } from './reference.js';
import { HTTP_JSON, metricExporter, protocol, spanExporter } from './telemetry.js';

const FRONTEND_SERVICE = 'example-frontend-node';
const WAREHOUSE_SERVICE = 'example-warehouse-node';
const SCOPE = ['pharos.examples/conformance', '1.0.0', { schemaUrl: 'https://opentelemetry.io/schemas/1.26.0' }];

/** Sends the workload, waits until it is delivered, writes the reference unless something was lost. */
export async function runConformance(path, losses) {
  const started = unixNow();
  const instance = randomHex(8);
  const limits = {
    attributeCountLimit: 4,
    eventCountLimit: 2,
    linkCountLimit: 1,
    attributePerEventCountLimit: 1,
    attributePerLinkCountLimit: 1,
  };
  const [frontend, frontendSpans] = tracerProvider(resourceOf(FRONTEND_SERVICE, instance), {});
  const [warehouse, warehouseSpans] = tracerProvider(resourceOf(WAREHOUSE_SERVICE, instance), limits);
  const metricResource = resourceOf(FRONTEND_SERVICE, instance);
  const readers = [new PeriodicExportingMetricReader({ exporter: metricExporter() })];
  const meters = new MeterProvider({ resource: metricResource, readers, views: VIEWS });
  const instruments = new Instruments(meters.getMeter(...SCOPE));

  sendSpans(frontend.getTracer(...SCOPE), warehouse.getTracer('warehouse'), started);
  instruments.record();
  await Promise.all([frontend.shutdown(), warehouse.shutdown(), meters.shutdown()]);
  if (losses.count > 0) return;

  const series = expectedMetrics(metricResource.attributes);
  const resourceSpans = [frontendSpans.resourceSpans(), warehouseSpans.resourceSpans()];
  // No exemplars: the SDK of 2.12 does not collect any.
  await writeReference(path, { window: [started, unixNow()], resourceSpans, series, exemplars: [] });
  const count = frontendSpans.spans.length + warehouseSpans.spans.length;
  console.log(`sent ${count} spans and ${series.length} series by ${protocol()}`);
}

function tracerProvider(resource, spanLimits) {
  const recording = new RecordingExporter(spanExporter());
  const spanProcessors = [new BatchSpanProcessor({ exporter: recording })];
  return [new TracerProvider({ resource, spanLimits, spanProcessors }), recording];
}

/** `instance` tells one run from the next. */
function resourceOf(service, instance) {
  return resourceFromAttributes({
    'service.name': service,
    'service.namespace': SERVICE_NAMESPACE,
    'service.instance.id': instance,
    'service.version': '1.2.3',
    'deployment.environment.name': 'Prüfstand',
    'example.replicas': 3,
    'example.canary': true,
    'example.weight': 0.5,
    'example.zones': ['a', 'b'],
    'telemetry.sdk.language': 'nodejs',
  });
}

/**
 * Sends two traces over two services. Times are stated to the nanosecond, so that a backend that
 * rounds is found out.
 */
function sendSpans(frontend, warehouse, started) {
  const at = (nanoseconds) => hrTime(started + BigInt(nanoseconds));
  const within = (span) => trace.setSpan(ROOT_CONTEXT, span);
  const propagator = new W3CTraceContextPropagator();
  const headers = {
    traceparent: `00-${randomHex(16)}-${randomHex(8)}-01`,
    tracestate: 'pharos=example,congo=t61rcWkgMzE',
  };
  const incoming = propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
  const checkout = frontend.startSpan(
    'GET /checkout',
    { kind: SpanKind.SERVER, attributes: everyType(), startTime: at(0) },
    incoming,
  );

  const cart = frontend.startSpan('validate cart', { startTime: at(1_000_001) }, within(checkout));
  cart.addEvent('cart.loaded', { 'cart.items': 3, note: 'naïve 東京', cached: false }, at(1_000_002));
  cart.addEvent('cart.priced', at(1_234_567));
  cart.setStatus({ code: SpanStatusCode.OK });
  cart.end(at(1_999_999));

  const client = frontend.startSpan(
    'POST /reserve',
    { kind: SpanKind.CLIENT, startTime: at(2_000_003) },
    within(checkout),
  );
  const wire = {};
  propagator.inject(within(client), wire, defaultTextMapSetter);
  // Two links, each with two attributes, where one of each is allowed.
  const links = [cart, checkout].map((span, number) => ({
    context: span.spanContext(),
    attributes: { number, beyond: 'the limit' },
  }));
  const reserve = warehouse.startSpan(
    'reserve stock',
    { kind: SpanKind.SERVER, links, startTime: at(2_100_007) },
    propagator.extract(ROOT_CONTEXT, wire, defaultTextMapGetter),
  );
  for (let shelf = 0; shelf < 6; shelf += 1) reserve.setAttribute(`shelf.${shelf}`, shelf);
  for (let number = 0; number < 3; number += 1) {
    reserve.addEvent('try', { number, beyond: 'the limit' }, at(2_200_000 + number));
  }
  const query = warehouse.startSpan(
    'SELECT stock',
    { kind: SpanKind.CLIENT, startTime: at(2_300_000) },
    within(reserve),
  );
  query.addEvent('exception', { 'exception.message': 'deadlock' }, at(2_400_009));
  query.setStatus({ code: SpanStatusCode.ERROR, message: 'deadlock detected: Zeile 7 “stock”' });
  query.end(at(2_500_000));
  reserve.end(at(2_600_000));
  client.end(at(2_700_000));

  const publish = frontend.startSpan(
    'orders publish',
    { kind: SpanKind.PRODUCER, startTime: at(3_000_000) },
    within(checkout),
  );
  publish.end(at(3_000_900));
  checkout.end(at(4_000_000));

  const received = [{ context: publish.spanContext(), attributes: { 'messaging.operation': 'receive' } }];
  const processing = warehouse.startSpan(
    'orders process',
    { kind: SpanKind.CONSUMER, links: received, startTime: at(5_000_000) },
    ROOT_CONTEXT,
  );
  const ship = warehouse.startSpan('🚚 Versand 発送', { startTime: at(5_000_001) }, within(processing));
  ship.end(at(5_000_001));
  processing.end(at(6_000_000));
}

/** One attribute of every type and every awkward value the SDK can express. */
function everyType() {
  return {
    'http.request.method': 'GET',
    'example.empty': '',
    'example.unicode': 'Zürich 東京 🚚 "quoted" back\\slash\nnew line',
    schlüssel: 'wert',
    'example.true': true,
    'example.false': false,
    'example.int': 42,
    'example.int.max': Number.MAX_SAFE_INTEGER,
    'example.int.min': Number.MIN_SAFE_INTEGER,
    'example.double': 0.1,
    'example.double.digits': 0.0017000000000000001,
    'example.double.tiny': Number.MIN_VALUE,
    'example.strings': ['a', '', '東京'],
    'example.bools': [true, false],
    'example.ints': [1, -2],
    'example.doubles': [0.1, 2.5],
    'example.nothing': [],
    // Whole numbers beyond 2^53: the JSON exporter of 0.223 writes rounded digits for the first and
    // an integer beyond 64 bits for the second.
    ...(protocol() === HTTP_JSON
      ? {}
      : { 'example.int.beyond_double': 2 ** 60, 'example.double.huge': Number.MAX_VALUE }),
  };
}

function unixNow() {
  return BigInt(Date.now()) * 1_000_000n;
}

function hrTime(unixNano) {
  return [Number(unixNano / 1_000_000_000n), Number(unixNano % 1_000_000_000n)];
}

function randomHex(bytes) {
  return randomBytes(bytes).toString('hex');
}
