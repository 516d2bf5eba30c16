//! The index file of a part: label sets by series number, and series numbers by label value.
//!
//! A series' number is its position in the part, in ascending order of label bytes. Bytes: `docs/part.md`.

mod labels;
mod postings;
mod toc;
mod writer;

use pharos_chunk::ChunkError;
use roaring::RoaringBitmap;

use self::toc::Toc;
pub(crate) use self::writer::IndexWriter;
use super::block::{BlockAt, BlockFile};
use super::toc::{BLOCK_SERIES, DataToc};
use crate::TsdbError;
use crate::index::LabelIndex;

/// The version written; all from 1 on are read.
const INDEX_VERSION: u32 = 1;
const INDEX_MAGIC: [u8; 8] = *b"PHAROSIX";
/// TOC offset `u64`, TOC length `u32`, version `u32`, magic.
const FOOTER_LEN: usize = 24;

/// The open index of a part.
#[derive(Debug)]
pub(crate) struct PartIndex {
    file: BlockFile,
    toc: Toc,
}

/// Label bytes of series asked for in ascending order: holds one decoded block.
#[derive(Debug, Default)]
pub(crate) struct LabelCursor {
    block: Option<(usize, Vec<Box<[u8]>>)>,
}

impl LabelCursor {
    /// Makes the labels of series `number` ready for [`LabelCursor::get`].
    pub(crate) fn seek(&mut self, index: &PartIndex, number: u32) -> Result<(), TsdbError> {
        let block = number as usize / BLOCK_SERIES;
        if self.block.as_ref().is_none_or(|(loaded, _)| *loaded != block) {
            self.block = Some((block, index.read_labels(block)?));
        }
        Ok(())
    }

    /// Label bytes of the series sought last.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        let (_, sets) = self.block.as_ref()?;
        sets.get(number as usize % BLOCK_SERIES).map(AsRef::as_ref)
    }
}

impl PartIndex {
    /// Opens an index file; what it says about the data file comes with it.
    pub(crate) fn open(file: BlockFile) -> Result<(Self, DataToc), TsdbError> {
        let (toc, data) = read_toc(&file)?;
        Ok((Self { file, toc }, data))
    }

    /// Every label name of any series.
    pub(crate) fn label_names(&self) -> impl Iterator<Item = &str> {
        self.toc.postings.iter().map(|block| block.name.as_str())
    }

    /// Calls `each` with every value of a label and its series among `selected` (`None`: all).
    pub(crate) fn label_values(
        &self,
        name: &str,
        selected: Option<&RoaringBitmap>,
        mut each: impl FnMut(&str),
    ) -> Result<(), TsdbError> {
        let mut numbers = Vec::new();
        self.for_each_value(name, |value, encoded| {
            if let Some(selected) = selected {
                numbers.clear();
                postings::decode_numbers(encoded, self.toc.series_count, &mut numbers)?;
                if !numbers.iter().any(|number| selected.contains(*number)) {
                    return Ok(());
                }
            }
            each(value);
            Ok(())
        })
    }

    fn for_each_value(
        &self,
        name: &str,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), ChunkError>,
    ) -> Result<(), TsdbError> {
        let from = self.toc.postings.partition_point(|block| block.name.as_str() < name);
        for block in self.toc.postings[from..].iter().take_while(|block| block.name == name) {
            let payload = self.file.read("postings block", block.at)?;
            postings::for_each_value(&payload, |value, _, encoded| each(value, encoded).map(|()| true))
                .map_err(TsdbError::chunk("postings block", &self.file.path, block.at.offset))?;
        }
        Ok(())
    }

    fn read_labels(&self, block: usize) -> Result<Vec<Box<[u8]>>, TsdbError> {
        let at = self.toc.labels[block];
        let payload = self.file.read("label block", at)?;
        let sets =
            labels::decode_labels(&payload).map_err(TsdbError::chunk("label block", &self.file.path, at.offset))?;
        let expected = (self.toc.series_count as usize - block * BLOCK_SERIES).min(BLOCK_SERIES);
        if sets.len() != expected {
            return Err(corrupt(&self.file, "label block", at.offset, "wrong number of series"));
        }
        Ok(sets)
    }
}

impl LabelIndex for PartIndex {
    fn all(&self) -> Result<RoaringBitmap, TsdbError> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.toc.series_count);
        Ok(all)
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, TsdbError> {
        let after = self
            .toc
            .postings
            .partition_point(|block| (block.name.as_str(), block.first_value.as_str()) <= (name, value));
        let Some(block) = after.checked_sub(1).map(|last| &self.toc.postings[last]).filter(|block| block.name == name)
        else {
            return Ok(RoaringBitmap::new());
        };
        let payload = self.file.read("postings block", block.at)?;
        let mut numbers = Vec::new();
        postings::for_each_value(&payload, |found, _, encoded| {
            if found == value {
                postings::decode_numbers(encoded, self.toc.series_count, &mut numbers)?;
            }
            Ok(found < value)
        })
        .map_err(TsdbError::chunk("postings block", &self.file.path, block.at.offset))?;
        Ok(RoaringBitmap::from_sorted_iter(numbers).expect("decoded numbers ascend"))
    }

    fn any_of(&self, name: &str, passes: &mut dyn FnMut(&str) -> bool) -> Result<RoaringBitmap, TsdbError> {
        let mut found = RoaringBitmap::new();
        let mut numbers = Vec::new();
        self.for_each_value(name, |value, encoded| {
            if passes(value) {
                numbers.clear();
                postings::decode_numbers(encoded, self.toc.series_count, &mut numbers)?;
                found |= RoaringBitmap::from_sorted_iter(numbers.iter().copied()).expect("decoded numbers ascend");
            }
            Ok(())
        })?;
        Ok(found)
    }
}

fn read_toc(file: &BlockFile) -> Result<(Toc, DataToc), TsdbError> {
    let Some(footer_at) = file.len.checked_sub(FOOTER_LEN as u64) else {
        return Err(corrupt(file, "index footer", 0, "file is too short"));
    };
    let footer = file.read_raw(footer_at, FOOTER_LEN)?;
    let (numbers, magic) = footer.split_at(16);
    if magic != INDEX_MAGIC {
        return Err(corrupt(file, "index footer", footer_at, "not an index file"));
    }
    let mut reader = pharos_chunk::bytes::Reader::new(numbers);
    let fail = || TsdbError::chunk("index footer", &file.path, footer_at);
    let at = BlockAt { offset: reader.u64().map_err(fail())?, len: reader.u32().map_err(fail())? };
    let found = reader.u32().map_err(fail())?;
    if found > INDEX_VERSION {
        return Err(TsdbError::Version { path: file.path.clone(), found, supported: INDEX_VERSION });
    }
    Toc::decode(&file.read("table of contents", at)?).map_err(TsdbError::chunk(
        "table of contents",
        &file.path,
        at.offset,
    ))
}

fn corrupt(file: &BlockFile, what: &'static str, offset: u64, reason: &str) -> TsdbError {
    TsdbError::Corrupt { what, path: file.path.clone(), offset, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_blocks_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = labels::decode_labels(&bytes);
            let _ = postings::for_each_value(&bytes, |_, _, _| Ok(true));
            let _ = postings::decode_numbers(&bytes, 100, &mut Vec::new());
            let _ = Toc::decode(&bytes);
        }
    }
}
