//! Columns of native histograms: each bucket is a column of doubles over time.
//!
//! Layout, for a count that the caller knows (0 writes nothing): `u8` 0 (plain) or 1 (zstd, preceded by
//! the plain length as a varint), then the plain form: layouts (count, each written once), the layout of
//! each histogram (varints), the reset hints (one byte each), and value columns, each with its length in
//! front: `count`, `sum`, `zero_count` of all; then per layout one column for each bucket over the
//! histograms that have it.
//!
//! A layout is what rarely changes: integer or not, schema, zero threshold, custom bounds, spans.

use std::sync::Arc;

use pharos_model::{BucketSide, BucketSpan, Histogram, ResetHint};

use crate::bytes::{Reader, VARINT_BYTES_MAX, push_slice, push_varint, push_zigzag};
use crate::{CHUNK_SAMPLES_MAX, ChunkError, Form, values};

/// Bucket counts that one chunk may hold over all its histograms; the caller cuts earlier.
pub const CHUNK_BUCKETS_MAX: usize = 1 << 20;
const PLAIN_BYTES_MAX: usize = 64 << 20;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, Clone, PartialEq)]
struct Layout {
    is_integer: bool,
    schema: i32,
    zero_threshold_bits: u64,
    bound_bits: Vec<u64>,
    sides: [SideLayout; 2],
}

#[derive(Debug, Clone, PartialEq)]
struct SideLayout {
    spans: Vec<BucketSpan>,
    count: usize,
}

/// What one histogram adds to [`CHUNK_BUCKETS_MAX`]: its buckets, bounds and spans.
#[must_use]
pub fn bucket_count(histogram: &Histogram) -> usize {
    let side = |side: &BucketSide| side.counts.len() + side.spans.len();
    side(&histogram.positive) + side(&histogram.negative) + histogram.custom_bounds.len()
}

/// Appends an encoding: at most [`CHUNK_SAMPLES_MAX`] histograms with [`CHUNK_BUCKETS_MAX`] buckets in all,
/// unless it is a single one.
///
/// # Panics
/// If there are more than [`CHUNK_SAMPLES_MAX`].
pub fn encode(histograms: &[Arc<Histogram>], form: Form, out: &mut Vec<u8>) {
    assert!(histograms.len() <= CHUNK_SAMPLES_MAX, "a chunk holds at most {CHUNK_SAMPLES_MAX} samples");
    if histograms.is_empty() {
        return;
    }
    let plain = encode_plain(histograms, form);
    match zstd::bulk::compress(&plain, ZSTD_LEVEL) {
        Ok(packed) if packed.len() + VARINT_BYTES_MAX < plain.len() && plain.len() <= PLAIN_BYTES_MAX => {
            out.push(ZSTD);
            push_varint(out, plain.len() as u64);
            out.extend_from_slice(&packed);
        }
        _ => {
            out.push(PLAIN);
            out.extend_from_slice(&plain);
        }
    }
}

/// Reads `count` histograms and appends them to `out`.
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write.
pub fn decode(bytes: &[u8], count: usize, out: &mut Vec<Arc<Histogram>>) -> Result<(), ChunkError> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(ChunkError::OutOfBounds { what: "sample count" });
    }
    if count == 0 {
        return Ok(());
    }
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        PLAIN => decode_plain(reader.rest(), count, out),
        ZSTD => {
            let length = reader.count("histogram chunk length", PLAIN_BYTES_MAX)?;
            let plain = zstd::bulk::decompress(reader.rest(), length)
                .map_err(|_| ChunkError::OutOfBounds { what: "compressed histogram chunk" })?;
            decode_plain(&plain, count, out)
        }
        found => Err(ChunkError::Unknown { what: "histogram chunk tag", found }),
    }
}

fn encode_plain(histograms: &[Arc<Histogram>], form: Form) -> Vec<u8> {
    let mut layouts: Vec<Layout> = Vec::new();
    let mut layout_of = Vec::with_capacity(histograms.len());
    for histogram in histograms {
        let layout = Layout::of(histogram);
        // Searched from the end: a change of layout usually stays.
        let index = layouts.iter().rposition(|known| *known == layout).unwrap_or_else(|| {
            layouts.push(layout);
            layouts.len() - 1
        });
        layout_of.push(index);
    }
    let mut out = Vec::new();
    push_varint(&mut out, layouts.len() as u64);
    for layout in &layouts {
        layout.write(&mut out);
    }
    for index in &layout_of {
        push_varint(&mut out, *index as u64);
    }
    out.extend(histograms.iter().map(|histogram| hint_byte(histogram.reset_hint)));
    push_column(&mut out, form, histograms.iter().map(|histogram| histogram.count));
    push_column(&mut out, form, histograms.iter().map(|histogram| histogram.sum));
    push_column(&mut out, form, histograms.iter().map(|histogram| histogram.zero_count));
    for (index, layout) in layouts.iter().enumerate() {
        let members: Vec<&Histogram> =
            histograms.iter().zip(&layout_of).filter(|(_, of)| **of == index).map(|(h, _)| h.as_ref()).collect();
        for bucket in 0..layout.sides[0].count {
            push_column(&mut out, form, members.iter().map(|histogram| histogram.positive.counts[bucket]));
        }
        for bucket in 0..layout.sides[1].count {
            push_column(&mut out, form, members.iter().map(|histogram| histogram.negative.counts[bucket]));
        }
    }
    out
}

