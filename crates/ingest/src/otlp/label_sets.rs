//! The label sets of one data point's series: one for a number, many for a histogram.

use pharos_model::{LabelError, Labels, LabelsBuilder};

/// A label set, shared with stores, which know it again by its address.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelSet {
    pub labels: Labels,
    /// Names and values without their lengths.
    pub text_bytes: u32,
}

/// The label sets of a point, in the order of its series.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelSets<'a> {
    pub first: &'a LabelSet,
    pub more: &'a [LabelSet],
}

impl<'a> LabelSets<'a> {
    /// The label set of series `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> &'a LabelSet {
        if index == 0 { self.first } else { &self.more[index - 1] }
    }

    /// What they take in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let all = std::iter::once(self.first).chain(self.more);
        all.map(|set| set.labels.encoded().len() + LABEL_SET_BYTES).sum()
    }
}

/// What a set takes beside its labels: the pointer, and counts before the labels.
const LABEL_SET_BYTES: usize = size_of::<LabelSet>() + 2 * size_of::<usize>();

/// Where label sets are put together; reusable.
#[derive(Debug, Default)]
pub(super) struct LabelSetsBuilder {
    encoded: Vec<u8>,
    none: LabelSet,
    sets: Vec<LabelSet>,
    memory_bytes: usize,
}

impl LabelSetsBuilder {
    pub(super) fn clear(&mut self) {
        self.sets.clear();
        self.memory_bytes = 0;
    }

    /// Adds the label set of `labels`, which is emptied.
    pub(super) fn push(&mut self, labels: &mut LabelsBuilder) -> Result<(), LabelError> {
        self.encoded.clear();
        let text_bytes: usize = labels.pairs().map(|(name, value)| name.len() + value.len()).sum();
        let encoded = labels.encode_into(&mut self.encoded);
        labels.clear();
        encoded?;
        self.sets.push(LabelSet { labels: Labels::from_canonical(&self.encoded), text_bytes: text_bytes as u32 });
        self.memory_bytes += self.encoded.len() + LABEL_SET_BYTES;
        Ok(())
    }

    /// What the sets take in memory so far.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(super) fn sets(&self) -> LabelSets<'_> {
        let (first, more) = self.sets.split_first().unwrap_or((&self.none, &[]));
        LabelSets { first, more }
    }
}
