//! Sample codecs: pure functions on bytes, without I/O, clocks or state.
//!
//! A series' share of a time window is a *chunk*: a column of instants ([`timestamps`]), which many
//! series can share, and a column of values ([`values`]) or of native histograms ([`histograms`]).
//!
//! Invariants
//! - C1 Lossless: every bit of every `f64` comes back, NaN payloads, `-0.0` and denormals included.
//! - C2 Decoders take any bytes: they answer [`ChunkError`], never panic, and allocate no more than the
//!   caller's sample count (at most [`CHUNK_SAMPLES_MAX`]) calls for.
//! - C3 An encoding is never longer than its `worst_case_len`.
//!
//! Little-endian throughout; integers of unknown size are LEB128 ([`bytes`]). The byte layouts are
//! written at each module's head; a change of any needs a new tag, old tags stay readable.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bits;
pub mod bytes;
mod decimal;
mod error;
pub mod histograms;
pub mod ints;
mod tans;
pub mod timestamps;
pub mod values;
mod xor;

pub use error::ChunkError;

/// Samples that one chunk may hold.
pub const CHUNK_SAMPLES_MAX: usize = 4096;

/// How much an encoder does for a smaller encoding. Decoders take both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Packed integers: cheap to write, fastest to read.
    Young,
    /// Entropy-coded where that is smaller: several times dearer to write, half as fast to read.
    Cold,
}
