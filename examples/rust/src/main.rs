//! Sends traces and metrics with the OpenTelemetry SDK for Rust.
fn main() {}
