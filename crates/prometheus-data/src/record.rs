//! Records of the write-ahead logs.
//!
//! Source: Prometheus' `tsdb/docs/format/wal.md`; for the records with start timestamps (11 to 13) its `tsdb/record`.

use pharos_model::{
    BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Exemplar, Histogram, Labels, LabelsBuilder, MetricKind, ResetHint,
};

use crate::bytes::Cursor;
use crate::error::Malformed;
use crate::points::{FloatPoint, HistogramPoint};

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const METADATA: u8 = 6;
const HISTOGRAMS: u8 = 7;
const FLOAT_HISTOGRAMS: u8 = 8;
const CUSTOM_HISTOGRAMS: u8 = 9;
const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
const SAMPLES_STARTS: u8 = 11;
const HISTOGRAMS_STARTS: u8 = 12;
const FLOAT_HISTOGRAMS_STARTS: u8 = 13;

/// One entry of a record; series are called by the number that their own entry gives them.
#[derive(Debug)]
pub(crate) enum Entry {
    Series(Labels),
    Deleted { first_ms: i64, last_ms: i64 },
    Metadata { kind: MetricKind, help: String, unit: String },
    Float(FloatPoint),
    Histogram(HistogramPoint),
    Exemplar(Exemplar),
}

/// Whether a record says what series are, rather than what they measured.
pub(crate) fn is_about_series(record: &[u8]) -> bool {
    matches!(record.first(), Some(&(SERIES | TOMBSTONES | METADATA)))
}

/// Hands out the entries; those before a fault are good. Kinds that carry no data are passed over.
pub(crate) fn decode(record: &[u8], mut each: impl FnMut(u64, Entry)) -> Result<(), Malformed> {
    let mut cursor = Cursor(record);
    let kind = cursor.u8()?;
    let cursor = &mut cursor;
    match kind {
        SERIES => {
            let mut builder = LabelsBuilder::default();
            while !cursor.is_empty() {
                let series = cursor.u64()?;
                each(series, Entry::Series(labels(cursor, &mut builder)?));
            }
        }
        TOMBSTONES => {
            while !cursor.is_empty() {
                let series = cursor.u64()?;
                each(series, Entry::Deleted { first_ms: cursor.varint()?, last_ms: cursor.varint()? });
            }
        }
        METADATA => {
            while !cursor.is_empty() {
                let series = cursor.uvarint()?;
                each(series, metadata(cursor)?);
            }
        }
        EXEMPLARS => {
            let mut builder = LabelsBuilder::default();
            deltas(cursor, |cursor, series, timestamp_ms| {
                let value = cursor.f64()?;
                let labels = labels(cursor, &mut builder)?;
                each(series, Entry::Exemplar(Exemplar { labels, timestamp_ms, value }));
                Ok(())
            })?;
        }
        SAMPLES => deltas(cursor, |cursor, series, timestamp_ms| {
            each(series, Entry::Float(FloatPoint { timestamp_ms, start_ms: 0, value: cursor.f64()? }));
            Ok(())
        })?,
        HISTOGRAMS | CUSTOM_HISTOGRAMS | FLOAT_HISTOGRAMS | CUSTOM_FLOAT_HISTOGRAMS => {
            let is_integer = matches!(kind, HISTOGRAMS | CUSTOM_HISTOGRAMS);
            deltas(cursor, |cursor, series, timestamp_ms| {
                let histogram = histogram(cursor, is_integer)?;
                each(series, Entry::Histogram(HistogramPoint { timestamp_ms, start_ms: 0, histogram }));
                Ok(())
            })?;
        }
        SAMPLES_STARTS => chained(cursor, |cursor, series, timestamp_ms, start_ms| {
            each(series, Entry::Float(FloatPoint { timestamp_ms, start_ms, value: cursor.f64()? }));
            Ok(())
        })?,
        HISTOGRAMS_STARTS | FLOAT_HISTOGRAMS_STARTS => {
            chained(cursor, |cursor, series, timestamp_ms, start_ms| {
                let histogram = histogram(cursor, kind == HISTOGRAMS_STARTS)?;
                each(series, Entry::Histogram(HistogramPoint { timestamp_ms, start_ms, histogram }));
                Ok(())
            })?;
        }
        // Markers of chunks in `chunks_head`, and what later versions may add.
        _ => {}
    }
    Ok(())
}

