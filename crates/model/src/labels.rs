//! Label sets, kept in one canonical encoded form that is hashed once.
//!
//! Encoding: for every pair, ascending by name: name length, name, value length, value; lengths as
//! LEB128. Equal label sets have equal bytes, so a set is compared, hashed and stored without being
//! taken apart. A pair with an empty value is the same as no pair and never encoded.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// 128-bit XXH3 of the encoded labels. Stores that key series by it compare the bytes as well:
/// XXH3 is fast, not collision-proof against an attacker.
pub type Fingerprint = u128;

/// Bytes or pairs that are no label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum LabelError {
    #[error("label names must be unique and non-empty; {name:?} is not")]
    Name { name: String },
    #[error("corrupt encoded labels")]
    Encoding,
}

/// An immutable, sorted label set. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// From pairs in any order; pairs with empty values are left out.
    ///
    /// # Errors
    /// [`LabelError::Name`] for an empty or repeated name.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// From bytes in the canonical form, for instance out of a log record.
    ///
    /// # Errors
    /// [`LabelError::Encoding`] unless the bytes are exactly what [`Labels::encoded`] would give.
    pub fn from_encoded(bytes: &[u8]) -> Result<Self, LabelError> {
        validate(bytes)?;
        Ok(Self(Arc::from(bytes)))
    }

    /// From bytes that are known to be canonical: built by [`push_encoded_pair`] from names that ascend and values that
    /// are not empty. Costs a copy; other bytes make a set that is equal to none and ends early.
    #[must_use]
    pub fn from_canonical(bytes: &[u8]) -> Self {
        debug_assert_eq!(validate(bytes), Ok(()), "the caller knows them to be canonical");
        Self(Arc::from(bytes))
    }

    /// Whether both are one set in memory; equal sets may be two.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether somebody else holds this very set in memory, too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// The hash of the canonical bytes.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.0)
    }

    /// All pairs, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        iter_encoded(&self.0)
    }

    /// As [`Labels::iter`], as bytes, which are UTF-8 and need not be checked again to be copied or compared.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let mut rest = self.encoded();
        std::iter::from_fn(move || Some((take_bytes(&mut rest)?, take_bytes(&mut rest)?)))
    }

    /// The value of `name`, if the label is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.iter_bytes().find(|(found, _)| *found == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// The metric's name, or "".
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter_bytes().count()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Ord for Labels {
    /// Prometheus' order: pair by pair, names before values; the shorter set first on a tie.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter_bytes().cmp(other.iter_bytes())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// Prometheus' text form, `name{a="b"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut rest = self.iter().filter(|(name, _)| *name != METRIC_NAME).peekable();
        if rest.peek().is_none() {
            return if self.metric_name().is_empty() { f.write_str("{}") } else { Ok(()) };
        }
        f.write_str("{")?;
        let mut separator = "";
        for (name, value) in rest {
            write!(f, "{separator}{name}={value:?}")?;
            separator = ", ";
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects pairs, sorts them and encodes them; reusable, so that a hot path allocates nothing.
#[derive(Debug, Default, Clone)]
pub struct LabelsBuilder {
    text: String,
    pairs: Vec<PairAt>,
}

#[derive(Debug, Clone, Copy)]
struct PairAt {
    name_start: usize,
    value_start: usize,
    end: usize,
}

impl LabelsBuilder {
    /// Forgets all pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.pairs.clear();
    }

    /// Adds a pair; an empty value adds nothing.
    pub fn push(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let name_start = self.text.len();
        self.text.push_str(name);
        let value_start = self.text.len();
        self.text.push_str(value);
        self.pairs.push(PairAt { name_start, value_start, end: self.text.len() });
    }

    /// Sets a pair, replacing one of the same name; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes the pair called `name`, if there is one.
    pub fn remove(&mut self, name: &str) {
        let text = &self.text;
        self.pairs.retain(|pair| &text[pair.name_start..pair.value_start] != name);
    }

    /// How many pairs it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Whether a pair called `name` was added.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.pairs.iter().any(|pair| &self.text[pair.name_start..pair.value_start] == name)
    }

    /// All pairs added, in the order they were added (sorted, once they were encoded).
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let text = self.text.as_str();
        let pair = |at: &PairAt| (&text[at.name_start..at.value_start], &text[at.value_start..at.end]);
        self.pairs.iter().map(pair)
    }

    /// Appends the canonical bytes to `out`.
    ///
    /// # Errors
    /// [`LabelError::Name`] for an empty or repeated name; `out` is as before then.
    pub fn encode_into(&mut self, out: &mut Vec<u8>) -> Result<(), LabelError> {
        let text = self.text.as_str();
        let name = |pair: &PairAt| &text[pair.name_start..pair.value_start];
        if !self.pairs.is_sorted_by(|a, b| name(a) < name(b)) {
            self.pairs.sort_unstable_by(|a, b| name(a).cmp(name(b)));
            if let Some([twice, _]) = self.pairs.array_windows().find(|[one, next]| name(one) == name(next)) {
                return Err(LabelError::Name { name: name(twice).to_owned() });
            }
        }
        if self.pairs.first().is_some_and(|pair| name(pair).is_empty()) {
            return Err(LabelError::Name { name: String::new() });
        }
        for pair in &self.pairs {
            push_encoded_pair(out, name(pair), &text[pair.value_start..pair.end]);
        }
        Ok(())
    }

    /// The label set of all pairs added.
    ///
    /// # Errors
    /// As [`LabelsBuilder::encode_into`].
    pub fn build(&mut self) -> Result<Labels, LabelError> {
        let mut bytes = Vec::with_capacity(self.text.len() + 2 * self.pairs.len());
        self.encode_into(&mut bytes)?;
        Ok(Labels(Arc::from(bytes)))
    }
}

