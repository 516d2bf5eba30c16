//! Remote write 2.0: label texts are numbers into a table of symbols.
//!
//! A few bytes of references can name megabytes of symbols, so lengths are checked before text is
//! copied, and the sink bounds the text of the whole request. The table is counted as memory of the request, too: two bytes of
//! a message are a symbol.

use hashbrown::HashSet;
use pharos_model::{Exemplar, Labels, LabelsBuilder, METRIC_NAME, MetricKind, Sample};
use pharos_storage::RejectReason;

use super::memory::Walk;
use super::symbols::{Recognised, Symbols};
use super::v1::common_sample;
use super::{DecodeError, Rules, SeriesMemory, field_count, histogram, metric_kind};
use crate::sink::{Refusal, SeriesSink, beyond_memory, exemplar_labels};
use crate::wire::{Field, Payload, Reader, WireError};
use crate::{DecodedMetrics, IngestError, Limits};

/// References of one label set: twice the largest count of labels any setting makes sense for.
const REFERENCES_MAX: usize = 4096;
/// Few series with a sample take fewer bytes of a body; a bound on what is reserved for one.
const SERIES_BYTES_MIN: usize = 40;
/// What a symbol takes beside the body; twice, as the table grows by copying.
const SYMBOL_BYTES: u64 = 2 * size_of::<&str>() as u64;
/// What a family that was described takes in the set of them; with its empty slots, and while the set grows.
const FAMILY_BYTES: u64 = 4 * (size_of::<&str>() as u64 + 1);
const TYPE: &str = "__type__";
const UNIT: &str = "__unit__";
/// The label that tells quantiles of a summary from its sum and count.
const QUANTILE: &str = "quantile";

