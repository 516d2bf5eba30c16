//! Tail sampling: whole traces are judged by policies before they are stored. Off by default.
//!
//! A request of spans is written to a log of its own and acknowledged then; its spans wait in memory. When a trace's time has
//! come ([`TailSamplingSettings::decision_wait`] after its first span), the policies judge it: it goes to the trace store,
//! with the probability of that in its trace state (`ot=th:…`), or it is forgotten. A late span follows the judgement of its
//! trace while that is remembered.
//!
//! Guarantees
//! - **Acknowledged is durable**: after a crash the log is read again, and what waited waits on. It is not visible: a trace that
//!   waits is in no answer yet, and nothing of a dropped one ever is.
//! - **Judged once**: what became of a trace is in the log before it is seen, so that a start neither judges nor stores again.
//! - **Deleted is deleted**: a deletion ([`GatedTraces`]) takes what waits, too, and a start does not bring it back.
//! - Metrics of spans are made before: they count what is dropped, too. So do dependencies: the store counts the calls of what is
//!   dropped (`TraceStore::count_calls`) when it is judged. A crash at that moment may cost some of these counts.
//! - Memory is bounded by `traces_max` and `memory_max`: above them the oldest traces of the tenant that takes most are judged
//!   early; above half as much again that tenant, and at twice as much everyone, is answered 'unavailable'.
//! - Turned off, a start stores what still waits in the log.
//!
//! For users: `docs/policies.md`. Backups hold what is stored, not what waits.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod examine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gated;
mod judging;
mod log;
mod ottl;
mod policy;
mod record;
mod replay;
mod sampler;
mod settings;
mod shared;
mod trace;
mod trace_state;
mod waiting;
mod writer;

pub use error::SamplingError;
pub use examine::{Examined, examine};
pub use gated::GatedTraces;
pub use sampler::{TailSampler, TailSamplerStats};
pub use settings::{Part, Percent, Policy, Rule, SettingsError, Status, TailSamplingSettings};
pub use shared::{Components, Decode};
