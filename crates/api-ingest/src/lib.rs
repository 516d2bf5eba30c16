//! The doors for writers: OTLP over gRPC and HTTP, Prometheus remote write, imports in text.
//!
//! Every door does the same: who is it (the gateway has asked already, the door checks scope and
//! tenant) → read the body, bounded → inflate, decode and append on a pool of blocking threads, bounded →
//! await the store → answer in the sender's dialect. A 2xx means durable. What was refused singly is
//! told, the rest is stored.
//!
//! Rules on which senders rely
//! - A body that can never be taken is 400, 413 or 415: senders drop it. Anything that may pass later is 429
//!   or 503 with `Retry-After`, on gRPC with `RetryInfo`: senders try again.
//! - A sample that is refused (too old, bad labels) never makes a sender repeat its batch for ever.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod hints;
mod import;
mod metrics;
mod otlp_http;
mod own_limits;
mod patience;
mod pool;
mod refuse;
mod remembered;
mod remote_write;
mod state;

pub use grpc::grpc_routes;
pub use hints::{hint_exports, otlp_grpc_hints, otlp_hints};
pub use remote_write::say_what_was_written;
pub use state::DoorState;

/// The doors over HTTP: OTLP, remote write and imports, under all their paths.
pub fn http_router(state: DoorState) -> axum::Router {
    otlp_http::router().merge(remote_write::router()).merge(import::router()).with_state(state)
}
