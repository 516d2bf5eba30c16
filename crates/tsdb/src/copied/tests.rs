//! A merge that copies says the same as one that decodes everything.

use std::path::Path;
use std::sync::Arc;

use pharos_base::MemoryBudget;
use pharos_chunk::Form;
use pharos_model::{Histogram, Labels, TenantId};
use pharos_storage::{RawSeries, ReadContext, StorageError};
use proptest::prelude::*;

use super::*;
use crate::disk::RealDisk;
use crate::masks::Masks;
use crate::part::index::IndexCache;
use crate::part::writer::PartPlan;
use crate::part::{Part, PartCursor};
use crate::source::Source;

/// Samples of one series in one part: instant, bits, kind.
type Points = Vec<(i64, u64, u8)>;

fn plan(dir: &Path, number: u64, form: Form) -> PartPlan {
    PartPlan {
        parts_dir: dir.to_owned(),
        tenant: TenantId::default(),
        number,
        sequence: number,
        window: TimeRange::new(0, 1_000_000),
        level: 1,
        replaces: Vec::new(),
        cleaned: 0,
        form,
        index_cache: Arc::new(IndexCache::new(0)),
        bodies_max: 1 << 20,
        rollups: Vec::new(),
    }
}

fn samples(points: &Points) -> Samples {
    let mut samples = Samples::default();
    for (time, bits, kind) in points {
        let start = if kind % 3 == 0 { 0 } else { time - 7 };
        if kind % 5 == 4 {
            let sum = f64::from_bits(*bits);
            let histogram = Histogram { sum, count: f64::from(*kind), ..Histogram::empty(i32::from(kind % 3)) };
            samples.histograms.push(*time, Arc::new(histogram), start);
        } else {
            samples.floats.push(*time, f64::from_bits(*bits), start);
        }
    }
    samples
}

fn labels(series: usize) -> [u8; 4] {
    [1, b'a', 1, b'0' + series as u8]
}

/// A part of series that have points.
fn part(dir: &Path, number: u64, form: Form, all: &[Points]) -> Arc<Part> {
    let mut writer = PartWriter::create(Arc::new(RealDisk), plan(dir, number, form)).unwrap();
    for (series, points) in all.iter().enumerate() {
        writer.add_series(&labels(series), &samples(points)).unwrap();
    }
    Arc::new(writer.finish().unwrap())
}

/// The merged part, and how many samples were copied.
fn merged(dir: &Path, number: u64, parts: &[Arc<Part>], copies: Copies, kept: TimeRange) -> (Arc<Part>, u64) {
    let source = |part: &Arc<Part>| {
        let cursor = PartCursor::new(Arc::clone(part), part.index.all(), None);
        Source::part(cursor, Masks::default()).with_copies(copies)
    };
    let mut merge = Merge::new(parts.iter().map(source).collect());
    let mut writer = PartWriter::create(Arc::new(RealDisk), plan(dir, number, Form::Cold)).unwrap();
    let mut series = SeriesWriter { long_samples: 4, ..SeriesWriter::new(kept) };
    while merge.next().unwrap() {
        series.write(&mut merge, &mut writer).unwrap();
    }
    let copied = writer.copied_samples();
    (Arc::new(writer.finish().unwrap()), copied)
}

fn read(part: &Arc<Part>) -> Vec<(Vec<u8>, RawSeries)> {
    let mut merge =
        Merge::new(vec![Source::part(PartCursor::new(Arc::clone(part), part.index.all(), None), Masks::default())]);
    let (mut all, mut samples) = (Vec::new(), Samples::default());
    while merge.next().unwrap() {
        merge.read(TimeRange::ALL, &mut samples).unwrap();
        all.push((merge.labels().unwrap().to_vec(), samples.clone().into_raw(Labels::empty())));
    }
    all
}

