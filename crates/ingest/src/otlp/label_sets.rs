//! The label sets of one data point's series, encoded one behind the other: one for a number, many for a histogram.

use pharos_model::{Fingerprint, LabelError, LabelsBuilder, fingerprint, iter_encoded};

/// Where one label set lies among the bytes of all, and what is known of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LabelSetAt {
    fingerprint: Fingerprint,
    start: u32,
    length: u32,
    /// Names and values without their lengths.
    text_bytes: u32,
}

/// One label set in the canonical form.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelSet<'a> {
    pub encoded: &'a [u8],
    pub fingerprint: Fingerprint,
    pub text_bytes: u32,
}

/// The label sets of a point, in the order of its series.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelSets<'a> {
    pub bytes: &'a [u8],
    pub first: &'a LabelSetAt,
    pub more: &'a [LabelSetAt],
}

impl<'a> LabelSets<'a> {
    /// The label set of series `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> LabelSet<'a> {
        let at = if index == 0 { self.first } else { &self.more[index - 1] };
        let encoded = &self.bytes[at.start as usize..(at.start + at.length) as usize];
        LabelSet { encoded, fingerprint: at.fingerprint, text_bytes: at.text_bytes }
    }
}

/// Where label sets are put together; reusable.
#[derive(Debug, Default)]
pub(super) struct LabelSetsBuilder {
    bytes: Vec<u8>,
    first: LabelSetAt,
    sets: Vec<LabelSetAt>,
}

impl LabelSetsBuilder {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sets.clear();
    }

    /// Adds the label set of `labels`, which is emptied.
    pub(super) fn push(&mut self, labels: &mut LabelsBuilder) -> Result<(), LabelError> {
        let start = self.bytes.len();
        let encoded = labels.encode_into(&mut self.bytes);
        labels.clear();
        encoded?;
        let encoded = &self.bytes[start..];
        self.sets.push(LabelSetAt {
            fingerprint: fingerprint(encoded),
            start: start as u32,
            length: encoded.len() as u32,
            text_bytes: iter_encoded(encoded).map(|(name, value)| name.len() + value.len()).sum::<usize>() as u32,
        });
        Ok(())
    }

    /// Bytes taken so far.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.sets.as_slice())
    }

    pub(super) fn sets(&self) -> LabelSets<'_> {
        let (first, more) = self.sets.split_first().unwrap_or((&self.first, &[]));
        LabelSets { bytes: &self.bytes, first, more }
    }
}
