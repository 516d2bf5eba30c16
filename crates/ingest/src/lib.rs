//! Wire messages to model: inflating, decoding, translation, validation, limits.
//!
//! Pure and synchronous: bytes and settings in, a batch and what was refused of it out. No type of a
//! server crate appears here, and no function waits. [`Ingestor`] ties the steps together and hands
//! the batch to a store.
//!
//! What is refused singly (a sample too old, a span without an id) is a
//! [`Rejection`](pharos_storage::Rejection) and never takes the rest of its request along; what makes
//! the request unreadable or too large is an [`IngestError`], and nothing of it is stored.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod deflate;
mod error;
mod ha;
mod inflate;
mod ingestor;
mod limits;
mod native;
pub mod otlp;
mod relabel;
pub mod remote_write;
mod report;
mod shares;
mod sink;
mod starts;
pub mod text;
mod wire;

pub use deflate::deflate;
pub use error::IngestError;
pub use ha::{Duplicates, HaOverrides, HaRules, HaSettings, HaStats};
pub use inflate::{Encoding, inflate};
pub use ingestor::{IngestComponents, IngestSettings, Ingestor, Remembered};
pub use limits::{Limits, TimeWindow};
pub use report::{IngestReport, PendingReport};
pub use sink::DecodedMetrics;
