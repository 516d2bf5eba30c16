//! Remote write 1.0.

use pharos_model::{Exemplar, LabelsBuilder, Sample};

use super::{DecodeError, histogram, metric_kind};
use crate::sink::{SeriesSink, exemplar_labels};
use crate::wire::{Reader, WireError};
use crate::{DecodedMetrics, Limits, TimeWindow};

pub(super) fn decode(body: &[u8], limits: &Limits, window: TimeWindow) -> Result<DecodedMetrics, DecodeError> {
    let mut sink = SeriesSink::new(limits, window);
    let mut scratch = LabelsBuilder::default();
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => series(field.bytes()?, &mut sink, &mut scratch)?,
            3 => metadata(field.bytes()?, &mut sink)?,
            _ => {}
        }
    }
    Ok(sink.build())
}

fn series(message: &[u8], sink: &mut SeriesSink<'_>, scratch: &mut LabelsBuilder) -> Result<(), DecodeError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => label(field.bytes()?, &mut sink.labels)?,
            2 => sink.push_sample(sample(field.bytes()?)?, 0),
            3 => match exemplar(field.bytes()?, scratch)? {
                Some(exemplar) => sink.push_exemplar(exemplar),
                None => sink.drop_exemplar(),
            },
            4 => {
                let point = histogram::decode(field.bytes()?)?;
                sink.push_histogram(point.timestamp_ms, point.histogram, 0);
            }
            _ => {}
        }
    }
    Ok(sink.finish()?)
}

#[inline]
fn label(message: &[u8], labels: &mut LabelsBuilder) -> Result<(), WireError> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    labels.push(name, value);
    Ok(())
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

fn exemplar(message: &[u8], scratch: &mut LabelsBuilder) -> Result<Option<Exemplar>, WireError> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    scratch.clear();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => label(field.bytes()?, scratch)?,
            2 => value = field.double()?,
            3 => timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(exemplar_labels(scratch).map(|labels| Exemplar { labels, timestamp_ms, value }))
}

fn metadata(message: &[u8], sink: &mut SeriesSink<'_>) -> Result<(), WireError> {
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
    sink.push_metadata(metric, metric_kind(kind), help, unit);
    Ok(())
}
