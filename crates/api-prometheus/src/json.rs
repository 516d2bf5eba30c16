//! Values of queries as JSON, written piece by piece so that no answer stands in memory twice.

use std::sync::Arc;

use pharos_model::{Histogram, Labels, exponential_bound};
use pharos_promql::Value;
use pharos_promql::engine::{MatrixSeries, SampleValue, VectorSample};

use crate::number::{push_float, push_seconds};

/// Pieces of about this size go to the socket, bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Floats of a series that are written before the size of the piece is looked at.
const FLOATS_RUN: usize = 1_024;
/// As [`FLOATS_RUN`], of histograms.
const HISTOGRAMS_RUN: usize = 16;

/// Appends a JSON string with its quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    push_text(out, text.as_bytes());
}

/// As [`push_string`], of bytes that are UTF-8.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    // Looked at without a branch per byte: texts with anything to escape are rare.
    let is_plain = text.iter().fold(true, |plain, byte| plain & !matches!(byte, 0..b' ' | b'"' | b'\\'));
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        // Serializing a `str` into memory cannot fail.
        let _ = serde_json::to_writer(out, &String::from_utf8_lossy(text));
    }
}

/// Appends labels as an object.
pub(crate) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    let mut separator = b'{';
    for (name, value) in labels.iter_bytes() {
        out.push(separator);
        push_text(out, name);
        out.push(b':');
        push_text(out, value);
        separator = b',';
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Appends texts as an array.
pub(crate) fn push_strings(out: &mut Vec<u8>, texts: &[String]) {
    let mut separator = b'[';
    for text in texts {
        out.push(separator);
        push_string(out, text);
        separator = b',';
    }
    if texts.is_empty() {
        out.push(b'[');
    }
    out.push(b']');
}

/// The members of `data` up to `"result":`.
pub(crate) fn result_head(value: &Value) -> Vec<u8> {
    format!("\"resultType\":\"{}\",\"result\":", value.value_type().api_name()).into_bytes()
}

/// The result itself, in pieces.
pub(crate) fn result_pieces(value: Value) -> Box<dyn Iterator<Item = Vec<u8>> + Send> {
    match value {
        Value::Vector(samples) => Box::new(ListPieces::new(samples.into_iter(), push_vector_sample)),
        Value::Matrix(series) => Box::new(MatrixPieces::new(series)),
        Value::Scalar { timestamp_ms, value } => {
            let mut out = Vec::new();
            push_point(&mut out, timestamp_ms, value);
            Box::new(std::iter::once(out))
        }
        Value::String { timestamp_ms, value } => {
            let mut out = vec![b'['];
            push_seconds(&mut out, timestamp_ms);
            out.push(b',');
            push_string(&mut out, &value);
            out.push(b']');
            Box::new(std::iter::once(out))
        }
    }
}

struct ListPieces<T, I: Iterator<Item = T>> {
    items: I,
    push: fn(&mut Vec<u8>, &T),
    begun: bool,
    done: bool,
}

impl<T, I: Iterator<Item = T>> ListPieces<T, I> {
    fn new(items: I, push: fn(&mut Vec<u8>, &T)) -> Self {
        Self { items, push, begun: false, done: false }
    }
}

impl<T, I: Iterator<Item = T>> Iterator for ListPieces<T, I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES / 4);
        if !self.begun {
            piece.push(b'[');
        }
        while piece.len() < PIECE_BYTES {
            let Some(item) = self.items.next() else {
                piece.push(b']');
                self.done = true;
                break;
            };
            if self.begun {
                piece.push(b',');
            }
            self.begun = true;
            (self.push)(&mut piece, &item);
        }
        Some(piece)
    }
}

/// A matrix in pieces. Long series are cut between their samples, so that no piece is much larger than [`PIECE_BYTES`],
/// and each series is dropped when it is written.
struct MatrixPieces {
    series: std::vec::IntoIter<MatrixSeries>,
    current: Option<WrittenSeries>,
    begun: bool,
    done: bool,
}

/// A series under way: how many of its samples are written.
struct WrittenSeries {
    series: MatrixSeries,
    floats: usize,
    histograms: usize,
}

impl MatrixPieces {
    fn new(series: Vec<MatrixSeries>) -> Self {
        Self { series: series.into_iter(), current: None, begun: false, done: false }
    }

    /// Writes what comes next: the head of a series, some of its samples, or its end.
    fn push_next(&mut self, piece: &mut Vec<u8>) {
        if let Some(current) = &mut self.current {
            if current.push_samples(piece) {
                piece.push(b'}');
                self.current = None;
            }
            return;
        }
        let Some(series) = self.series.next() else {
            piece.extend_from_slice(if self.begun { b"]" } else { b"[]" });
            self.done = true;
            return;
        };
        piece.push(if self.begun { b',' } else { b'[' });
        self.begun = true;
        piece.extend_from_slice(b"{\"metric\":");
        push_labels(piece, &series.labels);
        self.current = Some(WrittenSeries { series, floats: 0, histograms: 0 });
    }
}

