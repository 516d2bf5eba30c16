//! The table of symbols of a request: what references to it mean, and whether they name labels that are known.

use super::framed::same;
use crate::wire::{Reader, WireError};

/// Texts by number.
pub(super) struct Symbols<'a> {
    body: &'a [u8],
    texts: Vec<&'a str>,
    series_count: usize,
}

/// The references of a series that was recognised, and where the text of each ends in the canonical form. Mostly the series
/// after it has nearly the same ones: what both begin with is compared in one piece.
#[derive(Debug, Default)]
pub(super) struct Recognised {
    references: Vec<u32>,
    ends: Vec<usize>,
}

impl Recognised {
    /// Forgets the series.
    pub(super) fn clear(&mut self) {
        self.references.clear();
        self.ends.clear();
    }

    /// How many of the references it has in common with others from the first on, and where the text of the last of them ends.
    #[inline]
    fn common(&self, references: &[u32]) -> (usize, usize) {
        let count = self.references.iter().zip(references).take_while(|(one, other)| one == other).count();
        (count, count.checked_sub(1).map_or(0, |last| self.ends[last]))
    }
}

impl<'a> Symbols<'a> {
    /// The table of a message, wherever in it it stands. Its first text is the empty one, which the protocol demands: references
    /// that are left out mean it. `None` if there are more than `texts_max`.
    pub(super) fn read(body: &'a [u8], texts_max: usize) -> Result<Option<Self>, WireError> {
        let (mut texts, mut series_count) = (Vec::new(), 0);
        let mut reader = Reader::new(body);
        while let Some(field) = reader.next()? {
            match field.number {
                4 if texts.len() == texts_max => return Ok(None),
                4 => texts.push(field.text()?),
                5 => series_count += 1,
                _ => {}
            }
        }
        if texts.first().is_some_and(|first| !first.is_empty()) {
            return Err(WireError::Symbols);
        }
        Ok(Some(Self { body, texts, series_count }))
    }

    /// How many series the message has.
    pub(super) fn series_count(&self) -> usize {
        self.series_count
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of a number, if there is one.
    #[inline]
    pub(super) fn get(&self, reference: u32) -> Option<&'a str> {
        self.texts.get(reference as usize).copied()
    }

    /// The text of a number, the empty one if there is none.
    pub(super) fn text(&self, reference: u32) -> &'a str {
        self.get(reference).unwrap_or_default()
    }

    /// Whether the references are these labels, in their order and no others. `before` is the canonical form of the series that was
    /// recognised before, which is `last`; that becomes this one, or none.
    #[inline]
    pub(super) fn are(&self, references: &[u32], encoded: &[u8], last: &mut Recognised, before: &[u8]) -> bool {
        let (count, end) = last.common(references);
        let is_it = match (encoded.split_at_checked(end), before.get(..end)) {
            (Some((front, rest)), Some(common)) if front == common => {
                last.references.truncate(count);
                last.ends.truncate(count);
                self.are_from(&references[count..], rest, end, &mut last.ends)
            }
            _ => false,
        };
        if is_it {
            last.references.extend_from_slice(&references[count..]);
        } else {
            last.clear();
        }
        is_it
    }

    /// Whether the references are what is left of a canonical form from `at` on; adds where each of their texts ends.
    #[inline]
    fn are_from(&self, references: &[u32], mut rest: &[u8], at: usize, ends: &mut Vec<usize>) -> bool {
        let end = at + rest.len();
        for reference in references {
            let (Some(text), Some((first, tail))) = (self.get(*reference), rest.split_first()) else { return false };
            let length = text.len();
            let after = if usize::from(*first) == length && length < 0x80 {
                same(self.from(text), tail, length).then(|| &tail[length..])
            } else {
                strip_long(rest, text)
            };
            let Some(after) = after else { return false };
            rest = after;
            ends.push(end - rest.len());
        }
        rest.is_empty()
    }

    /// The body from one of its texts on: bytes behind a text let short ones be compared at once.
    #[inline]
    fn from(&self, text: &str) -> &'a [u8] {
        &self.body[text.as_ptr().addr() - self.body.as_ptr().addr()..]
    }
}

