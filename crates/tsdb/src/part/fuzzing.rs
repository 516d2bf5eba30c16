//! A part made of any blocks: see [`crate::fuzzing`].

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pharos_base::ByteSize;
use pharos_chunk::bytes::push_varint;
use pharos_chunk::{CHUNK_SAMPLES_MAX, Form};
use pharos_model::{Labels, TimeRange};
use roaring::RoaringBitmap;
use serde_json::json;

use super::block::{self, BlockAt, BlockFile, Packing};
use super::exemplars::{Entries, ExemplarCursor, ExemplarWriter};
use super::index::IndexCache;
use super::index::fuzzing::without_labels;
use super::meta::{META_FILE, PartMeta};
use super::toc::{BLOCK_SERIES, DataToc};
use super::writer::{DATA_FILE, EXEMPLARS_FILE, INDEX_FILE, data_header};
use super::{Part, PartCursor, exemplars};
use crate::TsdbError;
use crate::body::{self, Body, Encoded};
use crate::cache::BlockCache;
use crate::disk::RealDisk;
use crate::fuzzing::{Input, push_slices};
use crate::newest::Newest;
use crate::samples::{Column, Samples};

const SERIES_END: u64 = 3 * BLOCK_SERIES as u64;

/// Reads all samples and exemplars of a part in every way the store does: series by series, many together, through a
/// cache and past it, the newest alone. Input: version of the data file − 1, series count, number of blocks of instants;
/// for each the number of its first column and its payload; the payload of a block of exemplars; then the payloads of
/// the blocks of chunk headers and bulks.
///
/// All ways must agree, samples must be sorted, and what was decoded must survive encoding in both forms.
///
/// # Panics
/// If that does not hold: a bug.
pub fn part(dir: &Path, bytes: &[u8]) {
    let part = Arc::new(build(dir, &mut Input::new(bytes)));
    let cache = Arc::new(BlockCache::new(ByteSize::mib(1)));
    let together = read(&part, &all(&part), None);
    let cached = read(&part, &all(&part), Some(&cache));
    assert_eq!(together.len(), cached.len());
    for (number, (together, cached)) in together.iter().zip(&cached).enumerate() {
        let one = RoaringBitmap::from_iter([number as u32]);
        let apart = read(&part, &one, None).pop().expect("one series was asked for");
        for other in [cached, &apart] {
            assert_eq!(together.is_ok(), other.is_ok(), "series {number}");
        }
        if let (Ok(together), Ok(cached), Ok(apart)) = (together, cached, &apart) {
            check(together);
            assert!(same(together, cached) && same(together, apart), "series {number}");
            encode_again(together);
        }
    }
    read_exemplars(&part);
}

/// The input that stands for the part in `dir`.
///
/// # Errors
/// [`TsdbError`] if it cannot be read.
pub fn part_input(dir: &Path) -> Result<Vec<u8>, TsdbError> {
    let part = Part::open(dir, &Arc::new(IndexCache::new(0)))?;
    let mut input = vec![(part.data_version - 1) as u8];
    push_varint(&mut input, part.meta.series);
    push_varint(&mut input, part.toc.times.len() as u64);
    for (first, at) in &part.toc.times {
        push_varint(&mut input, u64::from(*first));
        push_slices(&mut input, [part.data.read("block", *at)?.as_slice()]);
    }
    let exemplars = match fs::read(dir.join(EXEMPLARS_FILE)) {
        Ok(file) => block::unpack("block", dir, 4, file[4..].to_vec())?,
        Err(_) => Vec::new(),
    };
    push_slices(&mut input, [exemplars.as_slice()]);
    for (headers, bodies) in part.toc.headers.iter().zip(&part.toc.bodies) {
        let blocks = [part.data.read("block", *headers)?, part.data.read("block", *bodies)?];
        push_slices(&mut input, blocks.iter().map(Vec::as_slice));
    }
    Ok(input)
}

/// A part whose blocks are those of the input, with an index that does not know the labels of its series.
fn build(dir: &Path, input: &mut Input<'_>) -> Part {
    let data_version = 1 + input.number(2) as u32;
    let series = input.number(SERIES_END);
    let (mut data, mut toc) = (data_header(data_version).to_vec(), DataToc::default());
    let mut push = |payload: &[u8]| {
        let offset = data.len() as u64;
        BlockAt { offset, len: block::write(payload, Packing::Plain, &mut data) }
    };
    for _ in 0..input.number(4) {
        let first = input.number(1 << 32) as u32;
        toc.times.push((first, push(input.slice())));
    }
    let mut exemplars = Vec::new();
    let length = block::write(input.slice(), Packing::Plain, &mut exemplars);
    let exemplars = [length.to_le_bytes().as_slice(), &exemplars].concat();
    for _ in 0..(series as usize).div_ceil(BLOCK_SERIES) {
        toc.headers.push(push(input.slice()));
        toc.bodies.push(push(input.slice()));
    }
    let index = without_labels(series, &toc);
    let files = [(DATA_FILE, &data), (EXEMPLARS_FILE, &exemplars), (INDEX_FILE, &index)];
    let lengths = files.map(|(_, bytes)| bytes.len());
    let meta = description(series, lengths).encode();
    for (name, bytes) in files.into_iter().chain([(META_FILE, &meta)]) {
        fs::write(dir.join(name), bytes).expect("a folder for scratch files");
    }
    Part::open(dir, &Arc::new(IndexCache::new(0))).expect("what is read at first is sound")
}