/// Entries whose series and instant are told as differences to those at the front of the record.
fn deltas<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>, u64, i64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if cursor.is_empty() {
        return Ok(());
    }
    let (base, base_ms) = (cursor.u64()?, cursor.u64()? as i64);
    while !cursor.is_empty() {
        let series = base.wrapping_add_signed(cursor.varint()?);
        let timestamp_ms = base_ms.wrapping_add(cursor.varint()?);
        each(cursor, series, timestamp_ms)?;
    }
    Ok(())
}

/// Entries whose series is told as the difference to the one before, with start timestamps.
fn chained<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>, u64, i64, i64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    const NO_START: u8 = 0;
    const SAME_START: u8 = 1;
    if cursor.is_empty() {
        return Ok(());
    }
    let (mut series, first_ms, first_start_ms) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
    let mut start_ms = first_start_ms;
    each(cursor, series as u64, first_ms, start_ms)?;
    while !cursor.is_empty() {
        series = series.wrapping_add(cursor.varint()?);
        let timestamp_ms = first_ms.wrapping_add(cursor.varint()?);
        start_ms = match cursor.u8()? {
            NO_START => 0,
            SAME_START => start_ms,
            _ => first_start_ms.wrapping_add(cursor.varint()?),
        };
        each(cursor, series as u64, timestamp_ms, start_ms)?;
    }
    Ok(())
}

fn labels(cursor: &mut Cursor<'_>, builder: &mut LabelsBuilder) -> Result<Labels, Malformed> {
    builder.clear();
    for _ in 0..cursor.count(2)? {
        builder.push(cursor.text()?, cursor.text()?);
    }
    builder.build().map_err(|_| Malformed("its labels are no label set"))
}

fn metadata(cursor: &mut Cursor<'_>) -> Result<Entry, Malformed> {
    let kind = match cursor.u8()? {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    };
    let (mut help, mut unit) = (String::new(), String::new());
    for _ in 0..cursor.count(2)? {
        let (name, value) = (cursor.text()?, cursor.text()?);
        match name {
            "HELP" => value.clone_into(&mut help),
            "UNIT" => value.clone_into(&mut unit),
            _ => {}
        }
    }
    Ok(Entry::Metadata { kind, help, unit })
}

fn histogram(cursor: &mut Cursor<'_>, is_integer: bool) -> Result<Histogram, Malformed> {
    let reset_hint = match cursor.u8()? {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    let schema = cursor.varint()? as i32;
    let zero_threshold = cursor.f64()?;
    let number = |cursor: &mut Cursor<'_>| {
        if is_integer { cursor.uvarint().map(|count| count as f64) } else { cursor.f64() }
    };
    let (zero_count, count) = (number(cursor)?, number(cursor)?);
    let sum = cursor.f64()?;
    let (positive, negative) = (spans(cursor)?, spans(cursor)?);
    let positive = BucketSide { spans: positive, counts: counts(cursor, is_integer)? };
    let negative = BucketSide { spans: negative, counts: counts(cursor, is_integer)? };
    let mut custom_bounds = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..cursor.count(8)? {
            custom_bounds.push(cursor.f64()?);
        }
    }
    let histogram = Histogram {
        is_integer,
        reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive,
        negative,
        custom_bounds,
    };
    Ok(if histogram.is_stale() { Histogram { is_integer, ..Histogram::stale() } } else { histogram })
}

fn spans(cursor: &mut Cursor<'_>) -> Result<Vec<BucketSpan>, Malformed> {
    let mut spans = Vec::new();
    for _ in 0..cursor.count(2)? {
        spans.push(BucketSpan { offset: cursor.varint()? as i32, length: cursor.uvarint()? as u32 });
    }
    Ok(spans)
}

/// Counts as they are: integers are stored as the difference to the bucket before.
fn counts(cursor: &mut Cursor<'_>, is_integer: bool) -> Result<Vec<f64>, Malformed> {
    let mut counts = Vec::new();
    let mut count = 0_i64;
    for _ in 0..cursor.count(if is_integer { 1 } else { 8 })? {
        counts.push(if is_integer {
            count = count.wrapping_add(cursor.varint()?);
            count as f64
        } else {
            cursor.f64()?
        });
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hostile_records_neither_panic_nor_grow(kind in 0..16_u8, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut record = vec![kind];
            record.extend(&bytes);
            let mut entries = 0;
            let _ = decode(&record, |_, _| entries += 1);
            prop_assert!(entries <= record.len());
        }
    }
}
