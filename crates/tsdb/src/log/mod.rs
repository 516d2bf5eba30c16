//! The log: every batch in order, synced before it is acknowledged, replayed at start.
//!
//! Bytes: `docs/wal.md`. One thread writes ([`crate::commit`]); recovery reads before that thread starts.

mod cut;
pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod segment;
