//! Tail sampling: whole traces are judged by policies before they are stored. Off by default.
//!
//! A request of spans is written to a log of its own and acknowledged then; its spans wait in memory. When a trace's time has
//! come ([`TailSamplingSettings::decision_wait`] after its first span), the policies judge it: it goes to the trace store,
//! with the probability of that in its trace state (`ot=th:…`), or it is forgotten. A late span follows the judgement of its
//! trace while that is remembered.
//!
//! Guarantees
//! - **Acknowledged is durable**: after a crash the log is read again and what waited waits anew. What was stored before the
//!   crash is stored again, which changes nothing. It is not visible: a trace that waits is in no answer yet, and nothing of
//!   a dropped one ever is.
//! - Metrics of spans are made before: they count what is dropped, too.
//! - Memory is bounded by `traces_max` and `memory_max`: above them the oldest traces are judged early, and at twice the
//!   memory requests are answered 'unavailable'.
//! - Turned off, a start stores what still waits in the log.
//!
//! Judgements are in memory only: after a start, spans of a trace that was judged before are a new trace. Backups hold what
//! is stored, not what waits.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod log;
mod policy;
mod replay;
mod sampler;
mod settings;
mod trace_state;
mod waiting;
mod writer;

pub use error::SamplingError;
pub use sampler::{Components, Decode, TailSampler, TailSamplerStats};
pub use settings::{Part, Percent, Policy, Rule, SettingsError, Status, TailSamplingSettings};
