//! A batch as a body of remote write: 2.0, which alone carries start timestamps; 1.0 for what only that can say, which is
//! exemplars without samples and metadata of metrics without series.

use std::collections::HashMap;
use std::ops::Range;

use pharos_model::{Exemplar, Histogram, MetricBatch, MetricKind, ResetHint, iter_encoded};
use pharos_proto::remote_write::{v1, v2};
use prost::Message;

/// A message of remote write, snappy, and what is in it.
#[derive(Debug)]
pub(super) struct WriteBody {
    pub(super) bytes: Vec<u8>,
    pub(super) is_v2: bool,
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

/// The bodies of a batch: one, or two where there is something for 1.0.
pub(super) fn encode(batch: &MetricBatch) -> anyhow::Result<Vec<WriteBody>> {
    let mut request = v2::Request { symbols: vec![String::new()], timeseries: Vec::new() };
    let mut rest = v1::WriteRequest::default();
    let mut symbols = HashMap::new();
    let mut rest_exemplars = 0;
    for run in &batch.series {
        let labels = batch.encoded_labels(run);
        if run.samples.is_empty() && run.histograms.is_empty() {
            rest_exemplars += run.exemplars.len() as u64;
            rest.timeseries.push(exemplars_only(labels, &batch.exemplars[run.exemplars.clone()]));
            continue;
        }
        let mut refer = |text: &str| -> u32 {
            if let Some(reference) = symbols.get(text) {
                return *reference;
            }
            let reference = request.symbols.len() as u32;
            request.symbols.push(text.to_owned());
            symbols.insert(text.to_owned(), reference);
            reference
        };
        let labels_refs = iter_encoded(labels).flat_map(|(name, value)| [name, value]).map(&mut refer).collect();
        let exemplars = batch.exemplars[run.exemplars.clone()].iter().map(|exemplar| v2::Exemplar {
            labels_refs: exemplar.labels.iter().flat_map(|(name, value)| [name, value]).map(&mut refer).collect(),
            value: exemplar.value,
            timestamp: exemplar.timestamp_ms,
        });
        let exemplars = exemplars.collect();
        request.timeseries.push(v2::TimeSeries {
            labels_refs,
            samples: samples(batch, run.samples.clone()),
            histograms: histograms(batch, run.histograms.clone()),
            exemplars,
            metadata: None,
        });
    }
    rest.metadata.extend(batch.metadata.iter().map(|metadata| v1::MetricMetadata {
        r#type: kind(metadata.kind),
        metric_family_name: metadata.metric.clone(),
        help: metadata.help.clone(),
        unit: metadata.unit.clone(),
    }));
    let mut bodies = Vec::new();
    if !request.timeseries.is_empty() {
        bodies.push(WriteBody {
            bytes: snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?,
            is_v2: true,
            samples: batch.samples.len() as u64,
            histograms: batch.histograms.len() as u64,
            exemplars: batch.exemplars.len() as u64 - rest_exemplars,
        });
    }
    if !rest.timeseries.is_empty() || !rest.metadata.is_empty() {
        let bytes = snap::raw::Encoder::new().compress_vec(&rest.encode_to_vec())?;
        bodies.push(WriteBody { bytes, is_v2: false, samples: 0, histograms: 0, exemplars: rest_exemplars });
    }
    Ok(bodies)
}

fn samples(batch: &MetricBatch, range: Range<usize>) -> Vec<v2::Sample> {
    let at = |index: usize| v2::Sample {
        value: batch.samples[index].value,
        timestamp: batch.samples[index].timestamp_ms,
        start_timestamp: batch.start_ms.get(index).copied().unwrap_or(0),
    };
    range.map(at).collect()
}

fn histograms(batch: &MetricBatch, range: Range<usize>) -> Vec<v2::Histogram> {
    let at = |index: usize| {
        let found = &batch.histograms[index];
        let start_ms = batch.histogram_start_ms.get(index).copied().unwrap_or(0);
        histogram(&found.histogram, found.timestamp_ms, start_ms)
    };
    range.map(at).collect()
}

fn histogram(histogram: &Histogram, timestamp_ms: i64, start_ms: i64) -> v2::Histogram {
    let is_integer = histogram.is_integer;
    let spans = |side: &pharos_model::BucketSide| -> Vec<v2::BucketSpan> {
        side.spans.iter().map(|span| v2::BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    let deltas = |side: &pharos_model::BucketSide| -> Vec<i64> {
        let mut before = 0;
        let step = |count: &f64| {
            let count = *count as i64;
            count.wrapping_sub(std::mem::replace(&mut before, count))
        };
        if is_integer { side.counts.iter().map(step).collect() } else { Vec::new() }
    };
    let counts = |side: &pharos_model::BucketSide| if is_integer { Vec::new() } else { side.counts.clone() };
    v2::Histogram {
        count: Some(if is_integer {
            v2::Count::CountInt(histogram.count as u64)
        } else {
            v2::Count::CountFloat(histogram.count)
        }),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: Some(if is_integer {
            v2::ZeroCount::ZeroCountInt(histogram.zero_count as u64)
        } else {
            v2::ZeroCount::ZeroCountFloat(histogram.zero_count)
        }),
        negative_spans: spans(&histogram.negative),
        negative_deltas: deltas(&histogram.negative),
        negative_counts: counts(&histogram.negative),
        positive_spans: spans(&histogram.positive),
        positive_deltas: deltas(&histogram.positive),
        positive_counts: counts(&histogram.positive),
        reset_hint: match histogram.reset_hint {
            ResetHint::Unknown => v2::ResetHint::Unknown,
            ResetHint::Reset => v2::ResetHint::Yes,
            ResetHint::NotReset => v2::ResetHint::No,
            ResetHint::Gauge => v2::ResetHint::Gauge,
        } as i32,
        timestamp: timestamp_ms,
        custom_values: histogram.custom_bounds.clone(),
        start_timestamp: start_ms,
    }
}

fn exemplars_only(labels: &[u8], exemplars: &[Exemplar]) -> v1::TimeSeries {
    let label = |(name, value): (&str, &str)| v1::Label { name: name.to_owned(), value: value.to_owned() };
    let exemplar = |exemplar: &Exemplar| v1::Exemplar {
        labels: exemplar.labels.iter().map(label).collect(),
        value: exemplar.value,
        timestamp: exemplar.timestamp_ms,
    };
    v1::TimeSeries {
        labels: iter_encoded(labels).map(label).collect(),
        exemplars: exemplars.iter().map(exemplar).collect(),
        ..v1::TimeSeries::default()
    }
}

fn kind(kind: MetricKind) -> i32 {
    let kind = match kind {
        MetricKind::Unknown => v2::MetricType::Unknown,
        MetricKind::Counter => v2::MetricType::Counter,
        MetricKind::Gauge => v2::MetricType::Gauge,
        MetricKind::Histogram => v2::MetricType::Histogram,
        MetricKind::GaugeHistogram => v2::MetricType::Gaugehistogram,
        MetricKind::Summary => v2::MetricType::Summary,
        MetricKind::Info => v2::MetricType::Info,
        MetricKind::StateSet => v2::MetricType::Stateset,
    };
    kind as i32
}
