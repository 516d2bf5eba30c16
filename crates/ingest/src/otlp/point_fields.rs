//! Data points as they stand on the wire: numbers are read, attributes stay bytes.
//!
//! Reading a point checks all of it but its attributes: those of a known stream are equal to bytes that were checked before.

use std::borrow::Cow;

use super::json::{BUCKETS, EXEMPLAR, KEY_VALUE, VALUE_AT_QUANTILE};
use super::message::{IN_POINT_NESTING, Merged, check, fields};
use super::point_rules::{EXEMPLARS_MAX, Exponential};
use crate::wire::{Payload, Reader, WireError, unzigzag};

/// What all kinds of points have.
#[derive(Debug, Default)]
pub(super) struct PointFields<'a> {
    pub time_ns: u64,
    pub start_ns: u64,
    pub flags: u32,
    pub attributes: AttributeBytes<'a>,
    /// Checked messages.
    pub exemplars: Vec<&'a [u8]>,
}

/// The attributes of a point, as the fields that hold them: keys, lengths and messages, one behind the other.
#[derive(Debug, Default)]
pub(super) struct AttributeBytes<'a> {
    pub bytes: Cow<'a, [u8]>,
    /// Whether they are the ones that were expected.
    pub is_expected: bool,
}

impl<'a> AttributeBytes<'a> {
    /// Reads the attributes at the front of `reader`, each of which begins with the byte `key`.
    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>, key: u8, expected: Option<&[u8]>) -> Result<(), WireError> {
        let from = reader.rest();
        if let Some(expected) = expected
            && self.bytes.is_empty()
            && from.starts_with(expected)
        {
            self.is_expected = true;
            self.bytes = Cow::Borrowed(&from[..expected.len()]);
            reader.skip(expected.len());
            if reader.rest().first() != Some(&key) {
                return Ok(());
            }
        }
        let from = reader.rest();
        while reader.rest().first() == Some(&key)
            && let Some(field) = reader.next()?
        {
            field.bytes()?;
        }
        self.push(&from[..from.len() - reader.rest().len()]);
        Ok(())
    }

    /// Adds whole fields, not empty ones.
    fn push(&mut self, fields: &'a [u8]) {
        self.is_expected = false;
        match &mut self.bytes {
            Cow::Borrowed([]) => self.bytes = Cow::Borrowed(fields),
            bytes => bytes.to_mut().extend_from_slice(fields),
        }
    }
}

impl AttributeBytes<'_> {
    /// Checks the attributes, unless they are expected: those were checked before.
    pub(super) fn check(&self) -> Result<(), WireError> {
        // One look at the whole tells that every text in it is UTF-8.
        if self.is_expected || (self.bytes.is_ascii() && self.messages().all(is_common_attribute)) {
            return Ok(());
        }
        let mut reader = Reader::new(&self.bytes);
        while let Some(field) = reader.next()? {
            check(field.bytes()?, &KEY_VALUE, IN_POINT_NESTING)?;
        }
        Ok(())
    }

    /// The messages.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || reader.next().ok().flatten()?.bytes().ok())
    }
}

/// Whether a `KeyValue` is one as senders write them: a key, then a text, both shorter than 128 bytes. The text is not
/// looked at.
fn is_common_attribute(message: &[u8]) -> bool {
    const KEY: u8 = 1 << 3 | 2;
    const VALUE: u8 = 2 << 3 | 2;
    const TEXT: u8 = 1 << 3 | 2;
    let [KEY, key_len @ ..0x80, rest @ ..] = message else { return false };
    match rest.get(usize::from(*key_len)..) {
        Some([VALUE, value_len @ ..0x80, TEXT, text_len @ ..0x80, text @ ..]) => {
            usize::from(*text_len) == text.len() && usize::from(*value_len) == text.len() + 2
        }
        _ => false,
    }
}

/// What is expected of a point's attributes: those of the stream that follows the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'k>(pub Option<&'k [u8]>);

