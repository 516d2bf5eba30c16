//! Chunks without their instants, the same in the head and in parts: a *head* of a few varints, which parts
//! store column by column, and a *bulk*, which follows the head where both stand together.
//!
//! | kind | head | bulk |
//! |---|---|---|
//! | 0 floats | that of a value column | its bulk |
//! | 1 floats with starts, read only | | value column with its length in front, integer column of starts |
//! | 2 histograms | | histogram column |
//! | 3 histograms with starts | | histogram column with its length in front, integer column of starts |
//! | 4 floats with starts | that of the starts, that of the values | bulk of the starts with its length in front, bulk of the values |

use std::sync::Arc;

use pharos_chunk::bytes::{Reader, push_slice};
use pharos_chunk::{CHUNK_SAMPLES_MAX, ChunkError, Form, histograms, ints, values};
use pharos_model::{Histogram, TimeRange};

use crate::samples::{Column, Samples};

const FLOATS: u8 = 0;
const FLOATS_WITH_STARTS_JOINED: u8 = 1;
const HISTOGRAMS: u8 = 2;
const HISTOGRAMS_WITH_STARTS: u8 = 3;
const FLOATS_WITH_STARTS: u8 = 4;

/// Varints in the longest head.
pub(crate) const HEAD_FIELDS_MAX: usize = values::HEAD_FIELDS_MAX + ints::HEAD_FIELDS_MAX;

/// What an encoder appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) kind: u8,
    /// Bytes of the head; the bulk follows.
    pub(crate) head_len: usize,
}

/// An encoded chunk without its instants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    pub(crate) kind: u8,
    /// Empty in parts of version 1: there it stands at the front of `bulk`.
    pub(crate) head: &'a [u8],
    pub(crate) bulk: &'a [u8],
}

impl<'a> Body<'a> {
    /// What an encoder appended to nothing.
    pub(crate) fn of(encoded: Encoded, bytes: &'a [u8]) -> Self {
        let (head, bulk) = bytes.split_at(encoded.head_len);
        Self { kind: encoded.kind, head, bulk }
    }
}

impl Body<'_> {
    /// Whether it is clear without decoding that none of its samples is a stale marker.
    pub(crate) fn is_surely_fresh(&self) -> bool {
        match self.kind {
            FLOATS => values::are_decimals(self.head),
            FLOATS_WITH_STARTS => {
                let mut head = Reader::new(self.head);
                ints::Head::read(&mut head).is_ok() && values::are_decimals(head.rest())
            }
            _ => false,
        }
    }
}

/// Whether bodies of a kind are histograms.
pub(crate) const fn holds_histograms(kind: u8) -> bool {
    matches!(kind, HISTOGRAMS | HISTOGRAMS_WITH_STARTS)
}

/// Appends a column of floats.
pub(crate) fn encode_floats(floats: &[f64], starts: &[i64], form: Form, out: &mut Vec<u8>) -> Encoded {
    if starts.is_empty() {
        return Encoded { kind: FLOATS, head_len: values::encode(floats, form, out) };
    }
    let (mut of_starts, mut of_values) = (Vec::new(), Vec::new());
    let starts_head = ints::encode(starts, form, &mut of_starts);
    let values_head = values::encode(floats, form, &mut of_values);
    out.extend_from_slice(&of_starts[..starts_head]);
    out.extend_from_slice(&of_values[..values_head]);
    push_slice(out, &of_starts[starts_head..]);
    out.extend_from_slice(&of_values[values_head..]);
    Encoded { kind: FLOATS_WITH_STARTS, head_len: starts_head + values_head }
}

/// Appends a column of histograms.
pub(crate) fn encode_histograms(column: &[Arc<Histogram>], starts: &[i64], form: Form, out: &mut Vec<u8>) -> Encoded {
    if starts.is_empty() {
        histograms::encode(column, form, out);
        return Encoded { kind: HISTOGRAMS, head_len: 0 };
    }
    let mut inner = Vec::new();
    histograms::encode(column, form, &mut inner);
    push_slice(out, &inner);
    ints::encode(starts, form, out);
    Encoded { kind: HISTOGRAMS_WITH_STARTS, head_len: 0 }
}

/// Decodes a body whose instants are `times`.
pub(crate) fn decode(body: Body<'_>, times: &[i64]) -> Result<Samples, ChunkError> {
    let count = times.len();
    let mut samples = Samples::default();
    let mut starts = Vec::new();
    match body.kind {
        FLOATS | FLOATS_WITH_STARTS_JOINED | FLOATS_WITH_STARTS => {
            let mut floats = Vec::new();
            decode_floats(body, count, &mut floats, &mut starts)?;
            samples.floats = Column { times: times.to_vec(), values: floats, starts };
        }
        HISTOGRAMS | HISTOGRAMS_WITH_STARTS => {
            let mut reader = Reader::new(body.bulk);
            let inner = if body.kind == HISTOGRAMS { body.bulk } else { reader.slice()? };
            let mut found = Vec::new();
            histograms::decode(inner, count, &mut found)?;
            if body.kind == HISTOGRAMS_WITH_STARTS {
                ints::decode(&mut reader, count, &mut starts)?;
            }
            samples.histograms = Column { times: times.to_vec(), values: found, starts };
        }
        found => return Err(ChunkError::Unknown { what: "chunk kind", found }),
    }
    Ok(samples)
}

fn decode_floats(body: Body<'_>, count: usize, floats: &mut Vec<f64>, starts: &mut Vec<i64>) -> Result<(), ChunkError> {
    let (head, bulk) = if body.head.is_empty() { (body.bulk, [].as_slice()) } else { (body.head, body.bulk) };
    match body.kind {
        FLOATS_WITH_STARTS_JOINED => {
            let mut reader = Reader::new(head);
            values::decode(reader.slice()?, &[], count, floats)?;
            ints::decode(&mut reader, count, starts)
        }
        FLOATS_WITH_STARTS => {
            let mut head = Reader::new(head);
            let of_starts = ints::Head::read(&mut head)?;
            let mut bulk = Reader::new(bulk);
            of_starts.decode_bulk(&mut Reader::new(bulk.slice()?), count, starts)?;
            values::decode(head.rest(), bulk.rest(), count, floats)
        }
        _ => values::decode(head, bulk, count, floats),
    }
}

/// Decodes what a body has in the range and adds it to sorted samples of the same series; where both have an
/// instant, the chunk wins.
pub(crate) fn append(body: Body<'_>, times: &[i64], range: TimeRange, samples: &mut Samples) -> Result<(), ChunkError> {
    let start = times.partition_point(|time| *time < range.start_ms);
    let end = times.partition_point(|time| *time < range.end_ms);
    if start >= end {
        return Ok(());
    }
    let is_behind = samples.last_time().is_none_or(|last| last < times[start]);
    if body.kind == FLOATS && is_behind && samples.floats.starts.is_empty() {
        // The usual case: straight to the end of what is there.
        let (Samples { floats, .. }, starts) = (samples, &mut Vec::new());
        let length = floats.values.len();
        decode_floats(body, times.len(), &mut floats.values, starts).inspect_err(|_| floats.values.truncate(length))?;
        floats.values.truncate(length + end);
        floats.values.drain(length..length + start);
        floats.times.extend_from_slice(&times[start..end]);
        return Ok(());
    }
    let mut decoded = decode(body, times)?;
    decoded.cut(range);
    samples.merge(decoded);
    Ok(())
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
