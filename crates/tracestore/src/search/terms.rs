//! Words by which the index, value postings and the tail know what a span has. Every byte: `docs/search.md`.
//!
//! A word says that somewhere in a block there is a span with something. Words are a filter: what they propose is
//! verified on the spans, so a word may stand for more than was asked, never for less.

use pharos_model::{SpanKind, StatusCode};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::block::ValueType;
use crate::codec::{Writer, kind_code, status_code};

/// Values with more bytes are in value postings only, keys with more bytes stand as hashes.
pub(crate) const WORD_TEXT_BYTES_MAX: usize = 200;
/// What the subject of attributes begins with.
const ATTRIBUTE: u8 = b'a';
/// Durations are told apart by quarters of powers of two.
const BUCKETS_PER_OCTAVE: u32 = 4;

/// What values are of, at whatever level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TermSubject<'a> {
    /// Attributes with this key: of spans, resources, scopes, events and links.
    Attribute(&'a str),
    Name,
    Service,
    EventName,
    ScopeName,
    ScopeVersion,
}

/// Where a key of attributes was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyLevel {
    Span,
    Event,
    Link,
    Resource,
    Scope,
}

mod letter {
    pub(super) const EVERYTHING: u8 = b't';
    /// There is more than words tell.
    pub(super) const UNTOLD: u8 = b'w';
    pub(super) const VALUE: u8 = b'v';
    pub(super) const HAS: u8 = b'h';
    /// Values of the subject that are in value postings alone.
    pub(super) const MANY: u8 = b'm';
    /// Values of the subject that no pair tells of.
    pub(super) const UNPAIRED: u8 = b'u';
    pub(super) const KIND: u8 = b'k';
    pub(super) const STATUS: u8 = b'e';
    pub(super) const DURATION: u8 = b'd';
    /// A service and one of its words.
    pub(super) const PAIR: u8 = b'p';
    /// A service, one of its operations, and a duration.
    pub(super) const OPERATION_DURATION: u8 = b'q';
}

/// One word, without its tenant.
pub(crate) type Word = Vec<u8>;

fn put_subject(out: &mut Word, subject: TermSubject<'_>) {
    match subject {
        TermSubject::Attribute(key) if key.len() <= WORD_TEXT_BYTES_MAX => {
            out.push(ATTRIBUTE);
            out.put_bytes(key.as_bytes());
        }
        TermSubject::Attribute(key) => {
            out.push(b'A');
            out.extend_from_slice(&xxh3_128(key.as_bytes()).to_be_bytes());
        }
        TermSubject::Name => out.push(b'n'),
        TermSubject::Service => out.push(b's'),
        TermSubject::EventName => out.push(b'E'),
        TermSubject::ScopeName => out.push(b'S'),
        TermSubject::ScopeVersion => out.push(b'V'),
    }
}

fn of_subject(letter: u8, subject: TermSubject<'_>) -> Word {
    let mut out = vec![letter];
    put_subject(&mut out, subject);
    out
}

pub(crate) fn everything() -> Word {
    vec![letter::EVERYTHING]
}

/// That words do not tell what the block has: any search may find something in it.
pub(crate) fn untold() -> Word {
    vec![letter::UNTOLD]
}

/// What all words for values of the subject begin with; the text follows.
pub(crate) fn value_prefix(subject: TermSubject<'_>) -> Word {
    of_subject(letter::VALUE, subject)
}

pub(crate) fn value(subject: TermSubject<'_>, text: &str) -> Word {
    let mut out = value_prefix(subject);
    out.extend_from_slice(text.as_bytes());
    out
}

/// By which value postings know a value: the hash of its word.
pub(crate) fn word_hash(word: &[u8]) -> u64 {
    xxh3_64(word)
}

/// What all words begin with that say where the subject was seen, as what.
pub(crate) fn has_prefix(subject: TermSubject<'_>) -> Word {
    of_subject(letter::HAS, subject)
}

