//! From the labels of a series on the wire to the canonical form, without taking them apart.
//!
//! Both forms write a text as its length and its bytes; below 128 bytes the length is the same one byte. So the
//! labels of a series as senders commonly write them (name then value, ascending, ASCII, each label shorter
//! than 128 bytes) become canonical by leaving the framing out. Whatever is unusual is left to the general way,
//! which also finds the words for what is refused.

use crate::Limits;

/// Longest canonical form that is written here.
const ENCODED_BYTES_MAX: usize = 1024;
/// Copies are made in pieces of a register's size; what is behind the text is overwritten by the next.
const PIECE: usize = 16;
const NAME: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// Where canonical labels are put together.
pub(super) struct Canonical {
    bytes: [u8; ENCODED_BYTES_MAX + 2 * 128],
    length: usize,
    pairs: usize,
}

impl Canonical {
    pub(super) fn new() -> Self {
        Self { bytes: [0; ENCODED_BYTES_MAX + 2 * 128], length: 0, pairs: 0 }
    }

    /// The label set taken last.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// How many pairs it has.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Takes the labels at the front of a series and answers how many bytes they were; `None` if they are unusual or
    /// a limit does not let them pass, and what is here means nothing then.
    pub(super) fn take(&mut self, message: &[u8], limits: &Limits) -> Option<usize> {
        let (mut at, mut previous, mut named) = (0, Name::default(), false);
        (self.length, self.pairs) = (0, 0);
        while let [NAME, label, NAME, name_len, ..] = message[at..] {
            let (name_at, name_len) = (at + 4, usize::from(name_len));
            let end = at + 2 + usize::from(label);
            let (value_at, value_len) = match message.get(name_at + name_len..) {
                Some([VALUE, value_len, ..]) => (name_at + name_len + 2, usize::from(*value_len)),
                _ => return None,
            };
            if value_at + value_len != end || value_len == 0 {
                return None;
            }
            if name_len > limits.label_name_bytes_max || value_len > limits.label_value_bytes_max {
                return None;
            }
            let name = Name::new(message, name_at, name_len)?;
            if !name.is_after(&previous, message) {
                return None;
            }
            named |= name.is_metric_name();
            previous = name;
            self.push(message, name_at - 1, name_len + 1)?;
            self.push(message, value_at - 1, value_len + 1)?;
            self.pairs += 1;
            at = end;
        }
        // A label in another form follows.
        if message.get(at) == Some(&NAME) {
            return None;
        }
        // All framing is ASCII, so this one look covers every length and every text.
        (named && self.pairs <= limits.labels_max && message[..at].is_ascii()).then_some(at)
    }

    fn push(&mut self, message: &[u8], at: usize, length: usize) -> Option<()> {
        // A length that is no ASCII is found at the end; until then it must not lead outside.
        if self.length >= ENCODED_BYTES_MAX || length > 128 {
            return None;
        }
        for piece in (0..length).step_by(PIECE) {
            let to = &mut self.bytes[self.length + piece..];
            match message.get(at + piece..)?.first_chunk::<PIECE>() {
                Some(from) => *to.first_chunk_mut()? = *from,
                // The end of the message is near.
                None => to[..length - piece].copy_from_slice(message.get(at + piece..at + length)?),
            }
        }
        self.length += length;
        Some(())
    }
}

/// A name in a message, with its first bytes as a number that compares as they do.
#[derive(Debug, Default, Clone, Copy)]
struct Name {
    head: u64,
    at: usize,
    length: usize,
}

impl Name {
    fn new(message: &[u8], at: usize, length: usize) -> Option<Self> {
        let bytes: &[u8; 8] = message.get(at..)?.first_chunk()?;
        let kept = 8 * length.min(8) as u32;
        let mask = if kept == 64 { u64::MAX } else { !(u64::MAX >> kept) };
        Some(Self { head: u64::from_be_bytes(*bytes) & mask, at, length })
    }

    fn is_after(&self, previous: &Self, message: &[u8]) -> bool {
        let text = |name: &Self| &message[name.at..name.at + name.length];
        self.head > previous.head || (self.head == previous.head && text(self) > text(previous))
    }

    fn is_metric_name(&self) -> bool {
        self.length == 8 && self.head == u64::from_be_bytes(*b"__name__")
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::Labels;
    use pharos_proto::remote_write::v1;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn message(pairs: &[(String, String)]) -> Vec<u8> {
        let labels = pairs.iter().map(|(name, value)| v1::Label { name: name.clone(), value: value.clone() }).collect();
        let samples = vec![v1::Sample { value: 1.5, timestamp: 1_700_000_000_000 }];
        v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() }.encode_to_vec()
    }

    fn take(pairs: &[(String, String)], limits: &Limits) -> Option<Vec<u8>> {
        let mut canonical = Canonical::new();
        canonical.take(&message(pairs), limits)?;
        Some(canonical.encoded().to_vec())
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn common_labels_become_canonical() {
        let long = "v".repeat(100);
        let pairs = owned(&[("__name__", "up"), ("a", "1"), ("a_name_of_more_than_16", &long), ("abc", "2")]);
        let expected = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v))).unwrap();
        let mut canonical = Canonical::new();
        let bytes = message(&pairs);
        let taken = canonical.take(&bytes, &Limits::default());
        assert_eq!((taken.is_some(), canonical.encoded(), canonical.pairs()), (true, expected.encoded(), 4));
    }

    #[test]
    fn what_is_unusual_is_left_alone() {
        let limits = Limits { labels_max: 3, label_name_bytes_max: 20, label_value_bytes_max: 30, ..Limits::default() };
        for pairs in [
            &[("__name__", "up"), ("b", "1"), ("a", "1")][..],
            &[("__name__", "up"), ("a", "1"), ("a", "1")],
            &[("__name__", "up"), ("a", "")],
            &[("a", "1")],
            &[("__name__", "é")],
            &[("__name__", "up"), ("a", "1"), ("b", "1"), ("c", "1")],
            &[("__name__", "up"), ("a_name_that_is_too_long", "1")],
            &[("__name__", "up"), ("a", "a value that is longer than thirty bytes")],
            &[],
        ] {
            assert_eq!(take(&owned(pairs), &limits), None, "{pairs:?}");
        }
    }

    proptest! {
        /// Whatever is taken is what the general way makes of it.
        #[test]
        fn what_is_taken_is_canonical(mut pairs in proptest::collection::vec(("[a-c_é\\x00]{0,10}", "[a-zé]{0,130}"), 0..12), sorted in any::<bool>()) {
            pairs.push(("__name__".to_owned(), "up".to_owned()));
            if sorted {
                pairs.sort();
            }
            if let Some(encoded) = take(&pairs, &Limits::default()) {
                let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v)));
                let labels = labels.unwrap();
                prop_assert_eq!(labels.encoded(), encoded);
            }
        }

        #[test]
        fn hostile_bytes_neither_panic_nor_pass(bytes in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..6_u8, any::<u8>()], 0..80)) {
            let mut canonical = Canonical::new();
            if canonical.take(&bytes, &Limits::default()).is_some() {
                prop_assert!(Labels::from_encoded(canonical.encoded()).is_ok());
            }
        }
    }
}
