//! gRPC's health check, generated; `proto/README.md` says how.

/// Package `grpc.health.v1`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod v1;
