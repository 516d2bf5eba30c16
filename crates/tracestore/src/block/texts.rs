//! Lists of texts and other byte strings with access to each.

use std::ops::Range;

use super::intern::Interner;
use crate::codec::{DecodeError, Reader, Writer};

/// What a column's distinct values take, about.
pub(super) struct TextCost {
    bytes: usize,
    count: usize,
}

impl TextCost {
    pub(super) fn of(values: &Interner) -> Self {
        Self { bytes: (0..values.len()).map(|value| values.get(value).len() + 1).sum(), count: values.len() }
    }

    pub(super) fn bits_per_value(&self) -> usize {
        self.bytes * 8 / self.count.max(1)
    }
}

/// Appends the texts with the numbers `entries`, in that order.
pub(super) fn put_texts(catalogue: &mut Vec<u8>, _bits: &mut Vec<u8>, values: &Interner, entries: &[u32]) {
    for entry in entries {
        catalogue.put_bytes(values.get(*entry as usize));
    }
}

/// A list of texts: where each stands in the catalogue.
#[derive(Debug)]
pub(super) struct Texts {
    ranges: Vec<Range<u32>>,
}

impl Texts {
    /// Reads a list of `count` texts out of `catalogue`, at whose end `reader` ends, too.
    pub(super) fn read(catalogue: &[u8], reader: &mut Reader<'_>, count: usize) -> Result<Self, DecodeError> {
        if count > reader.remaining() {
            return Err(DecodeError::Truncated("texts"));
        }
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let text = reader.bytes("text")?;
            let end = catalogue.len() - reader.remaining();
            ranges.push((end - text.len()) as u32..end as u32);
        }
        Ok(Self { ranges })
    }

    /// The text at `index`, which must be within the list.
    pub(super) fn get<'a>(&self, catalogue: &'a [u8], index: usize) -> &'a [u8] {
        let range = &self.ranges[index];
        &catalogue[range.start as usize..range.end as usize]
    }
}
