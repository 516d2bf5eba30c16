//! An index file made of any blocks: see [`crate::fuzzing`].

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pharos_base::CancelToken;
use pharos_chunk::bytes::push_varint;
use pharos_model::{Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;

use super::toc::Toc;
use super::{INDEX_MAGIC, IndexCache, IndexWriter, LabelCursor, PartIndex, read_footer};
use crate::TsdbError;
use crate::fuzzing::{Input, push_slices};
use crate::index::SeriesIndex;
use crate::part::block::{self, BlockAt, BlockFile, Packing};
use crate::part::toc::{BLOCK_SERIES, DataToc, push_blocks};
use crate::part::writer::INDEX_FILE;

/// Series whose labels are built.
const SERIES_READ: u32 = 300;
/// An index of at most so many series is written anew.
const SERIES_WRITTEN: u32 = 40;
/// Label values that are looked for.
const VALUES_SOUGHT: usize = 8;

/// Asks an index everything the store does. Input: version − 1; payload of the table of contents (of version 1: the
/// series count alone); then the payloads of the blocks in the order of the table.
///
/// A small index that can be read must, written anew, hold the same series and find each by its labels.
///
/// # Panics
/// If that does not hold: a bug.
pub fn index(dir: &Path, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let file = if input.number(2) == 1 { current(&mut input) } else { first(&mut input) };
    let Ok(index) = open(dir, &file) else { return };
    let sets = read(&index);
    if sets.len() as u64 == index.all().len() && sets.len() <= SERIES_WRITTEN as usize {
        write_anew(dir, &sets);
    }
}

/// The input that stands for an index file.
///
/// # Errors
/// [`TsdbError`] if it cannot be read.
pub fn index_input(path: &Path) -> Result<Vec<u8>, TsdbError> {
    let file = BlockFile::open(path)?;
    let (version, at) = read_footer(&file)?;
    let (mut payload, mut places) = (file.read("block", at)?, Vec::new());
    if version == 1 {
        let (toc, _) = super::v1::Toc::decode(&payload).map_err(TsdbError::chunk("block", path, at.offset))?;
        payload.clear();
        push_varint(&mut payload, u64::from(toc.series_count));
        places.extend_from_slice(toc.blocks());
    } else {
        let (mut toc, _) = Toc::decode(&payload).map_err(TsdbError::chunk("block", path, at.offset))?;
        each_block(&mut toc, |at| places.push(*at));
    }
    let mut input = vec![(version - 1) as u8];
    push_slices(&mut input, [payload.as_slice()]);
    for at in places {
        push_slices(&mut input, [file.read("block", at)?.as_slice()]);
    }
    Ok(input)
}

/// Calls `each` with the places of all blocks, in the order of the file.
fn each_block(toc: &mut Toc, mut each: impl FnMut(&mut BlockAt)) {
    toc.values.iter_mut().for_each(|block| each(&mut block.at));
    for segment in &mut toc.segments {
        each(&mut segment.shapes);
        segment.groups.iter_mut().for_each(|(_, at)| each(at));
    }
}

fn current(input: &mut Input<'_>) -> Vec<u8> {
    let (mut file, mut payload) = (Vec::new(), input.slice().to_vec());
    if let Ok((mut toc, data)) = Toc::decode(&payload) {
        each_block(&mut toc, |at| at.len = block::write(input.slice(), Packing::Plain, &mut file));
        payload = toc.encode(&data);
    }
    end(file, &payload, 2)
}

fn first(input: &mut Input<'_>) -> Vec<u8> {
    let series = Input::new(input.slice()).number(u64::from(SERIES_READ));
    let (mut file, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..(series as usize).div_ceil(BLOCK_SERIES) {
        let offset = file.len() as u64;
        labels.push(BlockAt { offset, len: block::write(input.slice(), Packing::Plain, &mut file) });
    }
    let data = DataToc { headers: labels.clone(), bodies: labels.clone(), times: Vec::new() };
    end_first(file, series, &labels, &data)
}

/// An index file that says what is in a data file, and nothing about the labels of its series.
pub(crate) fn without_labels(series: u64, data: &DataToc) -> Vec<u8> {
    end_first(Vec::new(), series, &vec![BlockAt::default(); data.headers.len()], data)
}

/// Appends what ends a file of version 1.
fn end_first(file: Vec<u8>, series: u64, labels: &[BlockAt], data: &DataToc) -> Vec<u8> {
    let mut payload = Vec::new();
    push_varint(&mut payload, series);
    push_blocks(&mut payload, labels);
    data.encode(&mut payload);
    end(file, &payload, 1)
}

/// Appends a table of contents and a footer.
fn end(mut file: Vec<u8>, payload: &[u8], version: u32) -> Vec<u8> {
    let offset = file.len() as u64;
    let len = block::write(payload, Packing::Plain, &mut file);
    file.extend_from_slice(&offset.to_le_bytes());
    file.extend_from_slice(&len.to_le_bytes());
    file.extend_from_slice(&version.to_le_bytes());
    file.extend_from_slice(&INDEX_MAGIC);
    file
}

fn open(dir: &Path, bytes: &[u8]) -> Result<PartIndex, TsdbError> {
    let path = dir.join(INDEX_FILE);
    fs::write(&path, bytes).expect("a folder for scratch files");
    PartIndex::open(BlockFile::open(&path)?, &Arc::new(IndexCache::new(1 << 20))).map(|(index, _)| index)
}

/// Asks everything; answers the labels of the series that have canonical ones.
fn read(index: &PartIndex) -> Vec<Labels> {
    let all = index.all();
    let some: RoaringBitmap = all.iter().step_by(3).take(SERIES_READ as usize).collect();
    let (mut names, mut sets) = (vec!["absent".to_owned()], Vec::new());
    for selected in [None, Some(&some)] {
        let _ = index.label_names(selected, |name| {
            names.push(name.to_owned());
            true
        });
    }
    names.dedup();
    for name in &names {
        let mut values = Vec::new();
        for selected in [None, Some(&some)] {
            let _ = index.label_values(name, selected, |value| {
                values.push(value.to_owned());
                true
            });
        }
        let sought = values.iter().take(VALUES_SOUGHT).map(String::as_str).chain(["", ".+", "a.*|b", "absent"]);
        for value in sought {
            for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                let Ok(matcher) = Matcher::new(op, name.as_str(), value) else { continue };
                if let Ok(found) = index.select(&[matcher, Matcher::equal(names[0].as_str(), "")], &CancelToken::new())
                {
                    assert!(found.is_subset(&all));
                }
            }
        }
    }
    let mut cursor = LabelCursor::default();
    for number in all.iter().take(SERIES_READ as usize).chain(all.max()) {
        if cursor.seek(index, number).is_ok() {
            let encoded = cursor.get(number).expect("the series is in the index");
            sets.extend(Labels::from_encoded(encoded).ok());
        }
    }
    sets.sort_by(|a, b| a.encoded().cmp(b.encoded()));
    sets.dedup();
    sets
}

fn write_anew(dir: &Path, sets: &[Labels]) {
    let mut writer = IndexWriter::default();
    for labels in sets {
        writer.add_series(labels.encoded());
    }
    let data = DataToc {
        headers: vec![BlockAt::default(); sets.len().div_ceil(BLOCK_SERIES)],
        bodies: vec![BlockAt::default(); sets.len().div_ceil(BLOCK_SERIES)],
        times: Vec::new(),
    };
    let index = open(dir, &writer.finish(&data)).expect("own index opens");
    let mut cursor = LabelCursor::default();
    for (number, labels) in (0..).zip(sets) {
        cursor.seek(&index, number).expect("own index is sound");
        assert_eq!(cursor.get(number), Some(labels.encoded()));
        let matchers: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        let expected: RoaringBitmap = (0..)
            .zip(sets)
            .filter(|(_, other)| labels.iter().all(|(name, value)| other.get(name) == Some(value)))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(index.select(&matchers, &CancelToken::new()).expect("own index is sound"), expected);
    }
}
