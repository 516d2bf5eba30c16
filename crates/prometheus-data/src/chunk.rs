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

/// The points of a chunk that stands alone, as remote read sends it; `None` if the bytes make no sense.
#[must_use]
pub fn decode_chunk(encoding: u8, bytes: &[u8]) -> Option<Points> {
    let mut points = Points::default();
    decode(encoding, bytes, &mut points).ok().map(|()| points)
}

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

    /// Two bits a span, and each histogram has its own: 40 kB would be two gigabytes.
    #[test]
    fn empty_spans_are_bounded() {
        let [high, low] = u16::MAX.to_be_bytes();
        // No reset flags, zero threshold 0, schema 0 (`0`), then 4000 (`11110` and 12 bits) spans of length 0 at offset 0.
        let mut bytes = vec![high, low, 0, 0, 0b0111_1011, 0b1110_1000, 0];
        bytes.resize(40_000, 0);
        let mut points = Points::default();
        assert!(decode(HISTOGRAM, &bytes, &mut points).unwrap_err().0.contains("too many"));
        assert!(decode(FLOAT_HISTOGRAM, &bytes, &mut points).unwrap_err().0.contains("too many"));
        assert_eq!(points.sample_count(), 0);
    }

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
