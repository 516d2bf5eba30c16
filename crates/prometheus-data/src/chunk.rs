//! Chunks: a run of one series' samples, as Prometheus' head cuts them.
//!
//! Every decoder takes bytes whose checksum was right, yet trusts none of them: what makes no sense is [`Malformed`], and
//! memory is bounded by a multiple of the bytes (each bucket of each histogram takes a bit at least).
//!
//! Source: Prometheus' `tsdb/docs/format/chunks.md`.

mod float_histogram;
mod histogram;
mod layout;
mod start;
mod xor;
mod xor2;

use pharos_model::ResetHint;

use crate::error::Malformed;
use crate::points::Points;

const XOR: u8 = 1;
const HISTOGRAM: u8 = 2;
const FLOAT_HISTOGRAM: u8 = 3;
const XOR2: u8 = 4;
const HISTOGRAM_STARTS: u8 = 5;
const FLOAT_HISTOGRAM_STARTS: u8 = 6;

/// Appends a chunk's points; on failure those before the fault are there.
pub(crate) fn decode(encoding: u8, bytes: &[u8], points: &mut Points) -> Result<(), Malformed> {
    match encoding {
        XOR => xor::decode(bytes, &mut points.floats),
        XOR2 => xor2::decode(bytes, &mut points.floats),
        HISTOGRAM => histogram::decode(bytes, false, &mut points.histograms),
        HISTOGRAM_STARTS => histogram::decode(bytes, true, &mut points.histograms),
        FLOAT_HISTOGRAM => float_histogram::decode(bytes, false, &mut points.histograms),
        FLOAT_HISTOGRAM_STARTS => float_histogram::decode(bytes, true, &mut points.histograms),
        _ => Err(Malformed("a chunk of an unknown encoding")),
    }
}

/// The hint of a chunk's histogram: of counters, only that later ones go on counting is sure. What stood before the
/// first may lie in another block, or come late.
fn reset_hint(flags: u8, index: usize) -> ResetHint {
    match (flags >> 6, index) {
        (0b11, _) => ResetHint::Gauge,
        (_, 0) => ResetHint::Unknown,
        _ => ResetHint::NotReset,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Checksums keep such bytes away from the decoders, which do not lean on that.
        #[test]
        fn hostile_chunks_neither_panic_nor_grow(
            encoding in 0..8_u8, bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut points = Points::default();
            let _ = decode(encoding, &bytes, &mut points);
            prop_assert!(points.sample_count() <= bytes.len() * 8);
        }
    }
}
