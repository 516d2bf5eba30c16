//! `/federate`: the newest sample of the selected series, in the exposition format that the client asks for.

mod format;
mod messages;
mod text;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use pharos_http::{Dialect, QueryKind};
use pharos_model::{Histogram, Labels, METRIC_NAME, Matcher, TenantId, TimeRange, is_stale_nan};
use pharos_promql::engine::SampleValue;
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, RawSeries, ReadContext, StorageError};

use crate::call::Caller;
use crate::labels::selectors;
use crate::listed;
use crate::params::{Params, bad, parse_selectors};
use crate::reply::ApiError;
use crate::routes::PrometheusApi;

use format::{Form, Format};

/// A series' newest sample: labels, Unix milliseconds, value.
type Newest = (Labels, i64, SampleValue);

/// Answers the newest samples within the lookback, sorted by metric name; series that ended are left out. What goes
/// wrong is told in plain text, as by upstream.
///
/// Histograms with custom buckets come as classic ones. Exponential ones exist in protobuf only.
pub(crate) async fn federate(
    State(api): State<Arc<PrometheusApi>>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Response {
    match answer(&api, caller, &headers, &params).await {
        Ok((content_type, body)) => ([(CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => error.0.render(Dialect::Plain),
    }
}

async fn answer(
    api: &Arc<PrometheusApi>,
    caller: Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<(String, Vec<u8>), ApiError> {
    // Unlike elsewhere a selector may select everything.
    let sets = parse_selectors(params.all("match[]")).map_err(bad)?;
    let format = Format::negotiated(headers);
    let asked = caller.asks(QueryKind::Federate, &selectors(params), None);
    let work = move |api: &PrometheusApi, context: &ReadContext| {
        let mut found = newest_samples(api, &caller.tenant, &sets, context)?;
        found.sort_by(|a, b| a.0.metric_name().cmp(b.0.metric_name()).then_with(|| a.0.cmp(&b.0)));
        found.dedup_by(|a, b| a.0 == b.0);
        Ok::<_, ApiError>(match format.form {
            Form::Text | Form::TextWithQuotes => text::Exposition::of(&found, format.names),
            Form::Protobuf => messages::encode(&found, format.names),
        })
    };
    let body = listed::read(api, asked, work).await?;
    Ok((format.content_type(), body))
}

fn newest_samples(
    api: &PrometheusApi,
    tenant: &TenantId,
    sets: &[Vec<Matcher>],
    context: &ReadContext,
) -> Result<Vec<Newest>, ApiError> {
    /// What a sample takes beside its labels, bytes.
    const SAMPLE_BYTES: u64 = 64;
    let now_ms = api.clock.unix_ms();
    let range = TimeRange::inclusive(now_ms - api.engine.settings().lookback_ms + 1, now_ms);
    let mut found = Vec::new();
    let mut held = context.memory.reserve(0).map_err(StorageError::Memory)?;
    for matchers in sets {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.clone(), range });
        for series in api.store.leaf(tenant, &plan, context)? {
            let LeafSeries::Raw(series) = series? else {
                return Err(StorageError::Unsupported { what: "an answer of another plan".to_owned() }.into());
            };
            context.meter.count(series.sample_count(), 0);
            // Without a name there is no family to be in.
            if let Some((at_ms, value)) = newest(&series).filter(|_| !series.labels.metric_name().is_empty()) {
                held.grow(series.labels.encoded().len() as u64 + SAMPLE_BYTES).map_err(StorageError::Memory)?;
                found.push((series.labels, at_ms, value));
            }
        }
    }
    Ok(found)
}

/// The newest sample, unless it says that the series ended.
fn newest(series: &RawSeries) -> Option<(i64, SampleValue)> {
    let float = series.timestamps_ms.last().copied().zip(series.values.last().copied());
    let histogram = series.histograms.last().map(|sample| (sample.timestamp_ms, &sample.histogram));
    match (float, histogram) {
        (float, Some((at_ms, histogram))) if float.is_none_or(|(float_at_ms, _)| float_at_ms < at_ms) => {
            (!histogram.is_stale()).then(|| (at_ms, SampleValue::Histogram(Arc::clone(histogram))))
        }
        (Some((at_ms, value)), _) => (!is_stale_nan(value)).then_some((at_ms, SampleValue::Float(value))),
        (None, _) => None,
    }
}

/// The labels that are told: all but the name, and an empty `instance` where a series has none, so that the scraping
/// server does not put its own there.
fn told_labels(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    let instance = labels.get("instance").is_none().then_some(("instance", ""));
    labels.iter().filter(|(label, _)| *label != METRIC_NAME).chain(instance)
}

/// Upper bounds and cumulative counts of a histogram with custom buckets, without the last one, which is all of it.
fn classic_buckets(histogram: &Histogram) -> impl Iterator<Item = (f64, f64)> {
    let (mut buckets, mut total) = (histogram.positive.iter().peekable(), 0.0);
    histogram.custom_bounds.iter().enumerate().map(move |(index, bound)| {
        while let Some((_, count)) = buckets.next_if(|(at, _)| usize::try_from(*at).is_ok_and(|at| at <= index)) {
            total += count;
        }
        (*bound, total)
    })
}

#[cfg(test)]
mod tests {
    use pharos_model::{BucketSide, BucketSpan, HistogramSample, stale_nan};

    use super::*;

    pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    /// Custom buckets: 2 up to 0.5, none up to 1, 3 above.
    pub(super) fn custom() -> Histogram {
        let spans = vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 1, length: 1 }];
        let positive = BucketSide { spans, counts: vec![2.0, 3.0] };
        Histogram { count: 5.0, sum: 7.5, custom_bounds: vec![0.5, 1.0], positive, ..Histogram::empty(-53) }
    }

    #[test]
    fn the_newest_of_floats_and_histograms_counts() {
        let sample = |timestamp_ms, histogram| HistogramSample { timestamp_ms, histogram: Arc::new(histogram) };
        let mut series = RawSeries { timestamps_ms: vec![10], values: vec![1.0], ..RawSeries::default() };
        assert_eq!(newest(&series), Some((10, SampleValue::Float(1.0))));
        series.histograms = vec![sample(5, custom())];
        assert_eq!(newest(&series), Some((10, SampleValue::Float(1.0))));
        series.histograms.push(sample(20, custom()));
        assert_eq!(newest(&series), Some((20, SampleValue::Histogram(Arc::new(custom())))));
        series.histograms.push(sample(30, Histogram::stale()));
        assert_eq!(newest(&series), None);
        let ended = RawSeries { timestamps_ms: vec![10], values: vec![stale_nan()], ..RawSeries::default() };
        assert_eq!((newest(&ended), newest(&RawSeries::default())), (None, None));
    }
}
