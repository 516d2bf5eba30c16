//! The doors from outside: real requests, a real gRPC client, stores in memory.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod fixture;
mod grpc;
mod hang_ups;
mod hints;
mod import;
mod limits;
mod otlp_duties;
mod otlp_http;
mod over_limits;
mod remote_write;
mod remote_write_duties;
mod whole_points;
