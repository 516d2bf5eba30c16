//! Spans in RocksDB (the truth), search in tantivy (derived, rebuildable).
//!
//! [`SpanStore`] keeps the contract `pharos_storage::TraceStore` on one directory of a local disk:
//!
//! ```text
//! append → prepare (sender's thread) → log, one sync for all that wait (commit thread)
//!        → rows in the head, documents in the tail, names, calls → acknowledged
//! checkpoint (maintenance thread) → head sealed to columnar blocks in RocksDB, tantivy commit, log removed below
//! find   → tail and index of each day, newest day first, newest span first, until `limit` traces are sure
//! traces → rows in the heads and spans in the blocks of each day, joined
//! ```
//!
//! A span belongs to the partition of the UTC day it starts on; retention drops whole partitions. Formats:
//! `docs/log.md`, `docs/keys.md`, `docs/blocks.md`.
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
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "searches read blocks next"))]
mod search;
mod settings;
mod store;
mod terms;

pub use error::TraceStoreError;
pub use settings::{Components, Settings, SyncPolicy, TraceRetentionRule};
pub use store::SpanStore;
