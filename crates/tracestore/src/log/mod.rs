//! The log: accepted batches in order, synced before they are acknowledged.
//!
//! A log is a directory of segments. A segment is a header and frames; a frame is what one group commit
//! wrote and holds one record per batch. Every byte is specified in `docs/log.md`.
//!
//! Invariants
//! - L1 Sequences ascend by one from record to record, over all segments.
//! - L2 A frame is followed by another only after it was written whole; a frame that failed is cut off.
//! - L3 Bytes below a later frame's `synced_bytes` are never cut off at start: damage there is an error.
//! - L4 After a failed sync nothing is written any more, until the store is opened anew.

mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

#[cfg(feature = "internals")]
pub(crate) use frame::make_segment_right;
pub(crate) use frame::{RECORD_BYTES_MAX, decode_record, encode_record};
#[cfg(feature = "internals")]
pub(crate) use reader::ScannedLog;
pub(crate) use reader::scan;
pub(crate) use writer::{LogWriteError, LogWriter};