/// What all words begin with that say where some key was seen, as what: the key as text, level and type follow.
pub(crate) fn has_any_attribute_prefix() -> Word {
    vec![letter::HAS, ATTRIBUTE]
}

pub(crate) fn has(subject: TermSubject<'_>, level: KeyLevel, value_type: ValueType) -> Word {
    let mut out = has_prefix(subject);
    out.extend_from_slice(&[level as u8, value_type as u8]);
    out
}

pub(crate) fn many(subject: TermSubject<'_>) -> Word {
    of_subject(letter::MANY, subject)
}

pub(crate) fn unpaired(subject: TermSubject<'_>) -> Word {
    of_subject(letter::UNPAIRED, subject)
}

pub(crate) fn kind(kind: SpanKind) -> Word {
    vec![letter::KIND, kind_code(kind)]
}

pub(crate) fn status(status: StatusCode) -> Word {
    vec![letter::STATUS, status_code(status)]
}

/// What words for durations begin with: one byte follows, the bucket of the longest.
pub(crate) fn duration_prefix() -> Word {
    vec![letter::DURATION]
}

pub(crate) fn duration(bucket: u8) -> Word {
    vec![letter::DURATION, bucket]
}

/// The quarter of an octave in which a duration lies: grows with it.
pub(crate) fn duration_bucket(duration_ns: u64) -> u8 {
    let octave = duration_ns.max(1).ilog2();
    let rest = if octave < 2 { duration_ns << (2 - octave) } else { duration_ns >> (octave - 2) };
    (octave * BUCKETS_PER_OCTAVE) as u8 + (rest & 3) as u8
}

/// That spans of the service have what `word` says.
pub(crate) fn pair(service: &str, word: &[u8]) -> Word {
    let mut out = vec![letter::PAIR];
    put_short(&mut out, service);
    out.extend_from_slice(word);
    out
}

/// What words for durations of an operation begin with: one byte follows, the bucket of the longest.
pub(crate) fn operation_duration_prefix(service: &str, operation: &str) -> Word {
    let mut out = vec![letter::OPERATION_DURATION];
    put_short(&mut out, service);
    put_short(&mut out, operation);
    out
}

/// A text that says where it ends; a long one as its hash.
fn put_short(out: &mut Word, text: &str) {
    if text.len() <= WORD_TEXT_BYTES_MAX {
        out.put_bytes(text.as_bytes());
    } else {
        out.put_varint(WORD_TEXT_BYTES_MAX as u64 + 1);
        out.extend_from_slice(&xxh3_128(text.as_bytes()).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_durations() {
        let mut durations: Vec<u64> =
            (0..64).flat_map(|shift| [1 << shift, (1 << shift) + (1_u64 << shift) / 4 * 3]).collect();
        durations.extend([0, 1, 2, 3, 4, 5, 6, 7, 999, 1_000_000, u64::MAX]);
        durations.sort_unstable();
        let buckets: Vec<u8> = durations.iter().map(|duration_ns| duration_bucket(*duration_ns)).collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!((buckets.first(), buckets.last()), (Some(&0), Some(&255)));
        assert_ne!(duration_bucket(500_000_000), duration_bucket(400_000_000));
    }

    #[test]
    fn words_of_different_things_differ() {
        let long = "k".repeat(300);
        let subjects = [
            TermSubject::Attribute(""),
            TermSubject::Attribute("n"),
            TermSubject::Attribute(&long),
            TermSubject::Name,
            TermSubject::Service,
            TermSubject::EventName,
            TermSubject::ScopeName,
            TermSubject::ScopeVersion,
        ];
        let mut words: Vec<Word> =
            subjects.iter().flat_map(|subject| [value(*subject, "x"), many(*subject), unpaired(*subject)]).collect();
        words.extend(["a", "ab", &long].map(|service| pair(service, &value(TermSubject::Name, "b"))));
        words.extend(["a", "ab", &long].map(|service| operation_duration_prefix(service, "b")));
        let count = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}
