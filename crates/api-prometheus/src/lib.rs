//! The Prometheus query API over the PromQL engine.
//!
//! Handlers read parameters, hand the work to a bounded pool of blocking threads and stream JSON back.
//! A client that hangs up cancels its query. The tenant comes from the gateway's principal and, below
//! `/select/{tenant}`, from the path.
//!
//! Source of shapes, codes and limits: Prometheus 3.14's HTTP API.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod active;
mod admin;
mod call;
mod delete;
mod evaluate;
mod exemplars;
mod export;
mod features;
mod federate;
mod grpc;
mod json;
mod labels;
mod listed;
mod metadata;
mod notifications;
mod number;
mod openapi;
mod own_metrics;
mod params;
mod query;
mod read;
mod reply;
mod routes;
mod search;
mod status;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;

pub use grpc::grpc_routes;
pub use routes::{ApiSettings, BuildInfo, Gates, PrometheusApi, router};
