//! Chunk bodies: the payload of a chunk without its instants, the same in the head and in parts.
//!
//! Layout by kind: 0 a value column; 1 a value column with its length in front, then an integer column
//! of start timestamps; 2 a histogram column; 3 a histogram column with its length in front, then starts.

use std::sync::Arc;

use pharos_chunk::bytes::{Reader, push_slice};
use pharos_chunk::{CHUNK_SAMPLES_MAX, ChunkError, histograms, ints, values};
use pharos_model::Histogram;

use crate::samples::{Column, Samples};

const FLOATS: u8 = 0;
const FLOATS_WITH_STARTS: u8 = 1;
const HISTOGRAMS: u8 = 2;
const HISTOGRAMS_WITH_STARTS: u8 = 3;

/// Appends the body of a column of floats and answers its kind.
pub(crate) fn encode_floats(floats: &[f64], starts: &[i64], out: &mut Vec<u8>) -> u8 {
    if starts.is_empty() {
        values::encode(floats, out);
        return FLOATS;
    }
    let mut inner = Vec::new();
    values::encode(floats, &mut inner);
    push_slice(out, &inner);
    ints::encode(starts, out);
    FLOATS_WITH_STARTS
}

/// Appends the body of a column of histograms and answers its kind.
pub(crate) fn encode_histograms(column: &[Arc<Histogram>], starts: &[i64], out: &mut Vec<u8>) -> u8 {
    if starts.is_empty() {
        histograms::encode(column, out);
        return HISTOGRAMS;
    }
    let mut inner = Vec::new();
    histograms::encode(column, &mut inner);
    push_slice(out, &inner);
    ints::encode(starts, out);
    HISTOGRAMS_WITH_STARTS
}

/// Decodes a body whose instants are `times`.
pub(crate) fn decode(kind: u8, body: &[u8], times: &[i64]) -> Result<Samples, ChunkError> {
    let mut samples = Samples::default();
    let (inner, starts) = match kind {
        FLOATS | HISTOGRAMS => (body, Vec::new()),
        FLOATS_WITH_STARTS | HISTOGRAMS_WITH_STARTS => {
            let mut reader = Reader::new(body);
            let inner = reader.slice()?;
            let mut starts = Vec::new();
            ints::decode(&mut reader, times.len(), &mut starts)?;
            (inner, starts)
        }
        found => return Err(ChunkError::Unknown { what: "chunk kind", found }),
    };
    if kind < HISTOGRAMS {
        let mut floats = Vec::new();
        values::decode(inner, times.len(), &mut floats)?;
        samples.floats = Column { times: times.to_vec(), values: floats, starts };
    } else {
        let mut found = Vec::new();
        histograms::decode(inner, times.len(), &mut found)?;
        samples.histograms = Column { times: times.to_vec(), values: found, starts };
    }
    Ok(samples)
}

/// Ends of the chunks that a histogram column is cut into.
pub(crate) fn histogram_cuts(column: &[Arc<Histogram>]) -> Vec<usize> {
    let (mut cuts, mut from, mut buckets) = (Vec::new(), 0, 0);
    for (index, histogram) in column.iter().enumerate() {
        let more = histograms::bucket_count(histogram);
        if index > from && (index - from >= CHUNK_SAMPLES_MAX || buckets + more > histograms::CHUNK_BUCKETS_MAX) {
            cuts.push(index);
            (from, buckets) = (index, 0);
        }
        buckets += more;
    }
    if !column.is_empty() {
        cuts.push(column.len());
    }
    cuts
}
