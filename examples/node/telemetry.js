// The set-up a service needs: exporters chosen by the standard environment variables.
// Nothing here is particular to Pharos: it speaks OTLP as it is.
//
//   OTEL_EXPORTER_OTLP_PROTOCOL   grpc, http/json or http/protobuf (the default)
//   OTEL_EXPORTER_OTLP_ENDPOINT   e.g. http://localhost:4317 (gRPC) or http://localhost:4318 (HTTP)
//   OTEL_EXPORTER_OTLP_HEADERS    Authorization=Bearer%20TOKEN
//
// The exporters read endpoint, headers, timeout, compression and certificates themselves.

import { context } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { setGlobalErrorHandler } from '@opentelemetry/core';
import { OTLPMetricExporter as GrpcMetricExporter } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPMetricExporter as JsonMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as GrpcTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as JsonTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

export const HTTP_JSON = 'http/json';

const exporters = {
  grpc: [GrpcTraceExporter, GrpcMetricExporter],
  'http/protobuf': [ProtoTraceExporter, ProtoMetricExporter],
  [HTTP_JSON]: [JsonTraceExporter, JsonMetricExporter],
};

/**
 * The value of OTEL_EXPORTER_OTLP_PROTOCOL. JavaScript has one package per protocol, so the
 * program, not the SDK, has to look at it.
 */
export function protocol() {
  const value = process.env.OTEL_EXPORTER_OTLP_PROTOCOL || 'http/protobuf';
  if (!(value in exporters)) {
    throw new Error(`OTEL_EXPORTER_OTLP_PROTOCOL=${value}: use ${Object.keys(exporters).join(' or ')}`);
  }
  return value;
}

/** Opens the span exporter of the chosen protocol. */
export function spanExporter() {
  const [Exporter] = exporters[protocol()];
  return new Exporter();
}

/** Opens the metric exporter of the chosen protocol. */
export function metricExporter() {
  const [, Exporter] = exporters[protocol()];
  return new Exporter();
}

/** Wires both exporters to one resource: what a service does once, at its start. */
export function providers(resource) {
  // Lets a span started in an async function know its parent.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const tracers = new TracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor({ exporter: spanExporter() })],
  });
  const meters = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: metricExporter() })],
  });
  return { tracers, meters };
}

/** Says on stderr what the SDK could not deliver, and remembers it: the SDK itself goes on. */
export function watchLosses() {
  const losses = { count: 0 };
  setGlobalErrorHandler((error) => {
    losses.count += 1;
    console.error('telemetry:', error.message ?? error);
  });
  return losses;
}
