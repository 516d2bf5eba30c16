//! In-memory stores: the plainest code that keeps every rule, and so the oracle of all other engines.
//!
//! Nothing here is durable and nothing is fast; tests and the PromQL script runner use it.

mod metrics;
mod traces;

pub use metrics::MemoryMetricStore;
pub use traces::MemoryTraceStore;
