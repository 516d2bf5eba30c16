//! The set-up a service needs: exporters chosen by the standard environment variables.
//! Nothing here is particular to Pharos: it speaks OTLP as it is.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_PROTOCOL   grpc or http/protobuf (the default)
//! OTEL_EXPORTER_OTLP_ENDPOINT   e.g. http://localhost:4317 (gRPC) or http://localhost:4318 (HTTP)
//! OTEL_EXPORTER_OTLP_HEADERS    Authorization=Bearer%20TOKEN
//! ```
//!
//! The exporters read all of these, timeout and compression themselves.

use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::Outcome;

/// Wires both exporters to one resource: what a service does once, at its start.
pub(crate) fn providers(resource: &Resource) -> Outcome<(SdkTracerProvider, SdkMeterProvider)> {
    let tracers = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(SpanExporter::builder().build()?)
        .build();
    let meters = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_periodic_exporter(MetricExporter::builder().build()?)
        .build();
    Ok((tracers, meters))
}

/// Sends what is still queued, then closes both pipelines; without it the last batch is lost.
///
/// The flush comes first because it alone reports an export that failed.
pub(crate) fn close(tracers: &[&SdkTracerProvider], meters: &SdkMeterProvider) -> Outcome<()> {
    for provider in tracers {
        provider.force_flush()?;
        provider.shutdown()?;
    }
    meters.force_flush()?;
    meters.shutdown()?;
    Ok(())
}
