//! How services perform: Jaeger's monitor, answered from metrics that were made of spans.
//!
//! What Jaeger asks a Prometheus for over the network is asked here of the engine in this process, in the same names. Durations
//! may be native histograms, as Pharos makes them itself, or classic ones of a collector that sends its own.
//!
//! Source: Jaeger 2.20, its metric store over Prometheus and the handlers of `/api/metrics/`.

mod answer;
mod grpc;
mod http;
mod json;
mod question;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use grpc::routes as grpc_routes;
pub(crate) use http::{calls, errors, latencies};
pub use settings::{LatencyUnit, MonitorSettings};

/// What is said where there are no metrics of spans to ask for.
const DISABLED: &str = "metrics querying is currently disabled";
