//! Reads what Prometheus keeps on disk, to bring it elsewhere: blocks with their tombstones, and the write-ahead logs of
//! the head, which alone have the last two hours.
//!
//! ```text
//! DataFolder::open ─┬─ blocks ── Block ── next_series, points      meta.json, index, chunks/, tombstones
//!                   └─ head ──── Head ─── labels; next             wal/checkpoint.N/, wal/, wbl/
//! ```
//!
//! Formats: Prometheus 2.0 to 3.14, `tsdb/docs/format` there. Every chunk encoding (floats by XOR and XOR2, native
//! histograms with integer, float and custom buckets, each with and without start timestamps) and every log record that
//! carries data are read.
//!
//! Invariants
//! - P1 Whatever the bytes say, nothing panics, and memory is bounded by a small multiple of the unit that is read.
//! - P2 Every unit's checksum is verified. What is damaged is told with file and offset, and the rest is read.
//! - P3 Nothing is written or locked. Reading beside a running Prometheus is harmless, but it may drop files meanwhile.
//!
//! `chunks_head/` is not read: the log holds all of its samples until both are dropped together.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bits;
mod block;
mod bytes;
mod chunk;
mod error;
mod file;
mod folder;
mod head;
mod index;
mod log;
mod meta;
mod points;
mod record;
mod segments;
mod tombstones;

pub use block::{Block, BlockPlace};
pub use chunk::decode_chunk;
pub use error::{Damage, DataError, OnDamage};
pub use folder::DataFolder;
pub use head::{Head, HeadPoints};
pub use points::{FloatPoint, HistogramPoint, Points};