/// What follows a text of a canonical form; `None` if it is another.
#[cold]
fn strip_long<'e>(mut rest: &'e [u8], text: &str) -> Option<&'e [u8]> {
    let mut length = text.len();
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        let more = if length < 0x80 { 0 } else { 0x80 };
        if *byte != (length & 0x7f) as u8 | more {
            return None;
        }
        length >>= 7;
        if more == 0 {
            return rest.strip_prefix(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::Labels;
    use pharos_proto::remote_write::v2;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![6 => "[a-c_é]{0,18}", 1 => (120..300_usize).prop_map(|n| "v".repeat(n)), 1 => Just("v".repeat(16_384))]
    }

    fn leb128(mut number: usize) -> impl Iterator<Item = u8> {
        let mut is_over = false;
        std::iter::from_fn(move || {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            let more = if number > 0 { 0x80 } else { 0 };
            (!std::mem::replace(&mut is_over, more == 0)).then_some(byte | more)
        })
    }

    proptest! {
        /// Whatever is recognised is what the general way makes of it, and canonical references are recognised.
        #[test]
        fn references_are_labels_or_not(
            texts in proptest::collection::vec(text(), 1..8),
            named in proptest::collection::vec(0..9_u32, 0..8),
            known in proptest::collection::btree_map("[a-c]{1,3}", text(), 0..4),
        ) {
            let symbols: Vec<_> = [String::new()].into_iter().chain(texts).collect();
            let body = v2::Request { symbols: symbols.clone(), timeseries: Vec::new() }.encode_to_vec();
            let table = Symbols::read(&body, usize::MAX).unwrap().unwrap();
            let known = Labels::from_pairs(known.iter().filter(|(_, value)| !value.is_empty())).unwrap();
            let pairs: Option<Vec<_>> = named.iter().map(|reference| table.get(*reference)).collect();
            let pairs: Vec<_> = pairs.iter().flatten().copied().collect();
            let labels = Labels::from_pairs(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]))).ok();
            let are = |labels: &Labels| table.are(&named, labels.encoded(), &mut Recognised::default(), &[]);
            if are(&known) {
                prop_assert_eq!(labels, Some(known));
            } else if let Some(labels) = labels.filter(|labels| 2 * labels.len() == named.len()) {
                let is_sorted = pairs.chunks_exact(2).is_sorted_by(|a, b| a[0] < b[0]);
                prop_assert_eq!(are(&labels), is_sorted);
            }
        }

        /// What was recognised before changes nothing of what is recognised.
        #[test]
        fn the_series_before_makes_no_difference(
            texts in proptest::collection::vec(text(), 1..6),
            series in proptest::collection::vec((proptest::collection::vec(0..7_u32, 0..8), 0..4_usize), 1..12),
        ) {
            let symbols: Vec<_> = [String::new()].into_iter().chain(texts).collect();
            let body = v2::Request { symbols, timeseries: Vec::new() }.encode_to_vec();
            let table = Symbols::read(&body, usize::MAX).unwrap().unwrap();
            let encoded = |references: &[u32]| {
                let texts = references.iter().filter_map(|reference| table.get(*reference));
                texts.flat_map(|text| leb128(text.len()).chain(text.bytes())).collect::<Vec<u8>>()
            };
            let (mut last, mut before) = (Recognised::default(), Vec::new());
            for (references, other) in &series {
                // Its own form, or that of another one.
                let form = encoded(if *other == 0 { references } else { &series[*other % series.len()].0 });
                let alone = table.are(references, &form, &mut Recognised::default(), &[]);
                prop_assert_eq!(table.are(references, &form, &mut last, &before), alone);
                before = if alone { form } else { Vec::new() };
            }
        }
    }

    #[test]
    fn references_beyond_the_table_are_nothing() {
        let body = v2::Request { symbols: vec![String::new(), "a".into()], timeseries: Vec::new() }.encode_to_vec();
        let table = Symbols::read(&body, 2).unwrap().unwrap();
        assert!(Symbols::read(&body, 1).unwrap().is_none(), "one too many");
        let known = Labels::from_pairs([("a", "a")]).unwrap();
        let are = |references: &[u32]| table.are(references, known.encoded(), &mut Recognised::default(), &[]);
        assert!(are(&[1, 1]));
        for references in [&[1, 2][..], &[1], &[1, 1, 1], &[], &[u32::MAX, 0]] {
            assert!(!are(references), "{references:?}");
        }
        assert_eq!((table.text(7), table.len()), ("", 2));
    }
}