fn assert_same(found: &Arc<Part>, expected: &Arc<Part>) {
    let counts = |part: &Part| {
        let meta = &part.meta;
        (meta.series, meta.samples, meta.histograms, meta.min_time_ms, meta.max_time_ms)
    };
    assert_eq!(counts(found), counts(expected));
    let (found, expected) = (read(found), read(expected));
    assert_eq!(found.len(), expected.len());
    for ((labels, one), (expected_labels, other)) in found.iter().zip(&expected) {
        assert_eq!(labels, expected_labels);
        assert_eq!((&one.timestamps_ms, &one.start_ms), (&other.timestamps_ms, &other.start_ms));
        let bits = |series: &RawSeries| series.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(one), bits(other));
        assert_eq!(one.histogram_start_ms, other.histogram_start_ms);
        assert_eq!(one.histograms.len(), other.histograms.len());
        for (a, b) in one.histograms.iter().zip(&other.histograms) {
            assert!(a.timestamp_ms == b.timestamp_ms && a.histogram.bits_equal(&b.histogram));
        }
    }
}

fn all_kept() -> TimeRange {
    TimeRange::new(i64::MIN, i64::MAX)
}

#[test]
fn chunks_that_nobody_overlaps_are_copied_and_the_others_joined() {
    let dir = tempfile::tempdir().unwrap();
    let run = |from: i64, count: i64| -> Points { (from..from + count).map(|time| (time, time as u64, 1)).collect() };
    let parts = [
        part(dir.path(), 1, Form::Cold, &[run(0, 10), run(0, 3), run(0, 10)]),
        part(dir.path(), 2, Form::Cold, &[run(10, 10), run(10, 3), run(20, 10)]),
        // Late: within the first of the third series.
        part(dir.path(), 3, Form::Cold, &[run(20, 10), run(20, 3), run(5, 1)]),
    ];
    let (copying, copied) = merged(dir.path(), 10, &parts, Copies::Long, all_kept());
    let (decoding, none) = merged(dir.path(), 11, &parts, Copies::Nothing, all_kept());
    assert_eq!((copied, none), (30 + 10, 0));
    assert_eq!((copying.meta.chunks, decoding.meta.chunks), (3 + 1 + 2, 3));
    assert_same(&copying, &decoding);
}

#[test]
fn a_part_written_again_in_its_window_is_copied_but_for_what_retention_takes() {
    let dir = tempfile::tempdir().unwrap();
    let run = |from: i64, count: i64| -> Points { (from..from + count).map(|time| (time, time as u64, 1)).collect() };
    let source = [part(dir.path(), 1, Form::Cold, &[run(0, 3), run(10, 3), run(4, 3)])];
    let kept = TimeRange::new(5, i64::MAX);
    let (copying, copied) = merged(dir.path(), 10, &source, Copies::Alone, kept);
    assert_eq!((copied, copying.meta.series, copying.meta.samples), (3, 2, 5));
    assert_same(&copying, &merged(dir.path(), 11, &source, Copies::Nothing, kept).0);
}

