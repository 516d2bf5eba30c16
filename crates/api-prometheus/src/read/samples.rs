//! The form SAMPLES: one `ReadResponse` in one snappy block, encoded series by series.

use pharos_base::{ErrorClass, Reservation};
use pharos_http::Refusal;
use pharos_model::{BucketSide, Histogram, Labels, ResetHint};
use pharos_proto::remote_read::Query;
use pharos_proto::remote_write::v1::{self, histogram};
use pharos_storage::{RawSeries, StorageError};
use prost::encoding::{WireType, encode_key, encode_varint, message};

use super::Reader;
use crate::reply::ApiError;

/// Field `results` of `ReadResponse` and field `timeseries` of `QueryResult`.
const ONLY_FIELD: u32 = 1;

pub(super) fn answer(reader: &Reader<'_>, queries: &[Query]) -> Result<Vec<u8>, ApiError> {
    let limit = reader.api.engine.settings().samples_max;
    let mut memory = reader.context.memory.reserve(0).map_err(StorageError::Memory)?;
    let (mut response, mut samples) = (Vec::new(), 0);
    for query in queries {
        let mut result = Vec::new();
        reader.each(query, |series| {
            samples += series.sample_count() as u64;
            if samples > limit {
                return Err(ApiError(Refusal::new(ErrorClass::Invalid, format!("exceeded sample limit ({limit})"))));
            }
            append(&mut result, &series, &mut memory)
        })?;
        grow(&mut memory, result.len())?;
        encode_key(ONLY_FIELD, WireType::LengthDelimited, &mut response);
        encode_varint(result.len() as u64, &mut response);
        response.extend_from_slice(&result);
    }
    grow(&mut memory, snap::raw::max_compress_len(response.len()))?;
    snap::raw::Encoder::new().compress_vec(&response).map_err(|error| {
        ApiError(Refusal::new(ErrorClass::LimitExceeded, format!("the answer does not fit in a snappy block: {error}")))
    })
}

fn append(result: &mut Vec<u8>, series: &RawSeries, memory: &mut Reservation) -> Result<(), ApiError> {
    let before = result.len();
    message::encode(ONLY_FIELD, &time_series(series), result);
    grow(memory, result.len() - before)
}

fn grow(memory: &mut Reservation, bytes: usize) -> Result<(), ApiError> {
    Ok(memory.grow(bytes as u64).map_err(StorageError::Memory)?)
}

fn time_series(series: &RawSeries) -> v1::TimeSeries {
    let samples = series.timestamps_ms.iter().zip(&series.values);
    v1::TimeSeries {
        labels: labels(&series.labels),
        samples: samples.map(|(&timestamp, &value)| v1::Sample { value, timestamp }).collect(),
        exemplars: Vec::new(),
        histograms: series.histograms.iter().map(|sample| message_of(&sample.histogram, sample.timestamp_ms)).collect(),
    }
}

pub(super) fn labels(labels: &Labels) -> Vec<v1::Label> {
    labels.iter().map(|(name, value)| v1::Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

fn message_of(from: &Histogram, timestamp: i64) -> v1::Histogram {
    let spans = |side: &BucketSide| -> Vec<v1::BucketSpan> {
        side.spans.iter().map(|span| v1::BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    let reset_hint = match from.reset_hint {
        ResetHint::Unknown => histogram::ResetHint::Unknown,
        ResetHint::Reset => histogram::ResetHint::Yes,
        ResetHint::NotReset => histogram::ResetHint::No,
        ResetHint::Gauge => histogram::ResetHint::Gauge,
    };
    let mut message = v1::Histogram {
        sum: from.sum,
        schema: from.schema,
        zero_threshold: from.zero_threshold,
        negative_spans: spans(&from.negative),
        positive_spans: spans(&from.positive),
        reset_hint: reset_hint as i32,
        timestamp,
        custom_values: from.custom_bounds.clone(),
        ..v1::Histogram::default()
    };
    if from.is_integer {
        // Integer histograms count at most 2^53, which is exact.
        message.count = Some(histogram::Count::CountInt(from.count as u64));
        message.zero_count = Some(histogram::ZeroCount::ZeroCountInt(from.zero_count as u64));
        message.negative_deltas = deltas(&from.negative.counts);
        message.positive_deltas = deltas(&from.positive.counts);
    } else {
        message.count = Some(histogram::Count::CountFloat(from.count));
        message.zero_count = Some(histogram::ZeroCount::ZeroCountFloat(from.zero_count));
        message.negative_counts.clone_from(&from.negative.counts);
        message.positive_counts.clone_from(&from.positive.counts);
    }
    message
}

fn deltas(counts: &[f64]) -> Vec<i64> {
    let mut previous = 0;
    let step = |count: &f64| {
        let count = *count as i64;
        count - std::mem::replace(&mut previous, count)
    };
    counts.iter().map(step).collect()
}
