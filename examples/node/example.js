// Sends traces and metrics to Pharos with the OpenTelemetry SDK for JavaScript.
//
//   node example.js                          a small shop: twenty orders as traces and metrics
//   node example.js --emit-reference FILE    everything the SDK can express, once; FILE says what was sent
//
// README.md in this folder says how to run it and what will be seen.

import { parseArgs } from 'node:util';

import { runConformance } from './conformance.js';
import { runShop } from './shop.js';
import { watchLosses } from './telemetry.js';

const { values: chosen } = parseArgs({
  options: {
    orders: { type: 'string', default: '20' },
    'emit-reference': { type: 'string' },
  },
});

const losses = watchLosses();
try {
  if (chosen['emit-reference']) {
    await runConformance(chosen['emit-reference'], losses);
  } else {
    await runShop(Number(chosen.orders));
  }
} catch (error) {
  losses.count += 1;
  console.error('example:', error.message);
}
process.exitCode = losses.count > 0 ? 1 : 0;
