//! Spans in RocksDB (the truth), search in tantivy (derived, rebuildable).
//!
//! [`SpanStore`] keeps the contract `pharos_storage::TraceStore` on one directory of a local disk:
//!
//! ```text
//! append → prepare (sender's thread) → log, one sync for all that wait (commit thread)
//!        → rows in the head, numbers in the tail, names, calls → acknowledged
//! checkpoint (maintenance thread) → head sealed to columnar blocks in RocksDB, their words to tantivy, log removed below
//! find   → each day, newest first: tail, then the blocks that the index proposes, newest first, until `limit` traces are sure
//! traces → rows in the heads and spans in the blocks of each day, joined
//! ```
//!
//! A span belongs to the partition of the UTC day it starts on; retention drops whole partitions. Formats:
//! `docs/log.md`, `docs/keys.md`, `docs/blocks.md`, `docs/search.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod block;
mod calls;
mod codec;
mod disk;
mod error;
#[cfg(feature = "internals")]
pub mod internals;
mod log;
mod partition;
mod record;
mod search;
mod settings;
mod store;
mod unreadable;

pub use error::TraceStoreError;
pub use settings::{Components, Settings, SyncPolicy, TraceRetentionRule};
pub use store::{Examination, Repair, SpanStore};
