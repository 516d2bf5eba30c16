//! Remote write 2.0: label texts are numbers into a table of symbols.
//!
//! A few bytes of references can name megabytes of symbols, so lengths are checked before text is
//! copied, and the sink bounds the text of the whole request.

use hashbrown::HashSet;
use pharos_model::{Exemplar, LabelsBuilder, METRIC_NAME, MetricKind, Sample};
use pharos_storage::RejectReason;

use super::memory::Walk;
use super::{DecodeError, SeriesMemory, histogram, metric_kind};
use crate::sink::{Refusal, SeriesSink, exemplar_labels};
use crate::wire::{Field, Reader, WireError};
use crate::{DecodedMetrics, Limits, TimeWindow};

/// References of one label set: twice the largest count of labels any setting makes sense for.
const REFERENCES_MAX: usize = 4096;

pub(super) fn decode(
    body: &[u8],
    limits: &Limits,
    window: TimeWindow,
    memory: &SeriesMemory,
) -> Result<DecodedMetrics, DecodeError> {
    let symbols = symbols(body)?;
    let mut request = Request {
        symbols,
        sink: SeriesSink::new(limits, window),
        walk: memory.walk(),
        scratch: Scratch::default(),
        families: HashSet::new(),
    };
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next()? {
        if field.number == 5 {
            request.series(field.bytes()?)?;
        }
    }
    request.walk.finish();
    Ok(request.sink.build())
}

/// The table, wherever in the message it stands. Its first text is the empty one, which the protocol demands: references that
/// are left out mean it.
fn symbols(body: &[u8]) -> Result<Vec<&str>, WireError> {
    let mut symbols = Vec::new();
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next()? {
        if field.number == 4 {
            symbols.push(field.text()?);
        }
    }
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(WireError::Symbols);
    }
    Ok(symbols)
}

struct Request<'a, 'l> {
    symbols: Vec<&'a str>,
    sink: SeriesSink<'l>,
    walk: Walk<'l>,
    scratch: Scratch,
    /// Families whose metadata the batch has already.
    families: HashSet<&'a str>,
}

#[derive(Default)]
struct Scratch {
    references: Vec<u32>,
    encoded: Vec<u8>,
    exemplar_labels: LabelsBuilder,
}

impl<'a> Request<'a, '_> {
    fn series(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let (mut points, mut meta) = (0_usize, None);
        let mut references = std::mem::take(&mut self.scratch.references);
        references.clear();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => push_references(field, &mut references)?,
                2 => {
                    let (sample, start_ms) = sample(field.bytes()?)?;
                    self.sink.push_sample(sample, start_ms);
                    points += 1;
                }
                3 => {
                    let point = histogram::decode(field.bytes()?)?;
                    self.sink.push_histogram(point.timestamp_ms, point.histogram, point.start_ms);
                    points += 1;
                }
                4 => match self.exemplar(field.bytes()?)? {
                    Some(exemplar) => self.sink.push_exemplar(exemplar),
                    None => self.sink.drop_exemplar(),
                },
                5 => meta = Some(metadata(field.bytes()?)?),
                _ => {}
            }
        }
        let limits = self.sink.limits();
        let resolved = resolve(&references, &self.symbols, &mut self.sink.labels, limits);
        if let (Ok(()), Some(meta)) = (&resolved, meta) {
            self.metadata(&references, &meta);
        }
        self.scratch.references = references;
        match resolved {
            Err(refusal) => self.sink.discard(refusal)?,
            Ok(()) if points == 0 => {
                let message = "series with neither sample nor histogram".to_owned();
                let refusal = Refusal { reason: RejectReason::Unsupported, message };
                self.sink.reject(1, refusal.clone());
                self.sink.discard(refusal)?;
            }
            Ok(()) => {
                let walk = &mut self.walk;
                self.sink.finish_looked_up(&mut self.scratch.encoded, |encoded| walk.look_up_unordered(encoded))?;
            }
        }
        Ok(())
    }

    fn exemplar(&mut self, message: &[u8]) -> Result<Option<Exemplar>, WireError> {
        let (mut value, mut timestamp_ms, mut references) = (0.0, 0, Vec::new());
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => push_references(field, &mut references)?,
                2 => value = field.double()?,
                3 => timestamp_ms = field.varint()? as i64,
                _ => {}
            }
        }
        let bytes = |reference: &u32| self.symbols.get(*reference as usize).map_or(0, |symbol| symbol.len());
        let bytes_max = 4 * self.sink.limits().exemplar_label_chars_max;
        let labels = &mut self.scratch.exemplar_labels;
        labels.clear();
        if references.iter().map(bytes).sum::<usize>() > bytes_max {
            return Ok(None);
        }
        if resolve(&references, &self.symbols, labels, self.sink.limits()).is_err() {
            return Ok(None);
        }
        Ok(exemplar_labels(labels).map(|labels| Exemplar { labels, timestamp_ms, value }))
    }

    /// Metadata comes with every series of a family; one of them is enough.
    fn metadata(&mut self, references: &[u32], meta: &Metadata) {
        let symbol = |reference: u32| self.symbols.get(reference as usize).copied().unwrap_or("");
        let is_name = |pair: &&[u32]| symbol(pair[0]) == METRIC_NAME;
        let Some(name) = references.chunks_exact(2).find(is_name).map(|pair| symbol(pair[1])) else { return };
        let family = family_name(name, meta.kind);
        if (meta.kind, meta.help, meta.unit) == (MetricKind::Unknown, 0, 0) || !self.families.insert(family) {
            return;
        }
        self.sink.push_metadata(family, meta.kind, symbol(meta.help), symbol(meta.unit));
    }
}

