//! A small simulated shop that sends traces and metrics through the real doors, so that a newcomer sees
//! live data within seconds.
//!
//! It is an ordinary OTLP/gRPC client with a token and knows nothing of the server's inside. Requests follow
//! fixed call trees through six services with random latencies; every few minutes the payment provider
//! has a bad moment, which shows in rates, in latencies and in traces. At the start half an hour of history
//! is sent, so that graphs are not empty.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod calls;
mod export;
mod meters;
mod otlp;
mod shop;
mod traffic;

pub use shop::{Shop, ShopSettings};
