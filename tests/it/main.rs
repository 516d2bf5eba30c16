//! End-to-end tests: the real binary, real clients, real servers, on loopback.
//!
//! `make test-e2e` builds the release binary, installs the peers and runs these; a peer that is missing is a failure.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for real programs, by the real clock, found through the environment"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod backup;
mod bad_input;
mod doctor;
mod durability;
mod full_disk;
mod grafana;
mod hostile;
mod import;
mod jaeger_storage;
mod jaeger_suite;
mod jaeger_ui;
mod jwt;
mod limits;
mod loadgen;
mod native_histograms;
mod nginx;
mod otlp;
mod otlp_duties;
mod peers;
mod queries;
mod remote_read;
mod remote_write_duties;
mod sampling;
mod sdks;
mod secrets;
mod span_metrics;
mod start;
mod tempo;
mod tls;
mod tokens;
mod ui;
