//! What every engine must do, as functions that panic where it does not.
//!
//! An engine's tests hand in a way to open an empty store; the in-memory stores of this crate are the oracle.

mod claiming;
mod grids;
pub mod groups;
pub mod metrics;
mod pieces;
pub mod traces;

pub use claiming::Claiming;
pub use metrics::metric_store_suite;
