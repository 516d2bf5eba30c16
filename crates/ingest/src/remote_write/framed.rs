//! Labels in a message of remote write 1.0 against labels in canonical form, without taking either apart.
//!
//! Both write a text as its length (LEB128) and its bytes, so a pair matches when two runs of bytes do; the message
//! has a tag before each text, and a tag and the length of both before the pair.

use pharos_model::encoded_pairs;

const LABEL: u8 = 1 << 3 | 2;
const NAME: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
/// Pairs of a series whose order is remembered, at most: numbered in a byte, and as many as any setting makes sense for.
const PAIRS_MAX: usize = 128;
/// Texts that short are compared at once.
const PIECE: usize = 16;

/// Whether the labels at the front of a series' message are these, in this order and no others: the bytes they take
/// and how many they are.
#[inline]
pub(super) fn matches(message: &[u8], encoded: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut rest, mut pairs) = (0, encoded, 0);
    while let [name_len, ..] = *rest {
        let name = 1 + usize::from(name_len);
        let (length, value) = match rest.get(name) {
            // Both lengths are of one byte, and that of the pair, too.
            Some(value_len) if name_len < 0x80 && name + usize::from(*value_len) + 3 < 0x80 => {
                (name + usize::from(*value_len) + 3, 1 + usize::from(*value_len))
            }
            _ => return matches_long(message, at, rest, pairs),
        };
        let framed = message.get(at..at + 2 + length)?;
        let is_framed = framed[..3] == [LABEL, length as u8, NAME] && framed[3 + name] == VALUE;
        if !is_framed || !same(&message[at + 3..], rest, name) || !same(&message[at + 4 + name..], &rest[name..], value)
        {
            return None;
        }
        at += 2 + length;
        rest = &rest[name + value..];
        pairs += 1;
    }
    (message.get(at) != Some(&LABEL)).then_some((at, pairs))
}

/// As [`matches`], for labels that come in another order: `order` says which pair of the canonical form comes first, which
/// next, and so on.
pub(super) fn matches_in(order: &[u8], message: &[u8], encoded: &[u8]) -> Option<(usize, usize)> {
    let (mut pairs, mut count) = ([(&[][..], &[][..]); PAIRS_MAX], 0);
    for (name, pair) in encoded_pairs(encoded) {
        *pairs.get_mut(count)? = texts(name, pair);
        count += 1;
    }
    if order.len() != count {
        return None;
    }
    let at = order.iter().try_fold(0, |at, place| match_pair(message, at, *pairs.get(usize::from(*place))?))?;
    (message.get(at) != Some(&LABEL)).then_some((at, count))
}

/// As [`matches`], from `at` on, for texts of any length.
#[cold]
fn matches_long(message: &[u8], at: usize, rest: &[u8], mut pairs: usize) -> Option<(usize, usize)> {
    let at = encoded_pairs(rest).try_fold(at, |at, (name, pair)| {
        pairs += 1;
        match_pair(message, at, texts(name, pair))
    })?;
    (message.get(at) != Some(&LABEL)).then_some((at, pairs))
}

/// Name and value of a canonical pair, each with its length in front.
fn texts<'a>(name: &[u8], pair: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    pair.split_at(leb128_len(name.len()) + name.len())
}

/// Where the label at `at` ends, if it is this pair.
fn match_pair(message: &[u8], at: usize, (name, value): (&[u8], &[u8])) -> Option<usize> {
    let mut inner = message.get(at..)?.strip_prefix(&[LABEL])?;
    let mut length = name.len() + value.len() + 2;
    loop {
        let (&byte, tail) = inner.split_first()?;
        inner = tail;
        let expected = if length < 0x80 { length as u8 } else { length as u8 | 0x80 };
        if byte != expected {
            return None;
        }
        length >>= 7;
        if byte < 0x80 {
            break;
        }
    }
    inner = inner.strip_prefix(&[NAME])?.strip_prefix(name)?.strip_prefix(&[VALUE])?.strip_prefix(value)?;
    Some(message.len() - inner.len())
}

/// The order of labels as a sender names them, for [`matches_in`]; `None` if it is the canonical one or names too many.
pub(super) fn order_of<'a>(names: &(impl Iterator<Item = &'a str> + Clone)) -> Option<Box<[u8]>> {
    if names.clone().is_sorted() || names.clone().count() > PAIRS_MAX {
        return None;
    }
    let place = |name| names.clone().filter(|other| *other < name).count() as u8;
    Some(names.clone().map(place).collect())
}