fn description(series: u64, [data_bytes, exemplar_bytes, index_bytes]: [usize; 3]) -> PartMeta {
    let meta = json!({
        "version": 1, "tenant": "0", "number": 1, "sequence": 1, "window_start_ms": 0, "window_end_ms": 7_200_000,
        "min_time_ms": i64::MIN, "max_time_ms": i64::MAX, "level": 0, "series": series, "samples": 0, "histograms": 0,
        "chunks": 0, "exemplars": 0, "data_bytes": data_bytes, "index_bytes": index_bytes, "exemplar_bytes": exemplar_bytes,
        "replaces": [], "checksum": 0,
    });
    serde_json::from_value(meta).expect("it is a description")
}

fn all(part: &Part) -> RoaringBitmap {
    (0..part.meta.series as u32).collect()
}

/// All samples of the selected series; the newest and a piece of each are asked for, too, and compared.
fn read(
    part: &Arc<Part>,
    selected: &RoaringBitmap,
    cache: Option<&Arc<BlockCache>>,
) -> Vec<Result<Samples, TsdbError>> {
    let cursor = || PartCursor::new(Arc::clone(part), selected.clone(), cache.map(Arc::clone));
    let (mut whole, mut newest, mut found) = (cursor(), cursor(), Vec::new());
    while whole.number().is_some() {
        let mut samples = Samples::default();
        let read = whole.read(TimeRange::ALL, &mut samples);
        let last = newest.newest(TimeRange::ALL);
        // Many series are asked for their newest samples together: then one that is damaged fails all.
        if let (Ok(()), Ok(last)) = (&read, last) {
            let expected = Newest::of(&samples, TimeRange::ALL);
            assert_eq!(last.map(|newest| newest.time_ms), expected.map(|newest| newest.time_ms));
        }
        found.push(read.map(|()| samples));
        whole.advance();
        newest.advance();
    }
    found
}

/// Sorted means: both columns ascend strictly in time and share no instant.
fn check(samples: &Samples) {
    let (floats, histograms) = (&samples.floats, &samples.histograms);
    assert_eq!((floats.times.len(), histograms.times.len()), (floats.values.len(), histograms.values.len()));
    for (times, starts) in [(&floats.times, &floats.starts), (&histograms.times, &histograms.starts)] {
        assert!(times.is_sorted_by(|a, b| a < b) && (starts.is_empty() || starts.len() == times.len()));
    }
    assert!(floats.times.iter().all(|time| histograms.times.binary_search(time).is_err()));
}

fn same(a: &Samples, b: &Samples) -> bool {
    let bits = |column: &Column<f64>| column.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let histograms = a.histograms.values.iter().zip(&b.histograms.values);
    (&a.floats.times, &a.floats.starts) == (&b.floats.times, &b.floats.starts)
        && (&a.histograms.times, &a.histograms.starts) == (&b.histograms.times, &b.histograms.starts)
        && bits(&a.floats) == bits(&b.floats)
        && histograms.into_iter().all(|(a, b)| a.bits_equal(b))
}

fn encode_again(samples: &Samples) {
    let (floats, histograms) = (&samples.floats, &samples.histograms);
    for form in [Form::Young, Form::Cold] {
        if (1..=CHUNK_SAMPLES_MAX).contains(&floats.len()) {
            let mut bytes = Vec::new();
            let encoded = body::encode_floats(&floats.values, &floats.starts, form, &mut bytes);
            let expected = Samples { floats: floats.clone(), ..Samples::default() };
            assert!(same(&decode(encoded, &bytes, &floats.times), &expected), "{form:?}");
        }
        let cuts = body::histogram_cuts(&histograms.values);
        for (from, to) in std::iter::once(&0).chain(&cuts).zip(&cuts).map(|(from, to)| (*from, *to)) {
            let mut bytes = Vec::new();
            let piece = Column {
                times: histograms.times[from..to].to_vec(),
                values: histograms.values[from..to].to_vec(),
                starts: histograms.starts.get(from..to).unwrap_or_default().to_vec(),
            };
            let encoded = body::encode_histograms(&piece.values, &piece.starts, form, &mut bytes);
            let found = decode(encoded, &bytes, &piece.times);
            assert!(same(&found, &Samples { histograms: piece, ..Samples::default() }), "{form:?}");
        }
    }
}

fn decode(encoded: Encoded, bytes: &[u8], times: &[i64]) -> Samples {
    body::decode(Body::of(encoded, bytes), times).expect("own encoding decodes")
}

fn read_exemplars(part: &Part) {
    let Ok(mut entries) = all_exemplars(part.exemplars()) else { return };
    exemplars::sort(&mut entries);
    let mut writer = ExemplarWriter::create(&RealDisk, &part.dir).expect("a folder for scratch files");
    for (labels, exemplar) in &entries {
        writer.push(labels.encoded(), exemplar).expect("a folder for scratch files");
    }
    writer.finish().expect("a folder for scratch files");
    let file = BlockFile::open(&part.dir.join(EXEMPLARS_FILE)).expect("it was written");
    let again = all_exemplars(ExemplarCursor::new(Some(&file))).expect("own exemplars are read");
    assert_eq!(again.len(), entries.len());
    for ((labels, exemplar), (expected_labels, expected)) in again.iter().zip(&entries) {
        assert_eq!((labels, &exemplar.labels), (expected_labels, &expected.labels));
        assert_eq!(exemplar.timestamp_ms, expected.timestamp_ms);
        assert_eq!(exemplar.value.to_bits(), expected.value.to_bits());
    }
}

fn all_exemplars(mut cursor: ExemplarCursor<'_>) -> Result<Entries, TsdbError> {
    let mut entries = Vec::new();
    while let Some(exemplar) = cursor.next()? {
        entries.extend(Labels::from_encoded(cursor.labels()).ok().map(|labels| (labels, exemplar)));
    }
    Ok(entries)
}