/// Reads the fields of a point. Attributes are taken out; the others are handed on, as `other` answers by true, or read
/// as those that all points have.
#[inline]
fn read_point<'a>(
    message: &'a [u8],
    numbers: Numbers,
    Expected(expected): Expected<'_>,
    mut other: impl FnMut(&crate::wire::Field<'a>) -> Result<bool, WireError>,
) -> Result<PointFields<'a>, WireError> {
    let mut point = PointFields::default();
    let key = numbers.attributes << 3 | 2;
    let prefix = expected.filter(|expected| !expected.is_empty());
    let mut reader = Reader::new(message);
    loop {
        let before = reader.rest();
        if before.first() == Some(&key) {
            point.attributes.read(&mut reader, key, prefix)?;
            continue;
        }
        let Some(field) = reader.next()? else { break };
        if other(&field)? {
            continue;
        }
        match field.number {
            2 => point.start_ns = field.fixed64()?,
            3 => point.time_ns = field.fixed64()?,
            number if number == u32::from(numbers.flags) => point.flags = field.varint()? as u32,
            number if number == u32::from(numbers.attributes) => {
                // A key in more bytes than it needs.
                field.bytes()?;
                point.attributes.push(&before[..before.len() - reader.rest().len()]);
            }
            number if number == u32::from(numbers.exemplars) => {
                let exemplar = field.bytes()?;
                check(exemplar, &EXEMPLAR, IN_POINT_NESTING)?;
                if point.exemplars.len() < EXEMPLARS_MAX {
                    point.exemplars.push(exemplar);
                }
            }
            _ => {}
        }
    }
    if expected.is_some_and(<[u8]>::is_empty) && point.attributes.bytes.is_empty() {
        point.attributes.is_expected = true;
    }
    Ok(point)
}

/// Numbers of the fields that all kinds of points have, but not under the same number.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    attributes: u8,
    flags: u8,
    exemplars: u8,
}

/// No field has this number.
const NONE: u8 = 0;

/// `NumberDataPoint`.
#[derive(Debug)]
pub(super) struct NumberFields<'a> {
    pub point: PointFields<'a>,
    pub value: Option<f64>,
}

