//! A filter of trace ids: a blocked Bloom filter, one cache line a question.
//!
//! It never says no to an id that was put in, and says yes to about one in eighty others. Its bytes are specified in
//! `docs/keys.md`.

use pharos_model::TraceId;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::DecodeError;

const LINE_BYTES: usize = 64;
const LINE_BITS: u32 = 512;
const BITS_PER_TRACE: usize = 10;
const PROBES: u32 = 6;

/// The hash by which segments know a trace id, in filters and locators.
pub(super) fn trace_hash(trace_id: TraceId) -> u64 {
    xxh3_64(&trace_id.0)
}

/// Says which trace ids cannot be in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TraceFilter {
    bytes: Box<[u8]>,
}

impl TraceFilter {
    /// A filter of ids with these hashes, equal ones next to each other or once.
    pub(super) fn build(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let lines = (hashes.len() * BITS_PER_TRACE).div_ceil(LINE_BITS as usize).max(1);
        let mut bytes = vec![0; lines * LINE_BYTES].into_boxed_slice();
        for hash in hashes {
            let line = line_of(hash, lines);
            for bit in bits_of(hash) {
                bytes[line * LINE_BYTES + (bit / 8) as usize] |= 1 << (bit % 8);
            }
        }
        Self { bytes }
    }

    /// Whether an id with this hash may have been put in.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let at = line_of(hash, self.bytes.len() / LINE_BYTES) * LINE_BYTES;
        let line = &self.bytes[at..at + LINE_BYTES];
        bits_of(hash).all(|bit| line[(bit / 8) as usize] & (1 << (bit % 8)) != 0)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(LINE_BYTES) {
            return Err(DecodeError::OutOfRange("trace filter length"));
        }
        Ok(Self { bytes: bytes.into() })
    }
}

/// The upper half chooses the line.
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// The lower half chooses the bits, by double hashing.
fn bits_of(hash: u64) -> impl Iterator<Item = u32> {
    let (first, step) = (hash as u32, (hash as u32).rotate_left(15) | 1);
    (0..PROBES).map(move |probe| first.wrapping_add(probe.wrapping_mul(step)) >> (32 - LINE_BITS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        trace_hash(TraceId(u128::from(number).to_be_bytes()))
    }

    #[test]
    fn what_was_put_in_is_known_and_little_else() {
        for count in [0, 1, 5, 1000, 60_000] {
            let filter = TraceFilter::build((0..count).map(hash).collect::<Vec<_>>().into_iter());
            let filter = TraceFilter::from_bytes(filter.as_bytes()).unwrap();
            assert!((0..count).all(|number| filter.may_contain(hash(number))));
            let wrong = (1_000_000..1_020_000).filter(|number| filter.may_contain(hash(*number))).count();
            assert!(wrong < 500, "{wrong} of 20000 with {count}");
        }
    }

    #[test]
    fn lengths_that_no_filter_has_are_refused() {
        assert!(TraceFilter::from_bytes(&[]).is_err() && TraceFilter::from_bytes(&[0; 65]).is_err());
    }
}
