//! Remote write 1.0.

use pharos_model::{Exemplar, LabelsBuilder, Sample, iter_encoded};

use super::canonical::Canonical;
use super::memory::Walk;
use super::{DecodeError, SeriesMemory, field_count, framed, histogram, metric_kind};
use crate::sink::{SeriesSink, exemplar_labels};
use crate::wire::{Reader, WireError};
use crate::{DecodedMetrics, Limits, TimeWindow};

pub(super) fn decode(
    body: &[u8],
    limits: &Limits,
    window: TimeWindow,
    memory: &SeriesMemory,
) -> Result<DecodedMetrics, DecodeError> {
    let room = memory.expected_series(body.len());
    let mut request = Request {
        sink: SeriesSink::with_room(limits, window, room),
        walk: memory.walk(),
        canonical: Canonical::new(),
        encoded: Vec::new(),
        exemplar_labels: LabelsBuilder::default(),
    };
    let (mut reader, mut series) = (Reader::new(body), 0);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => {
                request.series(field.bytes()?)?;
                series += 1;
            }
            3 => metadata(field.bytes()?, &mut request.sink)?,
            _ => {}
        }
    }
    memory.note_size(body.len(), series);
    request.walk.finish();
    Ok(request.sink.build())
}

struct Request<'a> {
    sink: SeriesSink<'a>,
    walk: Walk<'a>,
    canonical: Canonical,
    /// Scratch for labels that become canonical the general way.
    encoded: Vec<u8>,
    /// Scratch for those of exemplars.
    exemplar_labels: LabelsBuilder,
}

/// Where the labels at the front of a series are, and how many.
#[derive(Clone, Copy)]
enum Front {
    /// In the memory.
    Recognised(usize),
    /// In `canonical`.
    Canonical,
    /// In the sink: unusual ones.
    Taken,
}

impl Request<'_> {
    fn series(&mut self, message: &[u8]) -> Result<(), DecodeError> {
        self.sink.require_samples(message.len(), || field_count(message, 2))?;
        let (mut front, mut done) = self.labels(message);
        while let Some((sample, length)) = common_sample(&message[done..]) {
            self.sink.push_sample(sample, 0);
            done += length;
        }
        let mut reader = Reader::new(&message[done..]);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => {
                    // Labels behind samples, which nobody sends: all of them go the general way.
                    self.take_back(front);
                    front = Front::Taken;
                    let (name, value) = label(field.bytes()?)?;
                    self.sink.push_label(name, value);
                }
                2 => self.sink.push_sample(sample(field.bytes()?)?, 0),
                3 => match exemplar(field.bytes()?, &mut self.exemplar_labels, self.sink.limits())? {
                    Some(exemplar) => self.sink.push_exemplar(exemplar)?,
                    None => self.sink.drop_exemplar(),
                },
                4 => {
                    let point = histogram::decode(field.bytes()?, self.sink.limits().histogram_buckets_max)?;
                    self.sink.push_histogram(point.timestamp_ms, point.histogram, 0)?;
                }
                _ => {}
            }
        }
        self.finish(front)
    }

    fn labels(&mut self, message: &[u8]) -> (Front, usize) {
        if let Some((done, pairs)) = self.walk.recognise(message) {
            return (Front::Recognised(pairs), done);
        }
        match self.canonical.take(message, self.sink.limits()) {
            Some(done) => (Front::Canonical, done),
            None => (Front::Taken, common_labels(message, &mut self.sink)),
        }
    }

    fn take_back(&mut self, front: Front) {
        let encoded = match front {
            Front::Recognised(_) => self.walk.labels().map_or(&[][..], |labels| labels.encoded()),
            Front::Canonical => self.canonical.encoded(),
            Front::Taken => return,
        };
        iter_encoded(encoded).for_each(|(name, value)| self.sink.push_label(name, value));
    }

    fn finish(&mut self, front: Front) -> Result<(), DecodeError> {
        match (front, self.walk.labels()) {
            (Front::Recognised(pairs), Some(labels)) => self.sink.finish_shared(labels, pairs)?,
            (Front::Canonical, _) => {
                let labels = self.walk.look_up(self.canonical.encoded(), None);
                self.sink.finish_shared(&labels, self.canonical.pairs())?;
            }
            (Front::Recognised(_) | Front::Taken, _) => {
                let order = framed::order_of(&self.sink.labels.pairs().map(|(name, _)| name));
                let walk = &mut self.walk;
                self.sink.finish_looked_up(&mut self.encoded, |encoded| walk.look_up(encoded, order))?;
            }
        }
        Ok(())
    }
}

