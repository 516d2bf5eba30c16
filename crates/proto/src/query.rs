//! PromQL over gRPC, generated; `proto/README.md` says how.

/// Package `pharos.query.v1`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
pub mod v1;
