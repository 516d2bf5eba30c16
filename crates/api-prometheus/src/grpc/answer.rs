//! Answers of expressions as messages.

use std::time::Duration;

use pharos_model::{BucketSide, Histogram, Labels, ResetHint};
use pharos_promql::Value;
use pharos_promql::engine::{MatrixSeries, QueryStats, SampleValue, VectorSample};
use pharos_proto::query::v1 as pb;
use prost::Message;

use super::batches::{FRAME_BYTES, MESSAGE_BYTES, batches};
use crate::evaluate::{Evaluated, TRUNCATED};

/// Samples of one piece of a series take about this much: several fit into a message.
const PIECE_BYTES: usize = MESSAGE_BYTES / 4;
/// An instant as a varint and a double.
const FLOAT_BYTES: usize = 16;

/// The messages of an answer, made as they are taken.
pub(super) fn query_messages(
    evaluated: Evaluated,
    level: pb::StatsLevel,
) -> impl Iterator<Item = pb::QueryResponse> + Send {
    let (mut head, end) = (head(&evaluated.result.value), end(&evaluated, level));
    let held = evaluated.result.held;
    let series: Box<dyn Iterator<Item = pb::Series> + Send> = match evaluated.result.value {
        Value::Vector(samples) => Box::new(samples.into_iter().map(of_sample)),
        Value::Matrix(list) => Box::new(list.into_iter().flat_map(|series| pieces(&series))),
        Value::Scalar { .. } | Value::String { .. } => Box::new(std::iter::empty()),
    };
    // Its memory counts until the last message has left or the client has gone.
    let series = series.inspect(move |_| _ = &held);
    batches(series, pb::Series::encoded_len, end, move |series, end| pb::QueryResponse {
        series,
        end,
        ..std::mem::take(&mut head)
    })
}

/// The type, and the value where it is no series; for the first message.
fn head(value: &Value) -> pb::QueryResponse {
    let (value_type, scalar, text) = match value {
        Value::Vector(_) => (pb::ValueType::Vector, None, None),
        Value::Matrix(_) => (pb::ValueType::Matrix, None, None),
        Value::Scalar { timestamp_ms, value } => {
            (pb::ValueType::Scalar, Some(pb::Scalar { time_unix_ms: *timestamp_ms, value: *value }), None)
        }
        Value::String { timestamp_ms, value } => {
            (pb::ValueType::String, None, Some(pb::Text { time_unix_ms: *timestamp_ms, value: value.clone() }))
        }
    };
    pb::QueryResponse { value_type: value_type as i32, scalar, text, ..pb::QueryResponse::default() }
}

fn end(evaluated: &Evaluated, level: pb::StatsLevel) -> pb::End {
    let annotations = &evaluated.result.annotations;
    let truncated = evaluated.truncated.then(|| TRUNCATED.to_owned());
    pb::End {
        warnings: annotations.warnings.iter().cloned().chain(truncated).collect(),
        infos: annotations.infos.iter().cloned().collect(),
        stats: (level != pb::StatsLevel::Unspecified).then(|| stats(&evaluated.result.stats, evaluated.queued)),
    }
}

fn stats(stats: &QueryStats, queued: Duration) -> pb::Stats {
    // No query takes 292 billion years.
    let duration = |duration: Duration| prost_types::Duration::try_from(duration).ok();
    let counts = stats.steps.clone().unwrap_or_default();
    pb::Stats {
        queue_duration: duration(queued),
        prepare_duration: duration(stats.prepare_duration),
        evaluate_duration: duration(stats.evaluate_duration + stats.sort_duration),
        series_read: stats.series_read,
        samples_read: stats.samples_read,
        samples_queryable: stats.samples_queryable,
        samples_peak: stats.samples_peak,
        memory_bytes_peak: stats.memory_bytes_peak,
        samples_queryable_per_step: counts.queryable,
        samples_read_per_step: counts.read,
    }
}

fn of_sample(sample: VectorSample) -> pb::Series {
    let series = pb::Series { labels: labels(&sample.labels), ..pb::Series::default() };
    match sample.value {
        SampleValue::Float(value) => {
            pb::Series { float_times_unix_ms: vec![sample.timestamp_ms], float_values: vec![value], ..series }
        }
        SampleValue::Histogram(value) => {
            pb::Series { histograms: vec![histogram(sample.timestamp_ms, &value)], ..series }
        }
    }
}

