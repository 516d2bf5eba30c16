//! Writing the index of a part: label sets in ascending order in, the bytes of the file out.

use hashbrown::HashMap;
use pharos_model::iter_encoded;

use super::postings::{self, PostingList};
use super::toc::{PostingsBlock, Toc};
use super::{INDEX_MAGIC, INDEX_VERSION, labels};
use crate::part::block::{self, BlockAt, Packing};
use crate::part::toc::{BLOCK_SERIES, DataToc};

const LABELS_ZSTD: Packing = Packing::Zstd(6);
const TOC_ZSTD: Packing = Packing::Zstd(3);
const POSTINGS_BLOCK_BYTES: usize = 64 << 10;

/// An index being built.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    file: Vec<u8>,
    toc: Toc,
    label_sets: Vec<Vec<u8>>,
    postings: HashMap<Box<str>, HashMap<Box<str>, PostingList>>,
}

impl IndexWriter {
    /// Adds the next series; label bytes ascend from call to call.
    pub(crate) fn add_series(&mut self, labels: &[u8]) {
        debug_assert!(self.label_sets.last().is_none_or(|previous| previous.as_slice() < labels));
        let number = self.toc.series_count;
        for (name, value) in iter_encoded(labels) {
            let values = match self.postings.get_mut(name) {
                Some(values) => values,
                None => self.postings.entry(name.into()).or_default(),
            };
            match values.get_mut(value) {
                Some(list) => list.push(number),
                None => values.entry(value.into()).or_default().push(number),
            }
        }
        self.toc.series_count += 1;
        self.label_sets.push(labels.to_vec());
        if self.label_sets.len() >= BLOCK_SERIES {
            self.end_labels();
        }
    }

    /// Series so far.
    pub(crate) fn series_count(&self) -> u32 {
        self.toc.series_count
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self, data: &DataToc) -> Vec<u8> {
        if !self.label_sets.is_empty() {
            self.end_labels();
        }
        let mut names: Vec<_> = std::mem::take(&mut self.postings).into_iter().collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, values) in names {
            let mut values: Vec<_> = values.into_iter().collect();
            values.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let (mut payload, mut first, mut previous) = (Vec::new(), String::new(), String::new());
            for (value, list) in values {
                if payload.is_empty() {
                    first = value.to_string();
                    previous.clear();
                }
                postings::push_postings(&mut payload, &previous, &value, &list);
                previous.replace_range(.., &value);
                if payload.len() >= POSTINGS_BLOCK_BYTES {
                    self.end_postings(&name, &first, &mut payload);
                }
            }
            if !payload.is_empty() {
                self.end_postings(&name, &first, &mut payload);
            }
        }
        let toc_offset = self.file.len() as u64;
        let toc_len = block::write(&self.toc.encode(data), TOC_ZSTD, &mut self.file);
        self.file.extend_from_slice(&toc_offset.to_le_bytes());
        self.file.extend_from_slice(&toc_len.to_le_bytes());
        self.file.extend_from_slice(&INDEX_VERSION.to_le_bytes());
        self.file.extend_from_slice(&INDEX_MAGIC);
        self.file
    }

    fn end_labels(&mut self) {
        let at = self.write_block(&labels::encode_labels(&self.label_sets));
        self.toc.labels.push(at);
        self.label_sets.clear();
    }

    fn end_postings(&mut self, name: &str, first_value: &str, payload: &mut Vec<u8>) {
        let at = self.write_block(payload);
        self.toc.postings.push(PostingsBlock { name: name.to_owned(), first_value: first_value.to_owned(), at });
        payload.clear();
    }

    fn write_block(&mut self, payload: &[u8]) -> BlockAt {
        let offset = self.file.len() as u64;
        BlockAt { offset, len: block::write(payload, LABELS_ZSTD, &mut self.file) }
    }
}
