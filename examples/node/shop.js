// The everyday program: a shop that serves orders, asks a warehouse and counts what it does.
// Read this one to see how a service is instrumented.

import { setTimeout as sleep } from 'node:timers/promises';

import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';

import { protocol, providers } from './telemetry.js';

/** Places `orders` orders and sends everything before it returns. */
export async function runShop(orders) {
  // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over the default given here.
  const defaults = resourceFromAttributes({ 'service.name': 'example-shop-node' });
  const { tracers, meters } = providers(defaults.merge(detectResources({ detectors: [envDetector] })));
  const shop = new Shop(tracers.getTracer('pharos.examples/shop'), meters.getMeter('pharos.examples/shop'));

  let last = '';
  for (let number = 0; number < orders; number += 1) {
    last = await shop.placeOrder(number);
  }
  // Shutdown flushes both pipelines; without it the last batch is lost.
  await Promise.all([tracers.shutdown(), meters.shutdown()]);
  console.log(`sent ${orders} orders by ${protocol()}; the last trace is ${last}`);
}

class Shop {
  #tracer;
  #orders;
  #duration;

  constructor(tracer, meter) {
    this.#tracer = tracer;
    this.#orders = meter.createCounter('shop.orders', { unit: '{order}', description: 'Orders by outcome.' });
    this.#duration = meter.createHistogram('shop.order.duration', {
      unit: 's',
      description: 'Time to place an order.',
      advice: { explicitBucketBoundaries: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25] },
    });
  }

  /** Serves one traced request and returns its trace id; every seventh meets an empty shelf. */
  async placeOrder(number) {
    const started = performance.now();
    const options = { kind: SpanKind.SERVER, attributes: { 'shop.order.number': number } };
    return this.#tracer.startActiveSpan('POST /orders', options, async (span) => {
      let outcome = 'accepted';
      try {
        await this.#reserve(number);
      } catch (error) {
        outcome = 'sold out';
        span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
      }
      this.#orders.add(1, { 'shop.outcome': outcome });
      this.#duration.record((performance.now() - started) / 1000, { 'shop.outcome': outcome });
      span.end();
      return span.spanContext().traceId;
    });
  }

  async #reserve(number) {
    await this.#tracer.startActiveSpan('reserve stock', async (span) => {
      try {
        await sleep(1 + Math.random() * 40);
        if (number % 7 === 6) throw new Error('the shelf is empty');
        span.addEvent('reserved', { 'shop.shelf': number % 3 });
      } catch (error) {
        span.recordException(error);
        span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
        throw error;
      } finally {
        span.end();
      }
    });
  }
}
