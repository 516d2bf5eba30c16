//! Exemplars of data points.

use pharos_model::{Exemplar, LabelsBuilder, ns_to_ms};

use super::attribute::attributes;
use super::metrics::Translator;
use crate::IngestError;
use crate::sink::exemplar_labels;
use crate::wire::{Payload, Reader};

/// What an exemplar takes in a batch beside its labels, and what allocations waste.
const EXEMPLAR_BYTES: usize = size_of::<Exemplar>() + 64;

/// An `Exemplar` as it stands on the wire.
#[derive(Debug)]
pub(super) struct ExemplarFields<'a> {
    value: f64,
    time_ns: u64,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    message: &'a [u8],
}

impl<'a> ExemplarFields<'a> {
    /// From checked messages.
    pub(super) fn read_all(messages: &[&'a [u8]]) -> Vec<Self> {
        messages.iter().map(|message| Self::read(message)).collect()
    }

    fn read(message: &'a [u8]) -> Self {
        let mut exemplar = Self { value: 0.0, time_ns: 0, trace_id: &[], span_id: &[], message };
        let mut reader = Reader::new(message);
        while let Ok(Some(field)) = reader.next() {
            match (field.number, field.payload) {
                (2, Payload::Fixed64(time_ns)) => exemplar.time_ns = time_ns,
                (3, Payload::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
                (4, Payload::Bytes(id)) => exemplar.span_id = id,
                (5, Payload::Bytes(id)) => exemplar.trace_id = id,
                (6, Payload::Fixed64(number)) => exemplar.value = number as i64 as f64,
                _ => {}
            }
        }
        exemplar
    }

    /// The exemplar with its trace and span; its attributes only if all of them fit.
    fn model(&self, chars_max: usize) -> Option<Exemplar> {
        let mut labels = LabelsBuilder::default();
        for (name, id) in [("trace_id", self.trace_id), ("span_id", self.span_id)] {
            if id.iter().any(|byte| *byte != 0) {
                labels.push(name, &hex::encode(id));
            }
        }
        let chars = |name: &str, value: &str| name.chars().count() + value.chars().count();
        let linked: usize = labels.pairs().map(|(name, value)| chars(name, value)).sum();
        let filtered = || attributes(self.message, 7);
        if linked + filtered().map(|attribute| chars(attribute.key, &attribute.text())).sum::<usize>() <= chars_max {
            for attribute in filtered() {
                if !labels.contains(attribute.key) {
                    labels.push(attribute.key, &attribute.text());
                }
            }
        }
        let timestamp_ms = ns_to_ms(self.time_ns);
        exemplar_labels(&mut labels).map(|labels| Exemplar { labels, timestamp_ms, value: self.value })
    }
}

impl Translator<'_> {
    /// Gives the current series the exemplars whose values belong to it.
    pub(super) fn exemplars(
        &mut self,
        exemplars: &[ExemplarFields<'_>],
        mut belongs: impl FnMut(f64) -> bool,
    ) -> Result<(), IngestError> {
        for exemplar in exemplars.iter().filter(|exemplar| belongs(exemplar.value)) {
            match exemplar.model(self.rules.limits.exemplar_label_chars_max) {
                Some(exemplar) => {
                    self.charge(EXEMPLAR_BYTES + exemplar.labels.encoded().len())?;
                    self.sink.push_exemplar(exemplar);
                }
                None => self.sink.drop_exemplar(),
            }
        }
        Ok(())
    }
}
