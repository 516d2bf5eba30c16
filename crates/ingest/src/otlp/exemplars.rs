//! Exemplars of data points.

use super::attribute::attributes;
use super::metrics::Translator;
use super::point_rules::{self, ExemplarPoint};
use crate::IngestError;
use crate::wire::{Payload, Reader};

/// An `Exemplar` as it stands on the wire.
#[derive(Debug)]
pub(super) struct ExemplarFields<'a> {
    point: ExemplarPoint<'a>,
    message: &'a [u8],
}

impl<'a> ExemplarFields<'a> {
    /// From checked messages.
    pub(super) fn read_all(messages: &[&'a [u8]]) -> Vec<Self> {
        messages.iter().map(|message| Self::read(message)).collect()
    }

    fn read(message: &'a [u8]) -> Self {
        let mut point = ExemplarPoint { value: 0.0, time_ns: 0, trace_id: &[], span_id: &[] };
        let mut reader = Reader::new(message);
        while let Ok(Some(field)) = reader.next() {
            match (field.number, field.payload) {
                (2, Payload::Fixed64(time_ns)) => point.time_ns = time_ns,
                (3, Payload::Fixed64(bits)) => point.value = f64::from_bits(bits),
                (4, Payload::Bytes(id)) => point.span_id = id,
                (5, Payload::Bytes(id)) => point.trace_id = id,
                (6, Payload::Fixed64(number)) => point.value = number as i64 as f64,
                _ => {}
            }
        }
        Self { point, message }
    }
}

impl Translator<'_> {
    /// Gives the current series the exemplars whose values belong to it.
    pub(super) fn exemplars(
        &mut self,
        exemplars: &[ExemplarFields<'_>],
        mut belongs: impl FnMut(f64) -> bool,
    ) -> Result<(), IngestError> {
        for ExemplarFields { point, message } in exemplars.iter().filter(|exemplar| belongs(exemplar.point.value)) {
            match point_rules::exemplar(*point, attributes(message, 7), self.rules.limits) {
                Some(exemplar) => self.sink.push_exemplar(exemplar)?,
                None => self.sink.drop_exemplar(),
            }
        }
        Ok(())
    }
}