fn leb128_len(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).max(1).div_ceil(7) as usize
}

/// Whether both begin with the same `length` bytes, which both have.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8], length: usize) -> bool {
    match (a.first_chunk::<PIECE>(), b.first_chunk::<PIECE>()) {
        (Some(a), Some(b)) if (1..=PIECE).contains(&length) => {
            let differ = u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b);
            differ << (8 * (PIECE - length)) == 0
        }
        _ => a[..length] == b[..length],
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::Labels;
    use pharos_proto::remote_write::v1;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn message(pairs: &[(String, String)]) -> (Vec<u8>, usize) {
        let labels: Vec<_> = pairs.iter().map(|(n, v)| v1::Label { name: n.clone(), value: v.clone() }).collect();
        let front = v1::TimeSeries { labels, ..v1::TimeSeries::default() };
        let length = front.encoded_len();
        let samples = vec![v1::Sample { value: 1.5, timestamp: 1_700_000_000_000 }];
        (v1::TimeSeries { samples, ..front }.encode_to_vec(), length)
    }

    fn labels(pairs: &[(String, String)]) -> Option<Labels> {
        Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v))).ok()
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        let value = prop_oneof![8 => "[a-zé]{1,20}", 1 => (110..140_usize).prop_map(|n| "v".repeat(n)), 1 => (16_370..16_400_usize).prop_map(|n| "v".repeat(n))];
        proptest::collection::vec(
            (prop_oneof![8 => "[a-f_]{1,18}", 1 => (120..135_usize).prop_map(|n| "n".repeat(n))], value),
            0..8,
        )
    }

    #[test]
    fn a_prefix_a_longer_list_and_another_order_are_no_match() {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let known = own(&[("__name__", "up"), ("job", "a")]);
        let encoded = labels(&known).unwrap();
        assert!(matches(&message(&known).0, encoded.encoded()).is_some());
        for other in [
            own(&[("__name__", "up")]),
            own(&[("__name__", "up"), ("job", "a"), ("z", "1")]),
            own(&[("job", "a"), ("__name__", "up")]),
            own(&[("__name__", "up"), ("job", "b")]),
            own(&[("__name__", "up"), ("job", "")]),
            own(&[]),
        ] {
            assert_eq!(matches(&message(&other).0, encoded.encoded()), None, "{other:?}");
        }
    }

    proptest! {
        /// Sorted labels match their canonical form, and no labels match another's.
        #[test]
        fn only_equal_labels_match(mut one in pairs(), mut other in pairs(), flip in any::<(usize, u8)>()) {
            one.sort();
            other.sort();
            let (Some(canonical), Some(of_other)) = (labels(&one), labels(&other)) else { return Ok(()) };
            let (mut bytes, length) = message(&one);
            prop_assert_eq!(matches(&bytes, canonical.encoded()), Some((length, one.len())));
            prop_assert_eq!(matches(&bytes, of_other.encoded()).is_some(), canonical == of_other);
            // One other bit anywhere in the labels is no match.
            if length > 0 {
                bytes[flip.0 % length] ^= 1 << (flip.1 % 8);
                prop_assert_eq!(matches(&bytes, canonical.encoded()), None);
            }
        }

        /// Labels match in the order in which they were named, and in no other.
        #[test]
        fn labels_match_in_their_own_order(named in pairs().prop_shuffle(), other in pairs().prop_shuffle()) {
            let (Some(canonical), Some(of_other)) = (labels(&named), labels(&other)) else { return Ok(()) };
            let (bytes, length) = message(&named);
            let Some(order) = order_of(&named.iter().map(|(name, _)| name.as_str())) else {
                prop_assert!(named.is_sorted());
                return Ok(());
            };
            prop_assert_eq!(matches_in(&order, &bytes, canonical.encoded()), Some((length, named.len())));
            prop_assert_eq!(matches(&bytes, canonical.encoded()), None);
            prop_assert_eq!(matches_in(&order, &bytes, of_other.encoded()).is_some(), canonical == of_other);
            let (bytes, _) = message(&other);
            if bytes != message(&named).0 {
                prop_assert_eq!(matches_in(&order, &bytes, canonical.encoded()), None);
            }
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..6_u8, any::<u8>()], 0..80), one in pairs()) {
            if let Some(canonical) = labels(&one) {
                let _ = matches(&bytes, canonical.encoded());
                let _ = matches_in(&bytes, &bytes, canonical.encoded());
            }
        }
    }
}