fn points() -> impl Strategy<Value = Points> {
    let value = prop_oneof![2 => (0_u32..50).prop_map(|n| f64::from(n).to_bits()), 1 => any::<u64>()];
    // Mostly a stretch of their own, so that chunks are free; sometimes anywhere.
    (0_i64..8, proptest::collection::btree_map(0_i64..40, (value, 0_u8..15), 0..24), 0_u8..10).prop_map(
        |(stretch, points, of_one_kind)| {
            let kind = |kind: u8| if of_one_kind < 6 { kind % 3 } else { kind };
            points.into_iter().map(|(time, (bits, of))| (stretch * 40 + time, bits, kind(of))).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn copying_changes_no_bit(
        parts in proptest::collection::vec(proptest::collection::vec(points(), 3), 1..5), kept_from in -40_i64..80
    ) {
        let dir = tempfile::tempdir().unwrap();
        let numbered = parts.iter().enumerate();
        let parts: Vec<_> = numbered.map(|(at, all)| part(dir.path(), at as u64 + 1, Form::Cold, all)).collect();
        let kept = TimeRange::new(kept_from, i64::MAX);
        let (decoding, _) = merged(dir.path(), 20, &parts, Copies::Nothing, kept);
        for (number, copies) in [(21, Copies::Long), (22, Copies::Alone)] {
            assert_same(&merged(dir.path(), number, &parts, copies, kept).0, &decoding);
        }
    }
}

/// One series of a part may have as many samples as thousands of others.
#[test]
fn a_long_series_is_asked_about_while_it_is_decoded() {
    let dir = tempfile::TempDir::new().unwrap();
    let points: Points = (0..300_000).map(|at| (at, (at as f64).sqrt().to_bits(), 0)).collect();
    let part = part(dir.path(), 1, Form::Young, &[points]);
    let read = |context: &ReadContext| {
        let mut samples = Samples::default();
        let mut cursor = PartCursor::new(Arc::clone(&part), part.index.all(), None).within(context);
        (cursor.read(TimeRange::ALL, &mut samples).map_err(StorageError::from), samples.len())
    };
    let (read_all, all) = read(&ReadContext::unlimited());
    assert!(read_all.is_ok() && all == 300_000);
    let cancelled = ReadContext::unlimited();
    cancelled.cancel.cancel();
    let (refused, at) = read(&cancelled);
    assert!(matches!(refused, Err(StorageError::Interrupted(_))) && at < 70_000, "{at} samples");
    let small = ReadContext { memory: MemoryBudget::new(3 << 20), ..ReadContext::unlimited() };
    let (refused, at) = read(&small);
    assert!(matches!(refused, Err(StorageError::Memory(_))) && at < 270_000, "{at} samples");
}

#[test]
fn who_merges_many_parts_reads_their_large_blocks_in_stretches() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing to compress; each fifth series has the values of the first, which are stored once, far before.
    let bits = |series: u64, at: u64| (series * 10_000 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
    let points = |series: u64| -> Points {
        let of = if series % 5 == 4 { 0 } else { series };
        (0..2_000_u32).map(|at| (i64::from(at), bits(of, u64::from(at)), 0)).collect()
    };
    let all: Vec<Points> = (0..40).map(points).collect();
    let part = part(dir.path(), 1, Form::Young, &all);
    let taken = |sources: usize| {
        let mut cursor = PartCursor::merging(Arc::clone(&part), part.index.all(), sources);
        let (mut at, mut most) = (0, 0);
        while cursor.number().is_some() {
            let mut samples = Samples::default();
            cursor.read(TimeRange::ALL, &mut samples).unwrap();
            let found: Vec<u64> = samples.floats.values.iter().map(|value| value.to_bits()).collect();
            let expected: Vec<u64> = all[at].iter().map(|(_, bits, _)| *bits).collect();
            assert!(found == expected, "series {at}, one of {sources} sources");
            (at, most) = (at + 1, most.max(cursor.bytes()));
            cursor.advance();
        }
        assert_eq!(at, all.len());
        most
    };
    let (alone, many) = (taken(1), taken(64));
    assert!(part.meta.data_bytes > 400_000 && alone > 400_000 && many < 250_000, "{alone} and {many} bytes");
}

/// What a merge writes has a checksum of its own: rot behind an earlier check must not get one.
#[test]
fn who_merges_trusts_no_earlier_check() {
    let dir = tempfile::tempdir().unwrap();
    let bits = |series: u64, at: u64| (series * 10_000 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
    let points =
        |series: u64| -> Points { (0..2_000_u32).map(|at| (i64::from(at), bits(series, u64::from(at)), 0)).collect() };
    let part = part(dir.path(), 1, Form::Young, &(0..20).map(points).collect::<Vec<_>>());
    let first = |mut cursor: PartCursor| cursor.read(TimeRange::ALL, &mut Samples::default());
    first(PartCursor::new(Arc::clone(&part), [0].into(), None)).unwrap();
    let path = part.dir.join(crate::part::writer::DATA_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for sources in [1, 64] {
        let read = first(PartCursor::merging(Arc::clone(&part), part.index.all(), sources));
        assert!(matches!(read, Err(TsdbError::Checksum { .. })), "{read:?}");
    }
}
