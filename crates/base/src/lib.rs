//! What std lacks, with no words of the telemetry domain: clocks, sizes, durations, secrets,
//! completions, cancellation.
//!
//! This crate alone may ask the operating system for the time, for randomness and for threads;
//! everything else takes them as values, so that engines stay deterministic under test.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod budget;
mod cancel;
mod chain;
mod class;
mod clock;
mod completion;
mod crossing;
mod parallel;
mod random;
mod secret;
mod sort;
mod threads;
mod units;

pub use budget::{BudgetBound, BudgetExceeded, MemoryBudget, Reservation};
pub use cancel::{CancelToken, Interrupted};
pub use chain::full_message;
pub use class::ErrorClass;
pub use clock::{Clock, SimClock, SystemClock};
pub use completion::{Completer, Completion};
pub use crossing::Crossing;
pub use parallel::{Helpers, InOrder, Lent, Work, in_order};
pub use random::random_bytes;
pub use secret::Secret;
pub use sort::sort_checked;
pub use threads::{available_cores, lower_priority, run_beside, run_with_helpers, run_with_stack, spawn_named};
pub use units::{ByteSize, HumanDuration, ParseUnitError};