/// Appends one pair in the canonical form; the caller keeps names ascending and values non-empty.
pub fn push_encoded_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    for text in [name, value] {
        push_varint(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

/// The hash of encoded labels.
#[must_use]
pub fn fingerprint(encoded: &[u8]) -> Fingerprint {
    xxh3_128(encoded)
}

/// The pairs of encoded labels. Stops early at bytes that are not canonical, so hostile bytes are
/// harmless; check them with [`Labels::from_encoded`] first where that matters.
pub fn iter_encoded(encoded: &[u8]) -> impl Iterator<Item = (&str, &str)> + Clone {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let name = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        Some((name, value))
    })
}

/// Names and whole pairs (name and value with their lengths) of encoded labels, as bytes: for those who copy and compare
/// without reading. Stops early at bytes that are not canonical, as [`iter_encoded`] does.
pub fn encoded_pairs(encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let from = rest;
        let name = take_bytes(&mut rest)?;
        take_bytes(&mut rest)?;
        Some((name, &from[..from.len() - rest.len()]))
    })
}

fn push_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<usize> {
    let (&first, tail) = rest.split_first()?;
    *rest = tail;
    if first < 0x80 {
        return Some(first as usize);
    }
    let mut number = (first & 0x7f) as usize;
    for shift in [7, 14, 21, 28] {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= ((byte & 0x7f) as usize) << shift;
        if byte < 0x80 {
            // A longer form than needed would give equal labels two encodings.
            return (byte != 0).then_some(number);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_varint(rest)?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}

fn validate(encoded: &[u8]) -> Result<(), LabelError> {
    let mut rest = encoded;
    let mut previous = "";
    while !rest.is_empty() {
        let (Some(name), Some(value)) = (take_text(&mut rest), take_text(&mut rest)) else {
            return Err(LabelError::Encoding);
        };
        if name <= previous || value.is_empty() {
            return Err(LabelError::Encoding);
        }
        previous = name;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn order_of_arrival_does_not_matter() {
        let one = labels(&[("b", "2"), ("__name__", "m"), ("a", "1")]);
        let other = labels(&[("a", "1"), ("b", "2"), ("__name__", "m"), ("empty", "")]);
        assert_eq!(one, other);
        assert_eq!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.to_string(), r#"m{a="1", b="2"}"#);
    }

    #[test]
    fn repeated_and_empty_names_are_refused() {
        assert!(Labels::from_pairs([("a", "1"), ("a", "2")]).is_err());
        assert!(Labels::from_pairs([("", "1")]).is_err());
    }

    #[test]
    fn pairs_are_compared_one_by_one() {
        let mut sets = [labels(&[("b", "1")]), labels(&[("a", "2")]), labels(&[("a", "1"), ("b", "1")]), labels(&[])];
        sets.sort();
        assert_eq!(sets.map(|set| set.to_string()), ["{}", r#"{a="1", b="1"}"#, r#"{a="2"}"#, r#"{b="1"}"#]);
    }

    #[test]
    fn bytes_that_are_not_canonical_are_refused() {
        let good = labels(&[("a", "1"), ("b", "2")]);
        for cut in 1..good.encoded().len() {
            if cut != 4 {
                assert!(Labels::from_encoded(&good.encoded()[..cut]).is_err(), "{cut}");
            }
        }
        assert!(Labels::from_encoded(&[1, b'b', 1, b'1', 1, b'a', 1, b'1']).is_err(), "descending");
        assert!(Labels::from_encoded(&[1, b'a', 0]).is_err(), "empty value");
        assert!(Labels::from_encoded(&[0x81, 0, b'a', 1, b'1']).is_err(), "long varint");
        assert!(Labels::from_encoded(&[0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(), "huge length");
    }

    proptest! {
        #[test]
        fn encoding_round_trips(pairs in proptest::collection::btree_map(".{1,12}", ".{1,200}", 0..8)) {
            let set = Labels::from_pairs(pairs.iter()).unwrap();
            prop_assert_eq!(set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>(), pairs.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(&Labels::from_encoded(set.encoded()).unwrap(), &set);
            prop_assert_eq!(&Labels::from_canonical(set.encoded()), &set);
            let bytes = set.iter_bytes().collect::<Vec<_>>();
            prop_assert_eq!(bytes, set.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect::<Vec<_>>());
            let names: Vec<_> = encoded_pairs(set.encoded()).map(|(name, _)| name).collect();
            prop_assert_eq!(names, set.iter().map(|(name, _)| name.as_bytes()).collect::<Vec<_>>());
            let pairs: Vec<_> = encoded_pairs(set.encoded()).flat_map(|(_, pair)| pair.to_vec()).collect();
            prop_assert_eq!(pairs.as_slice(), set.encoded());
        }

        #[test]
        fn hostile_bytes_neither_panic_nor_pass(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(set) = Labels::from_encoded(&bytes) {
                let again = Labels::from_pairs(set.iter()).unwrap();
                prop_assert_eq!(again.encoded(), bytes.as_slice());
            }
        }
    }
}
