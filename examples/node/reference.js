// What was sent, as ../README.md specifies it: spans as OTLP/JSON, taken from the SDK on their way
// to the exporter; metric series as Prometheus shows them, stated beside each instrument.

import { writeFile } from 'node:fs/promises';

import { ExportResultCode } from '@opentelemetry/core';
import { defaultResource } from '@opentelemetry/resources';

import { protocol } from './telemetry.js';

const SCHEMA = 'pharos-example-reference/1';
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

/** Keeps what it passes on. */
export class RecordingExporter {
  #inner;
  spans = [];

  constructor(inner) {
    this.#inner = inner;
  }

  export(spans, done) {
    this.#inner.export(spans, (result) => {
      if (result.code === ExportResultCode.SUCCESS) this.spans.push(...spans);
      done(result);
    });
  }

  shutdown() {
    return this.#inner.shutdown();
  }

  forceFlush() {
    return this.#inner.forceFlush();
  }

  /** The recorded spans, which share one resource and one scope. */
  resourceSpans() {
    const { resource, instrumentationScope: scope } = this.spans[0];
    return {
      resource: { attributes: attributes(resource.attributes) },
      schemaUrl: resource.schemaUrl ?? '',
      scopeSpans: [
        {
          scope: { name: scope.name, version: scope.version ?? '', attributes: [] },
          schemaUrl: scope.schemaUrl ?? '',
          spans: this.spans.map(otlpSpan),
        },
      ],
    };
  }
}

/** Writes the reference file. */
export async function writeReference(path, { window, resourceSpans, series, exemplars }) {
  const content = {
    schema: SCHEMA,
    sdk: { language: 'node', version: defaultResource().attributes['telemetry.sdk.version'], protocol: protocol() },
    window: { startUnixNano: String(window[0]), endUnixNano: String(window[1]) },
    resourceSpans,
    series,
    exemplars,
  };
  await writeFile(path, `${JSON.stringify(content, null, 2)}\n`);
}

function otlpSpan(span) {
  const context = span.spanContext();
  return {
    traceId: context.traceId,
    spanId: context.spanId,
    parentSpanId: span.parentSpanContext?.spanId ?? '',
    traceState: context.traceState?.serialize() ?? '',
    flags: flags(context, span.parentSpanContext),
    name: span.name,
    kind: span.kind + 1, // The SDK counts from internal = 0, OTLP from unspecified = 0.
    startTimeUnixNano: unixNano(span.startTime),
    endTimeUnixNano: unixNano(span.endTime),
    attributes: attributes(span.attributes),
    events: span.events.map((event) => ({
      name: event.name,
      timeUnixNano: unixNano(event.time),
      attributes: attributes(event.attributes),
      droppedAttributesCount: event.droppedAttributesCount ?? 0,
    })),
    links: span.links.map((link) => ({
      traceId: link.context.traceId,
      spanId: link.context.spanId,
      traceState: link.context.traceState?.serialize() ?? '',
      flags: flags(link.context, link.context),
      attributes: attributes(link.attributes),
      droppedAttributesCount: link.droppedAttributesCount ?? 0,
    })),
    droppedAttributesCount: span.droppedAttributesCount,
    droppedEventsCount: span.droppedEventsCount,
    droppedLinksCount: span.droppedLinksCount,
    status: { code: span.status.code, message: span.status.message ?? '' },
  };
}

/** The W3C flags and, above them, whether the parent is known to be remote. */
function flags(context, parent) {
  return context.traceFlags | HAS_IS_REMOTE | (parent?.isRemote ? IS_REMOTE : 0);
}

function unixNano([seconds, nanoseconds]) {
  return String(BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds));
}

function attributes(from) {
  return Object.entries(from ?? {}).map(([key, value]) => ({ key, value: anyValue(value) }));
}

/** JavaScript has one type of number: a whole one travels as an integer. */
function anyValue(value) {
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'string') return { stringValue: value };
  const asInteger = Number.isInteger(value) && Math.abs(value) < 2 ** 63;
  return asInteger ? { intValue: String(BigInt(value)) } : { doubleValue: value };
}
