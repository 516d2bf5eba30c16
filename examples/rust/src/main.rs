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
    /// Send the reference workload and write what was sent to this file.
    #[arg(long, value_name = "FILE")]
    emit_reference: Option<PathBuf>,
}

// The gRPC exporter needs a Tokio runtime; the HTTP exporter brings its own thread.
#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    // The exporters read this one themselves; here it is only told.
    let protocol = variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    if let Some(path) = &arguments.emit_reference {
        return conformance::run(path, &protocol);
    }
    shop::run(arguments.orders, &variable("OTEL_SERVICE_NAME", "example-shop-rust"), &protocol).await
}

/// A variable of the environment; empty counts as absent, as every OpenTelemetry SDK has it.
fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
