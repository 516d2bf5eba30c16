//! Jaeger's query service over gRPC, generated; `proto/README.md` says how.

/// Package `jaeger.api_v3`; traces are OTLP's own messages.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod api_v3;