fn push_references(field: Field<'_>, references: &mut Vec<u32>) -> Result<(), WireError> {
    field.each_varint(|reference| {
        // One more than allowed is kept, so that the set is refused.
        if references.len() <= REFERENCES_MAX {
            references.push(reference as u32);
        }
    })
}

/// Copies the texts of a label set, unless it is beyond a limit.
fn resolve(references: &[u32], symbols: &[&str], labels: &mut LabelsBuilder, limits: &Limits) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal { reason: RejectReason::InvalidLabels, message });
    if !references.len().is_multiple_of(2) {
        return invalid(format!("series has an odd number of label references: {}", references.len()));
    }
    if references.len() / 2 > limits.labels_max {
        let message = format!(
            "series has {} labels or more, more than ingest.limits.labels_max = {}",
            references.len() / 2,
            limits.labels_max
        );
        return Err(Refusal { reason: RejectReason::Limit, message });
    }
    for pair in references.chunks_exact(2) {
        let (Some(name), Some(value)) = (symbols.get(pair[0] as usize), symbols.get(pair[1] as usize)) else {
            return invalid(format!("series refers to symbol {} of {}", pair[0].max(pair[1]), symbols.len()));
        };
        if name.len() > limits.label_name_bytes_max || value.len() > limits.label_value_bytes_max {
            let message = format!(
                "label has a name of {} and a value of {} bytes, more than ingest.limits.label_name_bytes_max = {} or \
                 ingest.limits.label_value_bytes_max = {}",
                name.len(),
                value.len(),
                limits.label_name_bytes_max,
                limits.label_value_bytes_max
            );
            return Err(Refusal { reason: RejectReason::Limit, message });
        }
        labels.push(name, value);
    }
    Ok(())
}

fn sample(message: &[u8]) -> Result<(Sample, i64), WireError> {
    let (mut sample, mut start_ms) = (Sample { timestamp_ms: 0, value: 0.0 }, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp_ms = field.varint()? as i64,
            3 => start_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((sample, start_ms))
}

struct Metadata {
    kind: MetricKind,
    help: u32,
    unit: u32,
}

fn metadata(message: &[u8]) -> Result<Metadata, WireError> {
    let mut metadata = Metadata { kind: MetricKind::Unknown, help: 0, unit: 0 };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => metadata.kind = metric_kind(field.varint()?),
            3 => metadata.help = field.varint()? as u32,
            4 => metadata.unit = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(metadata)
}

/// The family of a series: the series of classic histograms and summaries have a suffix more.
fn family_name(metric: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).filter(|name| !name.is_empty()).unwrap_or(metric)
}
