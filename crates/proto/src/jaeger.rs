//! Jaeger's services over gRPC, generated; `proto/README.md` says how. Traces are OTLP's own messages, but for `api_v2`.

/// Package `jaeger.api_v2`: queries in Jaeger's own model of spans.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod api_v2;
/// Package `jaeger.api_v3`: queries in OTLP's messages.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod api_v3;
/// Package `jaeger.expression.v1`: the structured filter.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod expression_v1;
/// Package `jaeger.api_v2.metrics`: metrics of services.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod metrics;
/// Package `jaeger.storage.v2`: what a stock Jaeger asks a remote storage.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod storage_v2;
