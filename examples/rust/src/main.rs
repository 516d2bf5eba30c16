//! Sends traces and metrics to Pharos with the OpenTelemetry SDK for Rust.
//!
//! ```text
//! pharos-example-rust                          a small shop: twenty orders as traces and metrics
//! pharos-example-rust --emit-reference FILE    everything the SDK can express, once; FILE says what was sent
//! ```
//!
//! `README.md` in this folder says how to run it and what will be seen.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that shows the SDK and nothing of ours: it talks to its user and reads the clock"
)]

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

mod conformance;
mod conformance_metrics;
mod reference;
mod shop;
mod telemetry;

/// Any failure of a short program: printed, then exit code 1.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Sends traces and metrics to Pharos.
#[derive(Parser)]
struct Arguments {
    /// Orders to place before leaving.
    #[arg(long, default_value_t = 20)]
    orders: u32,
    /// The name of the service, as every OpenTelemetry SDK reads it.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "example-shop-rust")]
    service_name: String,
    /// The protocol, as every OpenTelemetry SDK reads it; here only to be shown.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = "http/protobuf", hide = true)]
    protocol: String,
    /// Send the reference workload and write what was sent to this file.
    #[arg(long, value_name = "FILE")]
    emit_reference: Option<PathBuf>,
}

// The gRPC exporter needs a Tokio runtime; the HTTP exporter brings its own thread.
#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    match &arguments.emit_reference {
        Some(path) => conformance::run(path, &arguments.protocol),
        None => shop::run(arguments.orders, &arguments.service_name, &arguments.protocol).await,
    }
}
