//! Tempo's query API over a store of traces, so that Grafana's Tempo datasource works with the URL `http://host:9090/tempo`.
//!
//! All paths stand under `/tempo/` and `/select/{tenant}/tempo/`: Tempo's own, `/api/traces/{id}` and `/api/search` among them, are taken by Jaeger's API and
//! the user interface on the same ports. Handlers read parameters, hand the work to the query pool and render what the store
//! answers. Searches are TraceQL ([`traceql`]): tests on one span and on its trace; what is beyond is refused with its place.
//!
//! Source of shapes and codes: Tempo's HTTP API, and what Grafana's datasource asks for.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod call;
mod params;
mod routes;
mod search;
mod span_json;
mod tags;
#[cfg(test)]
mod tests;
mod trace;
pub mod traceql;

pub use routes::{TempoApi, router};