/// A series, cut where its samples do not fit into one message. Floats and histograms go into pieces of their own.
fn pieces(series: &MatrixSeries) -> Vec<pb::Series> {
    let mut pieces: Vec<pb::Series> = Vec::new();
    for floats in series.floats.chunks(PIECE_BYTES / FLOAT_BYTES) {
        let (float_times_unix_ms, float_values) = floats.iter().copied().unzip();
        pieces.push(pb::Series { float_times_unix_ms, float_values, ..pb::Series::default() });
    }
    let mut held = usize::MAX;
    for (at_ms, value) in &series.histograms {
        let value = histogram(*at_ms, value);
        let bytes = value.encoded_len() + FRAME_BYTES;
        held = held.saturating_add(bytes);
        match pieces.last_mut() {
            Some(piece) if held <= PIECE_BYTES => piece.histograms.push(value),
            _ => {
                held = bytes;
                pieces.push(pb::Series { histograms: vec![value], ..pb::Series::default() });
            }
        }
    }
    for (index, piece) in pieces.iter_mut().enumerate() {
        match index {
            0 => piece.labels = labels(&series.labels),
            _ => piece.continues = true,
        }
    }
    pieces
}

/// The labels of a series.
pub(super) fn label_set(labels_of: &Labels) -> pb::LabelSet {
    pb::LabelSet { labels: labels(labels_of) }
}

fn labels(labels: &Labels) -> Vec<pb::Label> {
    labels.iter().map(|(name, value)| pb::Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// What labels take in memory.
pub(super) fn label_bytes(labels: &[pb::Label]) -> u64 {
    let texts: usize = labels.iter().map(|label| label.name.capacity() + label.value.capacity()).sum();
    (texts + std::mem::size_of_val(labels) + size_of::<pb::LabelSet>()) as u64
}

fn histogram(time_unix_ms: i64, histogram: &Histogram) -> pb::Histogram {
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => pb::ResetHint::Unspecified,
        ResetHint::Reset => pb::ResetHint::Yes,
        ResetHint::NotReset => pb::ResetHint::No,
        ResetHint::Gauge => pb::ResetHint::Gauge,
    };
    pb::Histogram {
        time_unix_ms,
        count: histogram.count,
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        positive_spans: spans(&histogram.positive),
        positive_counts: histogram.positive.counts.clone(),
        negative_spans: spans(&histogram.negative),
        negative_counts: histogram.negative.counts.clone(),
        custom_bounds: histogram.custom_bounds.clone(),
        reset_hint: hint as i32,
    }
}

fn spans(side: &BucketSide) -> Vec<pb::BucketSpan> {
    side.spans.iter().map(|span| pb::BucketSpan { offset: span.offset, length: span.length }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_series_that_fits_no_message_comes_in_pieces_in_order() {
        let side = BucketSide { spans: Vec::new(), counts: vec![1.5; 200] };
        let value = Arc::new(Histogram { positive: side, ..Histogram::empty(0) });
        let series = MatrixSeries {
            labels: Labels::from_pairs([("__name__", "m")]).unwrap(),
            floats: (0..50_000).map(|at| (at, at as f64)).collect(),
            histograms: (50_000..51_000).map(|at| (at, Arc::clone(&value))).collect(),
        };
        let pieces = pieces(&series);
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.encoded_len() <= PIECE_BYTES + 64));
        let starts: Vec<_> = pieces.iter().map(|piece| (piece.labels.len(), piece.continues)).collect();
        assert!(starts[0] == (1, false) && starts[1..].iter().all(|start| *start == (0, true)), "{starts:?}");
        let floats: Vec<_> = pieces.iter().flat_map(|piece| piece.float_times_unix_ms.iter().copied()).collect();
        assert_eq!(floats, (0..50_000).collect::<Vec<_>>());
        let values: usize = pieces.iter().map(|piece| piece.float_values.len()).sum();
        let histograms: Vec<_> = pieces.iter().flat_map(|piece| &piece.histograms).map(|h| h.time_unix_ms).collect();
        assert_eq!((values, histograms), (50_000, (50_000..51_000).collect::<Vec<_>>()));
    }
}