impl<'a> NumberFields<'a> {
    #[inline]
    pub(super) fn read(message: &'a [u8], expected: Expected<'_>) -> Result<Self, WireError> {
        let mut value = None;
        let numbers = Numbers { attributes: 7, flags: 8, exemplars: 5 };
        let point = read_point(message, numbers, expected, |field| {
            match field.number {
                4 => value = Some(field.double()?),
                6 => value = Some(field.fixed64()? as i64 as f64),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self { point, value })
    }
}

/// `HistogramDataPoint`.
#[derive(Debug, Default)]
pub(super) struct HistogramFields<'a> {
    pub point: PointFields<'a>,
    pub count: u64,
    pub sum: Option<f64>,
    pub bucket_counts: Vec<u64>,
    pub explicit_bounds: Vec<f64>,
}

impl<'a> HistogramFields<'a> {
    pub(super) fn read(message: &'a [u8], expected: Expected<'_>) -> Result<Self, WireError> {
        let mut histogram = Self::default();
        let numbers = Numbers { attributes: 9, flags: 10, exemplars: 8 };
        histogram.point = read_point(message, numbers, expected, |field| {
            match field.number {
                4 => histogram.count = field.fixed64()?,
                5 => histogram.sum = Some(field.double()?),
                6 => field.each_fixed64(|count| histogram.bucket_counts.push(count))?,
                7 => field.each_double(|bound| histogram.explicit_bounds.push(bound))?,
                11 | 12 => drop(field.fixed64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(histogram)
    }
}

/// `ExponentialHistogramDataPoint`.
#[derive(Debug)]
pub(super) struct ExponentialFields<'a> {
    pub point: PointFields<'a>,
    pub numbers: Exponential,
    pub positive: Merged<'a>,
    pub negative: Merged<'a>,
}

impl<'a> ExponentialFields<'a> {
    pub(super) fn read(message: &'a [u8], expected: Expected<'_>) -> Result<Self, WireError> {
        let mut found = Exponential { count: 0, sum: None, scale: 0, zero_count: 0, zero_threshold: 0.0 };
        let (mut positive, mut negative) = (Merged::default(), Merged::default());
        let numbers = Numbers { attributes: 1, flags: 10, exemplars: 11 };
        let point = read_point(message, numbers, expected, |field| {
            match field.number {
                4 => found.count = field.fixed64()?,
                5 => found.sum = Some(field.double()?),
                6 => found.scale = sint32(field.varint()?),
                7 => found.zero_count = field.fixed64()?,
                8 => positive.add(field.bytes()?, &BUCKETS, IN_POINT_NESTING)?,
                9 => negative.add(field.bytes()?, &BUCKETS, IN_POINT_NESTING)?,
                12 | 13 => drop(field.fixed64()?),
                14 => found.zero_threshold = field.double()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        for side in [&positive, &negative] {
            check(side.get().unwrap_or_default(), &BUCKETS, IN_POINT_NESTING)?;
        }
        Ok(Self { point, numbers: found, positive, negative })
    }
}

/// A `sint32`, of which protobuf takes the lower half of what is written.
fn sint32(number: u64) -> i32 {
    unzigzag(u64::from(number as u32)) as i32
}

/// The buckets of one side, from a checked `Buckets`: the offset, then each count.
pub(super) fn buckets(message: &[u8]) -> (i32, impl Iterator<Item = u64>) {
    let offset = fields(message, 1).last().map_or(0, |payload| match payload {
        Payload::Varint(number) => sint32(number),
        _ => 0,
    });
    let counts = fields(message, 2).flat_map(|payload| {
        let (one, packed) = match payload {
            Payload::Varint(number) => (Some(number), &[][..]),
            Payload::Bytes(packed) => (None, packed),
            _ => (None, &[][..]),
        };
        let mut packed = Reader::new(packed);
        one.into_iter().chain(std::iter::from_fn(move || packed.packed_varint()))
    });
    (offset, counts)
}

/// `SummaryDataPoint`.
#[derive(Debug, Default)]
pub(super) struct SummaryFields<'a> {
    pub point: PointFields<'a>,
    pub count: u64,
    pub sum: f64,
    /// Quantiles and their values.
    pub quantiles: Vec<(f64, f64)>,
}

impl<'a> SummaryFields<'a> {
    pub(super) fn read(message: &'a [u8], expected: Expected<'_>) -> Result<Self, WireError> {
        let mut summary = Self::default();
        let numbers = Numbers { attributes: 7, flags: 8, exemplars: NONE };
        summary.point = read_point(message, numbers, expected, |field| {
            match field.number {
                4 => summary.count = field.fixed64()?,
                5 => summary.sum = field.double()?,
                6 => {
                    let quantile = field.bytes()?;
                    check(quantile, &VALUE_AT_QUANTILE, IN_POINT_NESTING)?;
                    summary.quantiles.push((last_double(quantile, 1), last_double(quantile, 2)));
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(summary)
    }
}

/// A double of a checked message.
pub(super) fn last_double(message: &[u8], number: u32) -> f64 {
    let bits = fields(message, number).last().map_or(0, |payload| match payload {
        Payload::Fixed64(bits) => bits,
        _ => 0,
    });
    f64::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is taken for common is nothing but a sound attribute.
        #[test]
        fn common_attributes_are_sound(
            bytes in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..12_u8, any::<u8>()], 0..24),
            key in "[a-z.]{0,9}", text in "[a-z]{0,9}",
        ) {
            if bytes.is_ascii() && is_common_attribute(&bytes) {
                prop_assert_eq!(check(&bytes, &KEY_VALUE, IN_POINT_NESTING), Ok(()));
            }
            let value = [&[10, text.len() as u8], text.as_bytes()].concat();
            let mut common = [&[10, key.len() as u8], key.as_bytes(), &[18, value.len() as u8], &value].concat();
            prop_assert!(is_common_attribute(&common));
            common.pop();
            prop_assert!(!is_common_attribute(&common));
        }
    }
}