pub(super) fn decode(body: &[u8], rules: Rules<'_>, memory: &SeriesMemory) -> Result<DecodedMetrics, DecodeError> {
    let symbols_max = rules.limits.decoded_max.0 / SYMBOL_BYTES;
    let symbols = Symbols::read(body, usize::try_from(symbols_max).unwrap_or(usize::MAX))?;
    let symbols = symbols.ok_or_else(|| beyond_memory(rules.limits))?;
    let room = symbols.series_count().min(body.len() / SERIES_BYTES_MIN);
    let mut sink = SeriesSink::with_room(rules.limits, rules.window, room).noting_counts(rules.settings.created_zero);
    sink.charge(symbols.len() as u64 * SYMBOL_BYTES)?;
    let mut request = Request {
        symbols,
        rules,
        sink,
        walk: memory.walk(),
        recognised: Recognised::default(),
        recognised_run: 0,
        scratch: Scratch::default(),
        families: HashSet::new(),
        last_described: None,
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

struct Request<'a, 'l> {
    symbols: Symbols<'a>,
    rules: Rules<'l>,
    sink: SeriesSink<'l>,
    walk: Walk<'l>,
    /// What was recognised last, and its run in the batch.
    recognised: Recognised,
    recognised_run: usize,
    scratch: Scratch,
    /// Families whose metadata the batch has already.
    families: HashSet<&'a str>,
    /// The metric name, and what was said of it, that were met last.
    last_described: Option<(u32, Metadata)>,
}

#[derive(Default)]
struct Scratch {
    references: Vec<u32>,
    encoded: Vec<u8>,
    exemplar_references: Vec<u32>,
    exemplar_labels: LabelsBuilder,
}

impl<'a> Request<'a, '_> {
    fn series(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let (mut points, mut exemplars, mut meta) = (0_usize, 0_usize, Metadata::default());
        let mut references = std::mem::take(&mut self.scratch.references);
        references.clear();
        self.sink.require_samples(message.len(), || field_count(message, 2))?;
        let mut reader = Reader::new(message);
        loop {
            while let Some((sample, length)) = common_sample(reader.rest()) {
                self.sink.push_sample(sample, 0);
                reader.skip(length);
                points += 1;
            }
            let Some(field) = reader.next()? else { break };
            match field.number {
                1 => push_references(field, &mut references)?,
                2 => {
                    let (sample, start_ms) = sample(field.bytes()?)?;
                    self.sink.push_sample(sample, start_ms);
                    points += 1;
                }
                3 => {
                    let point = histogram::decode(field.bytes()?, self.rules.limits.histogram_buckets_max)?;
                    self.sink.push_histogram(point.timestamp_ms, point.histogram, point.start_ms)?;
                    points += 1;
                }
                4 => {
                    match self.exemplar(field.bytes()?)? {
                        Some(exemplar) => self.sink.push_exemplar(exemplar)?,
                        None => self.sink.drop_exemplar(),
                    }
                    exemplars += 1;
                }
                5 => meta = metadata(field.bytes()?)?,
                _ => {}
            }
        }
        self.finish(&references, (points, exemplars), meta)?;
        self.scratch.references = references;
        Ok(())
    }

    /// Prometheus sends exemplars as series of their own, without a sample.
    fn finish(
        &mut self,
        references: &[u32],
        (points, exemplars): (usize, usize),
        meta: Metadata,
    ) -> Result<(), DecodeError> {
        self.sink.counts = self.counts(references, meta.kind);
        let unit = self.symbols.text(meta.unit);
        let is_labelled =
            self.rules.settings.type_and_unit_labels && (meta.kind != MetricKind::Unknown || !unit.is_empty());
        let is_empty = points + exemplars == 0;
        if !is_empty && !is_labelled && self.is_recognised(references) {
            self.metadata(references, meta)?;
            let run = self.sink.series_count();
            if let Some(labels) = self.walk.labels() {
                self.sink.finish_shared(labels, references.len() / 2)?;
            }
            // Without a sample inside the window there is no run.
            if self.sink.series_count() > run {
                self.recognised_run = run;
            } else {
                self.recognised.clear();
            }
            return Ok(());
        }
        if let Err(refusal) = resolve(references, &self.symbols, &mut self.sink.labels, self.rules.limits) {
            // Samples and histograms are counted one by one.
            let told = if points == 0 { self.sink.refuse(refusal) } else { self.sink.discard(refusal) };
            return Ok(told?);
        }
        self.metadata(references, meta)?;
        if is_empty {
            let message = "series with neither sample nor histogram nor exemplar".to_owned();
            let refusal = Refusal { reason: RejectReason::Unsupported, message };
            return Ok(self.sink.refuse(refusal)?);
        }
        if is_labelled {
            let kind = if meta.kind == MetricKind::Unknown { "" } else { meta.kind.as_str() };
            self.sink.labels.set(TYPE, kind);
            self.sink.labels.set(UNIT, unit);
        }
        let walk = &mut self.walk;
        Ok(self.sink.finish_looked_up(&mut self.scratch.encoded, |encoded| walk.look_up_unordered(encoded))?)
    }

    /// Whether the references are the labels of the series that came next the last time.
    fn is_recognised(&mut self, references: &[u32]) -> bool {
        let Self { symbols, sink, walk, recognised, .. } = self;
        let before = sink.shared_labels(self.recognised_run).map_or(&[][..], Labels::encoded);
        walk.recognise_by(|encoded| symbols.are(references, encoded, recognised, before))
    }

    /// Whether the series is zero where it starts. Senders tell starts of what counts; some tell no types.
    fn counts(&self, references: &[u32], kind: MetricKind) -> bool {
        use MetricKind as K;
        self.rules.settings.created_zero
            && match kind {
                K::Counter | K::Histogram | K::Unknown => true,
                K::Summary => references.iter().step_by(2).all(|name| self.symbols.text(*name) != QUANTILE),
                K::Gauge | K::GaugeHistogram | K::Info | K::StateSet => false,
            }
    }

    fn exemplar(&mut self, message: &[u8]) -> Result<Option<Exemplar>, WireError> {
        let (mut value, mut timestamp_ms) = (0.0, 0);
        let Scratch { exemplar_references: references, exemplar_labels: labels, .. } = &mut self.scratch;
        references.clear();
        labels.clear();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => push_references(field, references)?,
                2 => value = field.double()?,
                3 => timestamp_ms = field.varint()? as i64,
                _ => {}
            }
        }
        let bytes = |reference: &u32| self.symbols.text(*reference).len();
        let limits = self.rules.limits;
        if references.iter().map(bytes).sum::<usize>() > 4 * limits.exemplar_label_chars_max
            || resolve(references, &self.symbols, labels, limits).is_err()
        {
            return Ok(None);
        }
        Ok(exemplar_labels(labels).map(|labels| Exemplar { labels, timestamp_ms, value }))
    }

    /// Metadata comes with every series of a family; one of them is enough.
    fn metadata(&mut self, references: &[u32], meta: Metadata) -> Result<(), IngestError> {
        if meta == Metadata::default() {
            return Ok(());
        }
        let is_name = |pair: &&[u32]| self.symbols.text(pair[0]) == METRIC_NAME;
        let Some(name) = references.chunks_exact(2).find(is_name).map(|pair| pair[1]) else { return Ok(()) };
        if self.last_described == Some((name, meta)) {
            return Ok(());
        }
        self.last_described = Some((name, meta));
        let family = family_name(self.symbols.text(name), meta.kind);
        if self.families.insert(family) {
            self.sink.charge(FAMILY_BYTES)?;
            let (help, unit) = (self.symbols.text(meta.help), self.symbols.text(meta.unit));
            self.sink.push_metadata(family, meta.kind, help, unit)?;
        }
        Ok(())
    }
}

fn push_references(field: Field<'_>, references: &mut Vec<u32>) -> Result<(), WireError> {
    if let Payload::Bytes(packed) = field.payload
        && references.is_empty()
        && packed.len() <= REFERENCES_MAX
    {
        return read_packed(packed, references);
    }
    field.each_varint(|reference| {
        // One more than allowed is kept, so that the set is refused.
        if references.len() <= REFERENCES_MAX {
            references.push(reference as u32);
        }
    })
}

/// All references of a packed field, each a byte at least.
fn read_packed(packed: &[u8], references: &mut Vec<u32>) -> Result<(), WireError> {
    references.resize(packed.len(), 0);
    let (mut reader, mut count) = (Reader::new(packed), 0);
    while !reader.rest().is_empty() {
        references[count] = reader.varint()? as u32;
        count += 1;
    }
    references.truncate(count);
    Ok(())
}

/// Copies the texts of a label set, unless it is beyond a limit.
fn resolve(
    references: &[u32],
    symbols: &Symbols<'_>,
    labels: &mut LabelsBuilder,
    limits: &Limits,
) -> Result<(), Refusal> {
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
        let (Some(name), Some(value)) = (symbols.get(pair[0]), symbols.get(pair[1])) else {
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

/// What is said of a metric; help and unit are references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Metadata {
    kind: MetricKind,
    help: u32,
    unit: u32,
}

fn metadata(message: &[u8]) -> Result<Metadata, WireError> {
    let mut metadata = Metadata::default();
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