impl Iterator for MatrixPieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES / 4);
        while piece.len() < PIECE_BYTES && !self.done {
            self.push_next(&mut piece);
        }
        Some(piece)
    }
}

impl WrittenSeries {
    /// Writes some samples, floats first; true if that was all.
    fn push_samples(&mut self, out: &mut Vec<u8>) -> bool {
        let Self { series, floats, histograms } = self;
        if *floats < series.floats.len() {
            let push = |out: &mut Vec<u8>, (at_ms, value): &(i64, f64)| push_point(out, *at_ms, *value);
            push_run(out, b",\"values\":", &series.floats, floats, FLOATS_RUN, push);
        } else if *histograms < series.histograms.len() {
            let push =
                |out: &mut Vec<u8>, (at_ms, value): &(i64, Arc<Histogram>)| push_histogram_point(out, *at_ms, value);
            push_run(out, b",\"histograms\":", &series.histograms, histograms, HISTOGRAMS_RUN, push);
        }
        *floats == series.floats.len() && *histograms == series.histograms.len()
    }
}

/// Writes the next `run` of `items`, of which `written` are there already: the key before the first, the end behind the last.
fn push_run<T>(
    out: &mut Vec<u8>,
    key: &[u8],
    items: &[T],
    written: &mut usize,
    run: usize,
    push: impl Fn(&mut Vec<u8>, &T),
) {
    let end = items.len().min(*written + run);
    let mut separator = b',';
    if *written == 0 {
        out.extend_from_slice(key);
        separator = b'[';
    }
    for item in &items[*written..end] {
        out.push(separator);
        push(out, item);
        separator = b',';
    }
    if end == items.len() {
        out.push(b']');
    }
    *written = end;
}

fn push_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, &sample.labels);
    match &sample.value {
        SampleValue::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            push_point(out, sample.timestamp_ms, *value);
        }
        SampleValue::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            push_histogram_point(out, sample.timestamp_ms, histogram);
        }
    }
    out.push(b'}');
}

fn push_list<T>(out: &mut Vec<u8>, key: &[u8], items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    if items.is_empty() {
        return;
    }
    out.extend_from_slice(key);
    let mut separator = b'[';
    for item in items {
        out.push(separator);
        push(out, item);
        separator = b',';
    }
    out.push(b']');
}

fn push_point(out: &mut Vec<u8>, at_ms: i64, value: f64) {
    out.push(b'[');
    push_seconds(out, at_ms);
    out.extend_from_slice(b",\"");
    push_float(out, value);
    out.extend_from_slice(b"\"]");
}

fn push_histogram_point(out: &mut Vec<u8>, at_ms: i64, histogram: &Histogram) {
    out.push(b'[');
    push_seconds(out, at_ms);
    out.push(b',');
    push_histogram(out, histogram);
    out.push(b']');
}

/// Which bounds of a bucket belong to it, as the API numbers it.
#[derive(Clone, Copy)]
enum Bounds {
    OpenLeft = 0,
    OpenRight = 1,
    Closed = 3,
}

fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    out.extend_from_slice(b"{\"count\":\"");
    push_float(out, histogram.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    push_float(out, histogram.sum);
    out.push(b'"');
    let buckets = buckets(histogram);
    push_list(out, b",\"buckets\":", &buckets, |out, (bounds, lower, upper, count)| {
        out.push(b'[');
        out.push(b'0' + *bounds as u8);
        for number in [lower, upper, count] {
            out.extend_from_slice(b",\"");
            push_float(out, *number);
            out.push(b'"');
        }
        out.push(b']');
    });
    out.push(b'}');
}

/// Buckets that hold something, from the most negative to the most positive.
fn buckets(histogram: &Histogram) -> Vec<(Bounds, f64, f64, f64)> {
    if histogram.has_custom_buckets() {
        return custom_buckets(histogram);
    }
    // A bucket that reaches into the zero bucket begins where that ends.
    let inner = |index: i32| match exponential_bound(histogram.schema, index.saturating_sub(1)) {
        bound if bound > 0.0 => bound.max(histogram.zero_threshold),
        bound => bound,
    };
    let outer = |index: i32| exponential_bound(histogram.schema, index);
    let negative = histogram.negative.iter().map(|(i, count)| (Bounds::OpenRight, -outer(i), -inner(i), count));
    let mut all: Vec<_> = negative.filter(|bucket| bucket.3 != 0.0).collect();
    all.reverse();
    // As in Prometheus, which shows what is below zero in all buckets but this one.
    if histogram.zero_count > 0.0 {
        all.push((Bounds::Closed, -histogram.zero_threshold, histogram.zero_threshold, histogram.zero_count));
    }
    let positive = histogram.positive.iter().map(|(i, count)| (Bounds::OpenLeft, inner(i), outer(i), count));
    all.extend(positive.filter(|bucket| bucket.3 != 0.0));
    all
}

