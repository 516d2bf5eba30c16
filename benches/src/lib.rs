//! What the benches share: seeded loads, and stores in folders that go away.
//!
//! Each bench runs in two sizes: in full under `cargo bench`, and once over a small load under `cargo test`,
//! which shows that it works and measures nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod metrics;
mod spans;

pub use metrics::{MetricLoad, SCRAPE_MS, START_MS, open_metrics};
pub use spans::{SPANS_PER_TRACE, SpanLoad, open_traces};

/// Starts every pseudo-random sequence, so that two runs do the same work.
pub const SEED: u64 = 42;

/// `full` when something is measured, `small` when a test only wants to see the bench work.
#[must_use]
pub fn sized<T>(full: T, small: T) -> T {
    // Cargo says `--bench` to a bench, and nothing to the same program when it is a test.
    if std::env::args().any(|argument| argument == "--bench") { full } else { small }
}
