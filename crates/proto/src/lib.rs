//! Protobuf messages and nothing else: the Rust side of the top-level `proto/`.
//!
//! OTLP's messages come from the `opentelemetry-proto` crate. Types of this crate stop at `ingest`
//! and the API crates: no engine sees them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod exposition;
pub mod health;
pub mod jaeger;
pub mod query;
pub mod remote_read;
pub mod remote_write;
pub mod rpc;

/// Descriptors of all services that Pharos answers over gRPC, OTLP's among them, for reflection: an encoded
/// `google.protobuf.FileDescriptorSet`, generated.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");