/// Reads a sample at the front of `rest` in the form that senders write: value, then timestamp. Answers how many
/// bytes it took; `None` where anything is unusual.
pub(super) fn common_sample(rest: &[u8]) -> Option<(Sample, usize)> {
    const SAMPLE: u8 = 2 << 3 | 2;
    const SAMPLE_VALUE: u8 = 1 << 3 | 1;
    const SAMPLE_TIME: u8 = 2 << 3;
    let [SAMPLE, length @ 11..0x80, SAMPLE_VALUE, tail @ ..] = rest else { return None };
    let (bits, tail) = tail.split_first_chunk()?;
    let (&SAMPLE_TIME, tail) = tail.split_first()? else { return None };
    let varint = tail.get(..usize::from(*length) - 10)?;
    let (last, more) = varint.split_last()?;
    // The tenth byte of a number has room for one bit only; such ones go the general way.
    if *last >= 0x80 || varint.len() > 9 || more.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    let time = varint.iter().rev().fold(0_u64, |time, byte| time << 7 | u64::from(byte & 0x7f));
    let sample = Sample { timestamp_ms: time as i64, value: f64::from_bits(u64::from_le_bytes(*bits)) };
    Some((sample, usize::from(*length) + 2))
}

/// Reads the labels at the front of a series in the form that senders write: name, then value, each
/// shorter than 128 bytes. Answers how many bytes it took: none where anything is unusual, and
/// [`label`] decides what to make of it.
///
/// All bytes of such a frame are ASCII, so that one look at the whole tells whether every text in it is
/// UTF-8, as long as each begins and ends between characters.
fn common_labels(message: &[u8], sink: &mut SeriesSink<'_>) -> usize {
    const NAME: u8 = 1 << 3 | 2;
    const VALUE: u8 = 2 << 3 | 2;
    let mut end = 0;
    while let [NAME, length @ ..0x80, rest @ ..] = &message[end..]
        && rest.len() >= usize::from(*length)
    {
        end += 2 + usize::from(*length);
    }
    let Ok(text) = std::str::from_utf8(&message[..end]) else { return 0 };
    let mut at = 0;
    while at < end {
        let label_end = at + 2 + usize::from(message[at + 1]);
        let pair = match &message[at + 2..label_end] {
            [NAME, name @ ..0x80, rest @ ..] => {
                let name_end = at + 4 + usize::from(*name);
                match rest.get(usize::from(*name)..) {
                    Some([VALUE, value, rest @ ..]) if rest.len() == usize::from(*value) => {
                        text.get(at + 4..name_end).zip(text.get(name_end + 2..label_end))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let Some((name, value)) = pair else { return at };
        sink.push_label(name, value);
        at = label_end;
    }
    end
}

#[inline]
fn label(message: &[u8]) -> Result<(&str, &str), WireError> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

#[inline]
fn sample(message: &[u8]) -> Result<Sample, WireError> {
    let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar(message: &[u8], scratch: &mut LabelsBuilder, limits: &Limits) -> Result<Option<Exemplar>, WireError> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    scratch.clear();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => {
                let (name, value) = label(field.bytes()?)?;
                // A label has a character at least: one more is too many.
                if scratch.count() <= limits.exemplar_label_chars_max {
                    scratch.push(name, value);
                }
            }
            2 => value = field.double()?,
            3 => timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(exemplar_labels(scratch).map(|labels| Exemplar { labels, timestamp_ms, value }))
}

fn metadata(message: &[u8], sink: &mut SeriesSink<'_>) -> Result<(), DecodeError> {
    let (mut kind, mut metric, mut help, mut unit) = (0, "", "", "");
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => kind = field.varint()?,
            2 => metric = field.text()?,
            4 => help = field.text()?,
            5 => unit = field.text()?,
            _ => {}
        }
    }
    Ok(sink.push_metadata(metric, metric_kind(kind), help, unit)?)
}