fn push_column(out: &mut Vec<u8>, form: Form, column: impl Iterator<Item = f64>) {
    let column: Vec<f64> = column.collect();
    let mut bytes = Vec::new();
    values::encode(&column, form, &mut bytes);
    push_slice(out, &bytes);
}

fn take_column(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, ChunkError> {
    let mut column = Vec::new();
    values::decode(reader.slice()?, &[], count, &mut column)?;
    Ok(column)
}

fn decode_plain(plain: &[u8], count: usize, out: &mut Vec<Arc<Histogram>>) -> Result<(), ChunkError> {
    let mut reader = Reader::new(plain);
    let layout_count = reader.count("layout count", count)?;
    let layouts = (0..layout_count).map(|_| Layout::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    let layout_of = (0..count)
        .map(|_| reader.count("layout index", layout_count.saturating_sub(1)))
        .collect::<Result<Vec<_>, _>>()?;
    // Every histogram gets its own copy of its layout: bounded before any is made.
    let copied: usize = layout_of.iter().filter_map(|index| layouts.get(*index)).map(Layout::copied_len).sum();
    if copied > CHUNK_BUCKETS_MAX && count > 1 {
        return Err(ChunkError::OutOfBounds { what: "layout size" });
    }
    let hints = reader.take(count)?;
    let counts = take_column(&mut reader, count)?;
    let sums = take_column(&mut reader, count)?;
    let zero_counts = take_column(&mut reader, count)?;
    let mut histograms = Vec::with_capacity(count);
    for (position, index) in layout_of.iter().enumerate() {
        let mut histogram = layouts.get(*index).ok_or(ChunkError::OutOfBounds { what: "layout index" })?.empty();
        histogram.reset_hint = hint_of(hints[position])?;
        histogram.count = counts[position];
        histogram.sum = sums[position];
        histogram.zero_count = zero_counts[position];
        histograms.push(histogram);
    }
    for (index, layout) in layouts.iter().enumerate() {
        let members: Vec<usize> = (0..count).filter(|position| layout_of[*position] == index).collect();
        let buckets = layout.sides[0].count + layout.sides[1].count;
        if buckets > reader.rest().len() || (members.len() > 1 && buckets * members.len() > CHUNK_BUCKETS_MAX) {
            return Err(ChunkError::OutOfBounds { what: "bucket count" });
        }
        for bucket in 0..buckets {
            let column = take_column(&mut reader, members.len())?;
            for (position, value) in members.iter().zip(column) {
                let histogram = &mut histograms[*position];
                let side =
                    if bucket < layout.sides[0].count { &mut histogram.positive } else { &mut histogram.negative };
                side.counts.push(value);
            }
        }
    }
    out.extend(histograms.into_iter().map(Arc::new));
    Ok(())
}

impl Layout {
    fn of(histogram: &Histogram) -> Self {
        let side = |side: &BucketSide| SideLayout { spans: side.spans.clone(), count: side.counts.len() };
        Self {
            is_integer: histogram.is_integer,
            schema: histogram.schema,
            zero_threshold_bits: histogram.zero_threshold.to_bits(),
            bound_bits: histogram.custom_bounds.iter().map(|bound| bound.to_bits()).collect(),
            sides: [side(&histogram.positive), side(&histogram.negative)],
        }
    }

    /// A histogram of this layout without counts.
    fn empty(&self) -> Histogram {
        let side = |side: &SideLayout| BucketSide { spans: side.spans.clone(), counts: Vec::new() };
        Histogram {
            is_integer: self.is_integer,
            zero_threshold: f64::from_bits(self.zero_threshold_bits),
            positive: side(&self.sides[0]),
            negative: side(&self.sides[1]),
            custom_bounds: self.bound_bits.iter().map(|bits| f64::from_bits(*bits)).collect(),
            ..Histogram::empty(self.schema)
        }
    }

    fn copied_len(&self) -> usize {
        self.bound_bits.len() + self.sides.iter().map(|side| side.spans.len()).sum::<usize>()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_integer));
        push_zigzag(out, i64::from(self.schema));
        out.extend_from_slice(&self.zero_threshold_bits.to_le_bytes());
        push_varint(out, self.bound_bits.len() as u64);
        out.extend(self.bound_bits.iter().flat_map(|bits| bits.to_le_bytes()));
        for side in &self.sides {
            push_varint(out, side.spans.len() as u64);
            for span in &side.spans {
                push_zigzag(out, i64::from(span.offset));
                push_varint(out, u64::from(span.length));
            }
            push_varint(out, side.count as u64);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ChunkError> {
        let is_integer = reader.byte()? != 0;
        let schema = narrow(reader.zigzag()?)?;
        let zero_threshold_bits = reader.u64()?;
        let bounds = reader.count("bound count", reader.rest().len() / 8)?;
        let bound_bits = (0..bounds).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        let sides = [SideLayout::read(reader)?, SideLayout::read(reader)?];
        Ok(Self { is_integer, schema, zero_threshold_bits, bound_bits, sides })
    }
}

impl SideLayout {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ChunkError> {
        let span_count = reader.count("span count", reader.rest().len() / 2)?;
        let mut spans = Vec::with_capacity(span_count);
        for _ in 0..span_count {
            spans.push(BucketSpan { offset: narrow(reader.zigzag()?)?, length: narrow(reader.varint()?)? });
        }
        Ok(Self { spans, count: reader.count("bucket count", PLAIN_BYTES_MAX)? })
    }
}

fn narrow<T, N: TryFrom<T>>(number: T) -> Result<N, ChunkError> {
    N::try_from(number).map_err(|_| ChunkError::OutOfBounds { what: "histogram number" })
}

/// A hint as a byte, the same in chunks and in log records.
#[must_use]
pub const fn hint_byte(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

const fn hint_of(byte: u8) -> Result<ResetHint, ChunkError> {
    Ok(match byte {
        0 => ResetHint::Unknown,
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        found => return Err(ChunkError::Unknown { what: "reset hint", found }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side() -> impl Strategy<Value = BucketSide> {
        proptest::collection::vec((-20_i32..20, proptest::collection::vec(0_u32..1000, 0..5)), 0..4).prop_map(|spans| {
            BucketSide {
                counts: spans.iter().flat_map(|(_, counts)| counts.iter().map(|count| f64::from(*count))).collect(),
                spans: spans
                    .iter()
                    .map(|(offset, counts)| BucketSpan { offset: *offset, length: counts.len() as u32 })
                    .collect(),
            }
        })
    }

    prop_compose! {
        fn histogram()(
            is_integer in any::<bool>(), hint in 0_u8..4, schema in -53_i32..9, positive in side(), negative in side(),
            numbers in any::<[u64; 4]>(), bounds in proptest::collection::vec(any::<u64>(), 0..3)
        ) -> Arc<Histogram> {
            let [zero_threshold, zero_count, count, sum] = numbers.map(f64::from_bits);
            Arc::new(Histogram {
                is_integer, reset_hint: hint_of(hint).unwrap(), schema, zero_threshold, zero_count, count, sum, positive, negative,
                custom_bounds: bounds.into_iter().map(f64::from_bits).collect(),
            })
        }
    }

    fn round_trip(histograms: &[Arc<Histogram>]) -> usize {
        let mut bytes = Vec::new();
        encode(histograms, Form::Cold, &mut bytes);
        let mut found = Vec::new();
        decode(&bytes, histograms.len(), &mut found).unwrap();
        assert_eq!(found.len(), histograms.len());
        assert!(found.iter().zip(histograms).all(|(a, b)| a.bits_equal(b)));
        bytes.len()
    }

    #[test]
    fn a_steady_histogram_costs_little_per_sample() {
        let histograms: Vec<_> = (0..240_u32)
            .map(|i| {
                let counts: Vec<f64> = (0..20).map(|bucket| f64::from(i * bucket)).collect();
                let spans = vec![BucketSpan { offset: -3, length: 20 }];
                let count = counts.iter().sum();
                Arc::new(Histogram {
                    is_integer: true,
                    count,
                    positive: BucketSide { spans, counts },
                    ..Histogram::empty(3)
                })
            })
            .collect();
        assert!(round_trip(&histograms) < 240 * 2);
        round_trip(&[Arc::new(Histogram::stale())]);
    }

    proptest! {
        #[test]
        fn histograms_round_trip(histograms in proptest::collection::vec(histogram(), 0..12)) {
            round_trip(&histograms);
        }

        #[test]
        fn damaged_bytes_do_not_panic(
            histograms in proptest::collection::vec(histogram(), 1..6), flips in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4)
        ) {
            let mut bytes = vec![PLAIN];
            bytes.extend(encode_plain(&histograms, Form::Young));
            for flip in flips {
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let _ = decode(&bytes, histograms.len(), &mut Vec::new());
        }
    }
}
