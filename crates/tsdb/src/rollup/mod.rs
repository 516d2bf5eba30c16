//! Rollups: for each series of a merged part and each bucket of five minutes or an hour what some range functions need
//! of its samples, in files beside them, so that queries over long times read these instead.
//!
//! They are an aid and never the truth: a query uses a cell only where the answer has the same bits as from the samples
//! (`coverage.rs`, `thin.rs`, `evaluate.rs`), and otherwise reads those. Bytes: `docs/rollup.md`.

mod block;
mod cells;
mod codec;
mod coverage;
mod cursor;
mod evaluate;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod grid;
mod resolution;
mod thin;
mod writer;

pub(crate) use cursor::{RollupCursor, Wanted};
pub(crate) use file::RollupFile;
pub use resolution::Resolution;
pub(crate) use thin::ThinSeries;
pub(crate) use writer::RollupWriter;

const MAGIC: [u8; 8] = *b"PHAROSRU";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 16;
/// Offset and length of the table of contents, version, magic.
const FOOTER_LEN: usize = 24;

#[cfg(test)]
mod tests;
