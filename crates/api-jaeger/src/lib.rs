//! The Jaeger query APIs over a store of traces: v1 and v3 over HTTP; over gRPC v3, `api_v2` and `jaeger.storage.v2`, by
//! which a stock Jaeger uses Pharos as its storage.
//!
//! Handlers read parameters, hand the work to the query pool and render what the store answers. Every path
//! stands under `/`, under `/jaeger/` and under `/select/{tenant}/jaeger/`. Searching without a service is allowed; Jaeger itself asks for one.
//!
//! Source of shapes and codes: Jaeger 2.20's query service.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adjust;
#[cfg(test)]
mod bounds_tests;
mod call;
mod duration;
mod filter;
mod filter_tree;
mod grpc;
mod grpc_call;
mod grpc_messages;
mod grpc_params;
mod grpc_storage;
mod grpc_storage_params;
#[cfg(test)]
mod grpc_storage_tests;
mod grpc_stream;
#[cfg(test)]
mod grpc_tests;
mod grpc_v2;
mod grpc_v2_model;
mod grpc_v2_params;
#[cfg(test)]
mod grpc_v2_tests;
mod json_text;
mod listed;
mod monitor;
mod params;
mod rendering;
mod routes;
mod settings;
#[cfg(test)]
mod tests;
mod told;
mod trace_id;
mod ui;
mod v1;
mod v1_json;
mod v1_model;
mod v1_params;
mod v1_transform;
mod v3;
mod v3_params;

pub use grpc::{GRPC_SERVICES, grpc_routes};
pub use monitor::{LatencyUnit, MonitorSettings};
pub use routes::{JaegerApi, router};
pub use settings::Settings;
pub use ui::{JaegerUi, UiBuild, UiCapabilities, UiError};
