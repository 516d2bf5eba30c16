// The reference workload, part two: every kind of metric, and the series Prometheus clients see.

import { AggregationType } from '@opentelemetry/sdk-metrics';

export const SERVICE_NAMESPACE = 'pharos.examples';

/** One instrument becomes an exponential histogram. */
export const VIEWS = [
  {
    instrumentName: 'shop.payload.size',
    aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM, options: { maxSize: 160 } },
  },
];

/** Every kind of instrument once. */
export class Instruments {
  #orders;
  #revenue;
  #cartItems;
  #temperature;
  #duration;
  #payload;

  constructor(meter) {
    this.#orders = meter.createCounter('shop.orders', { unit: '{order}', description: 'Orders placed.' });
    this.#revenue = meter.createCounter('shop.revenue', { unit: 'EUR', description: 'Money taken.' });
    this.#cartItems = meter.createUpDownCounter('shop.cart.items', { description: 'Items in open carts.' });
    this.#temperature = meter.createGauge('shop.room.temperature', { unit: 'Cel', description: 'Cold store.' });
    this.#duration = meter.createHistogram('shop.request.duration', {
      unit: 's',
      description: 'Time per request.',
      advice: { explicitBucketBoundaries: [0.01, 0.1, 1] },
    });
    this.#payload = meter.createHistogram('shop.payload.size', { unit: 'By', description: 'Size per request.' });
    meter
      .createObservableGauge('shop.queue.utilization', { unit: '1', description: 'Queue fill.' })
      .addCallback((result) => result.observe(0.25, { queue: '発送' }));
    meter
      .createObservableCounter('shop.network.sent', { unit: 'By', description: 'Bytes sent.' })
      .addCallback((result) => result.observe(2 ** 40));
    meter
      .createObservableUpDownCounter('shop.workers', { description: 'Workers on duty.' })
      .addCallback((result) => result.observe(4));
  }

  /** Measures every instrument. */
  record() {
    const labelled = {
      'payment.method': 'card',
      city: 'Zürich 東京 🚚',
      returning: true,
      tier: 2,
      share: 0.5,
      '1st.visit': '"yes"',
    };
    this.#orders.add(41, labelled);
    this.#orders.add(1, labelled);
    this.#orders.add(7);
    this.#revenue.add(0.1);
    this.#revenue.add(0.2);
    this.#cartItems.add(5);
    this.#cartItems.add(-7);
    this.#temperature.record(-18.5);
    for (const seconds of [0.005, 0.25, 3]) this.#duration.record(seconds, { 'http.route': '/checkout' });
    for (const size of [0, 1, 2, 2, 4, 8]) this.#payload.record(size);
  }
}

/** What PromQL must answer. */
export function expectedMetrics(resource) {
  const target = {
    job: `${SERVICE_NAMESPACE}/${resource['service.name']}`,
    instance: resource['service.instance.id'],
  };
  const named = (name, labels = {}) => ({ __name__: name, ...target, ...labels });
  const series = [];
  const add = (type, help, value, labels) => series.push({ labels, type, help, value: String(value) });

  const orders = {
    payment_method: 'card',
    city: 'Zürich 東京 🚚',
    returning: 'true',
    tier: '2',
    share: '0.5',
    key_1st_visit: '"yes"',
  };
  add('counter', 'Orders placed.', 42, named('shop_orders_total', orders));
  add('counter', 'Orders placed.', 7, named('shop_orders_total'));
  add('counter', 'Money taken.', 0.1 + 0.2, named('shop_revenue_EUR_total'));
  add('gauge', 'Items in open carts.', -2, named('shop_cart_items'));
  add('gauge', 'Cold store.', -18.5, named('shop_room_temperature_celsius'));
  add('gauge', 'Queue fill.', 0.25, named('shop_queue_utilization_ratio', { queue: '発送' }));
  add('counter', 'Bytes sent.', 2 ** 40, named('shop_network_sent_bytes_total'));
  add('gauge', 'Workers on duty.', 4, named('shop_workers'));

  const [duration, help, route] = ['shop_request_duration_seconds', 'Time per request.', { http_route: '/checkout' }];
  for (const [le, count] of [['0.01', 1], ['0.1', 1], ['1', 2], ['+Inf', 3]]) {
    add('histogram', help, count, named(`${duration}_bucket`, { ...route, le }));
  }
  add('histogram', help, 3, named(`${duration}_count`, route));
  add('histogram', help, 0.005 + 0.25 + 3, named(`${duration}_sum`, route));

  // 1, 2, 4 and 8 in 160 buckets: scale 5 is the finest that holds three octaves.
  const positive = [[-1, '1'], [31, '2'], [63, '1'], [95, '1']];
  series.push({
    labels: named('shop_payload_size_bytes'),
    type: 'histogram',
    help: 'Size per request.',
    histogram: { scale: 5, zeroCount: '1', count: '6', sum: '17', positive },
  });

  const identity = ['service.name', 'service.namespace', 'service.instance.id']; // In job and instance.
  const info = Object.entries(resource)
    .filter(([key]) => !identity.includes(key))
    .map(([key, value]) => [key.replaceAll('.', '_'), Array.isArray(value) ? JSON.stringify(value) : String(value)]);
  add('gauge', 'Target metadata', 1, named('target_info', Object.fromEntries(info)));
  return series;
}