fn custom_buckets(histogram: &Histogram) -> Vec<(Bounds, f64, f64, f64)> {
    let bound = |index: i32| usize::try_from(index).ok().and_then(|index| histogram.custom_bounds.get(index).copied());
    let buckets = histogram.positive.iter().filter(|(_, count)| *count != 0.0);
    buckets
        .map(|(index, count)| {
            let lower = bound(index - 1).unwrap_or(f64::NEG_INFINITY);
            let upper = bound(index).unwrap_or(f64::INFINITY);
            // The first bucket of all has no lower bound to exclude.
            let bounds = if index == 0 { Bounds::Closed } else { Bounds::OpenLeft };
            (bounds, lower, upper, count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pharos_model::{BucketSide, BucketSpan};

    use super::*;

    #[test]
    fn strings_are_escaped_as_serde_does() {
        for code in 0..0x250 {
            let text = char::from_u32(code).map_or(String::new(), |character| format!("a{character}\u{1f980}"));
            let mut out = Vec::new();
            push_string(&mut out, &text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{code:x}");
        }
        let mut out = Vec::new();
        push_strings(&mut out, &[]);
        push_strings(&mut out, &["a".to_owned(), "\"".to_owned()]);
        assert_eq!(out, br#"[]["a","\""]"#);
    }

    #[test]
    fn histograms_list_their_buckets_from_left_to_right() {
        let side = |counts: &[f64]| BucketSide {
            spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
            counts: counts.to_vec(),
        };
        let histogram = Histogram {
            count: 9.0,
            sum: 3.5,
            zero_count: 2.0,
            zero_threshold: 0.001,
            positive: side(&[1.0, 0.0, 3.0]),
            negative: side(&[2.0, 1.0]),
            ..Histogram::empty(0)
        };
        let mut out = Vec::new();
        push_histogram(&mut out, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"count":"9","sum":"3.5","buckets":[[1,"-2","-1","1"],[1,"-1","-0.5","2"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"2","4","3"]]}"#
        );
    }

    #[test]
    fn long_series_are_cut_between_their_samples() {
        let series = |floats: i64, histograms: i64| MatrixSeries {
            labels: Labels::from_pairs([("n", "1")]).unwrap(),
            floats: (0..floats).map(|at| (at * 1_000, at as f64 + 0.5)).collect(),
            histograms: (0..histograms).map(|at| (at * 1_000, Arc::new(Histogram::empty(0)))).collect(),
        };
        for shape in [&[(0, 0)][..], &[], &[(1, 0), (0, 1), (1, 1)], &[(100_000, 3_000), (1_024, 16), (2_048, 33)]] {
            let matrix = shape.iter().map(|(floats, histograms)| series(*floats, *histograms)).collect();
            let pieces: Vec<_> = result_pieces(Value::Matrix(matrix)).collect();
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
            let joined: Vec<serde_json::Value> = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(joined.len(), shape.len());
            for (found, (floats, histograms)) in joined.iter().zip(shape) {
                let points = |key: &str| found.get(key).map(|points| points.as_array().unwrap().clone());
                let (values, others) = (points("values"), points("histograms"));
                assert_eq!(values.as_ref().map_or(0, Vec::len), *floats as usize);
                assert_eq!(others.as_ref().map_or(0, Vec::len), *histograms as usize);
                assert_eq!((values.is_some(), others.is_some()), (*floats > 0, *histograms > 0));
                let last = values.and_then(|values| values.last().cloned());
                assert!(last.is_none_or(|last| last == serde_json::json!([floats - 1, format!("{}", *floats as f64 - 0.5)])));
            }
        }
    }

    #[test]
    fn long_lists_come_in_pieces_that_join_to_valid_json() {
        let sample = |index: usize| VectorSample {
            labels: Labels::from_pairs([("i", index.to_string())]).unwrap(),
            timestamp_ms: 1_000,
            value: SampleValue::Float(1.0),
        };
        for count in [0, 1, 5_000] {
            let pieces: Vec<_> = result_pieces(Value::Vector((0..count).map(sample).collect())).collect();
            let joined: Vec<serde_json::Value> = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(joined.len(), count);
            assert!(count < 5_000 || pieces.len() > 1);
        }
    }
}
