//! Metrics on disk: log, head, parts, index, compaction, retention.
//!
//! [`Tsdb`] implements [`pharos_storage::MetricStore`] on local files. A batch is encoded on the
//! caller's thread, written and synced with all others that wait by one commit thread ([`mod@commit`]),
//! and only then visible in the head. The head is flushed to immutable parts by time window; parts are
//! merged into larger windows and deleted whole when retention has passed.
//!
//! Bytes on disk: `docs/wal.md`, `docs/part.md`, `docs/rollup.md`.
//!
//! Invariants
//! - T1 What is acknowledged is in a synced log segment or in durable parts, at every instant.
//! - T2 Precedence: of two samples at one instant the later appended wins. Parts carry it as their
//!   sequence, generations and chunks as their order.
//! - T3 A flush holds no lock while it writes: readers and writers go on.
//! - T4 Damage is reported with file and offset and never guessed around.
//!
//! Lock order: compacting, a tenant's `deleting`, `parts_stay`, flushing, tenants, a tenant's state, registry, buffers, exemplars. The
//! commit queue's lock is taken alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aggregate;
mod body;
mod cache;
mod cardinality;
mod commit;
mod compact;
mod contract;
mod copied;
mod counted;
mod damage;
mod disk;
mod distinct;
mod error;
mod expire;
mod flush;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grid;
mod head;
mod index;
mod instant;
mod leaf;
mod listing;
mod log;
mod maintenance;
mod masks;
mod merge;
mod merge_exemplars;
mod merge_plan;
mod metadata;
mod narrow;
mod newcomers;
mod newest;
mod open;
mod pace;
mod part;
mod pattern;
mod pieces;
mod read;
mod retention;
mod rollup;
mod samples;
mod settings;
mod shared;
mod small_file;
mod snapshot;
mod source;
mod store;
mod tenant;
mod tombstones;
mod windows;

pub use disk::{Disk, DiskFile, RealDisk};
pub use error::TsdbError;
pub use retention::RetentionRule;
pub use rollup::Resolution;
pub use settings::{Settings, SyncPolicy};
pub use store::{Components, SeriesLimits, Tsdb};
