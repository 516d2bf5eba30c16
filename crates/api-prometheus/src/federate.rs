//! `/federate`: the newest sample of the selected series, in Prometheus' text format.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use pharos_http::QueryKind;
use pharos_model::{Histogram, Labels, METRIC_NAME, Matcher, TenantId, TimeRange, is_stale_nan};
use pharos_promql::engine::SampleValue;
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, RawSeries, ReadContext, StorageError};

use crate::call::Caller;
use crate::labels::selectors;
use crate::listed;
use crate::number::push_float;
use crate::params::Params;
use crate::reply::{ApiError, Reply};
use crate::routes::PrometheusApi;

/// A series' newest sample: labels, Unix milliseconds, value.
type Newest = (Labels, i64, SampleValue);

/// Answers the newest samples within the lookback; series that ended are left out.
///
/// Histograms with custom buckets come as classic ones. Exponential ones have no text form and are left out.
/// Names beyond the classic character set are quoted for clients that accept it and get underscores for others.
pub(crate) async fn federate(
    State(api): State<Arc<PrometheusApi>>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Reply {
    let sets = params.matcher_sets()?;
    let asked = caller.asks(QueryKind::Federate, &selectors(&params), None);
    let work = move |api: &PrometheusApi, context: &ReadContext| newest_samples(api, &caller.tenant, &sets, context);
    let mut found = listed::read(&api, asked, work).await?;
    found.sort_by(|a, b| a.0.metric_name().cmp(b.0.metric_name()).then_with(|| a.0.cmp(&b.0)));
    found.dedup_by(|a, b| a.0 == b.0);
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let quoted = accepted.into_iter().any(|value| value.contains("escaping=allow-utf-8"));
    let content_type = if quoted {
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    };
    Ok(([(CONTENT_TYPE, content_type)], Exposition::of(&found, quoted)).into_response())
}

fn newest_samples(
    api: &PrometheusApi,
    tenant: &TenantId,
    sets: &[Vec<Matcher>],
    context: &ReadContext,
) -> Result<Vec<Newest>, ApiError> {
    let now_ms = api.clock.unix_ms();
    let range = TimeRange::inclusive(now_ms - api.engine.settings().lookback_ms + 1, now_ms);
    let mut found = Vec::new();
    for matchers in sets {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.clone(), range });
        for series in api.store.leaf(tenant, &plan, context)? {
            let LeafSeries::Raw(series) = series? else {
                return Err(StorageError::Unsupported { what: "an answer of another plan".to_owned() }.into());
            };
            context.meter.count(series.sample_count(), 0);
            if let Some((at_ms, value)) = newest(&series) {
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

/// The text format being written.
struct Exposition {
    out: Vec<u8>,
    /// Whether names beyond the classic character set are quoted.
    quoted: bool,
}

impl Exposition {
    fn of(samples: &[Newest], quoted: bool) -> Vec<u8> {
        let (mut text, mut family) = (Self { out: Vec::new(), quoted }, None);
        for (labels, at_ms, value) in samples {
            let name = labels.metric_name();
            let kind = match value {
                SampleValue::Float(_) => "untyped",
                SampleValue::Histogram(histogram) if histogram.has_custom_buckets() => "histogram",
                SampleValue::Histogram(_) => continue,
            };
            if family != Some((name, kind)) {
                let line = format!("# TYPE {} {kind}\n", text.name(name, true));
                text.out.extend_from_slice(line.as_bytes());
                family = Some((name, kind));
            }
            match value {
                SampleValue::Float(value) => text.line(name, labels, None, *value, *at_ms),
                SampleValue::Histogram(histogram) => text.classic(name, labels, histogram, *at_ms),
            }
        }
        text.out
    }

    /// A histogram with custom buckets, its buckets cumulative.
    fn classic(&mut self, name: &str, labels: &Labels, histogram: &Histogram, at_ms: i64) {
        let (bucket, mut buckets, mut total) = (format!("{name}_bucket"), histogram.positive.iter().peekable(), 0.0);
        for (index, bound) in histogram.custom_bounds.iter().enumerate() {
            while let Some((_, count)) = buckets.next_if(|(at, _)| usize::try_from(*at).is_ok_and(|at| at <= index)) {
                total += count;
            }
            self.line(&bucket, labels, Some(*bound), total, at_ms);
        }
        self.line(&bucket, labels, Some(f64::INFINITY), histogram.count, at_ms);
        self.line(&format!("{name}_sum"), labels, None, histogram.sum, at_ms);
        self.line(&format!("{name}_count"), labels, None, histogram.count, at_ms);
    }

    /// One sample. `instance=""` is told where a series has none, so that the scraping server does not put its own there.
    fn line(&mut self, name: &str, labels: &Labels, le: Option<f64>, value: f64, at_ms: i64) {
        let shown = self.name(name, true);
        let is_inside = shown.starts_with('"');
        let (before, inside) = if is_inside { ("", shown.as_ref()) } else { (shown.as_ref(), "") };
        self.out.extend_from_slice(format!("{before}{{{inside}").as_bytes());
        let mut separator = if is_inside { "," } else { "" };
        let instance = labels.get("instance").is_none().then_some(("instance", ""));
        for (label, value) in labels.iter().filter(|(label, _)| *label != METRIC_NAME).chain(instance) {
            let escaped = value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
            let pair = format!("{separator}{}=\"{escaped}\"", self.name(label, false));
            self.out.extend_from_slice(pair.as_bytes());
            separator = ",";
        }
        if let Some(bound) = le {
            self.out.extend_from_slice(format!("{separator}le=\"").as_bytes());
            push_float(&mut self.out, bound);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(b"} ");
        push_float(&mut self.out, value);
        self.out.extend_from_slice(format!(" {at_ms}\n").as_bytes());
    }

    /// A name as the client can read it; metric names may have colons.
    fn name<'n>(&self, name: &'n str, colons: bool) -> Cow<'n, str> {
        let classic = |(at, c): (usize, char)| {
            c == '_' || c.is_ascii_alphabetic() || (colons && c == ':') || (at > 0 && c.is_ascii_digit())
        };
        if !name.is_empty() && name.char_indices().all(classic) {
            return Cow::Borrowed(name);
        }
        if self.quoted {
            return Cow::Owned(pharos_promql::quote(name));
        }
        Cow::Owned(name.char_indices().map(|indexed| if classic(indexed) { indexed.1 } else { '_' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::{BucketSide, BucketSpan, HistogramSample, stale_nan};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn check(samples: &[Newest], quoted: bool, expected: &str) {
        assert_eq!(String::from_utf8(Exposition::of(samples, quoted)).unwrap(), expected);
    }

    fn custom() -> Histogram {
        let spans = vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 1, length: 1 }];
        let positive = BucketSide { spans, counts: vec![2.0, 3.0] };
        Histogram { count: 5.0, sum: 7.5, custom_bounds: vec![0.5, 1.0], positive, ..Histogram::empty(-53) }
    }

    #[test]
    fn families_are_headed_once_and_values_escaped() {
        let samples = [
            (labels(&[("__name__", "a"), ("instance", "x"), ("p", "c:\\\"d\"\n")]), 1_000, SampleValue::Float(1.5)),
            (labels(&[("__name__", "a"), ("q", "1")]), 2_000, SampleValue::Float(f64::NAN)),
        ];
        let expected = "# TYPE a untyped\na{instance=\"x\",p=\"c:\\\\\\\"d\\\"\\n\"} 1.5 1000\na{q=\"1\",instance=\"\"} NaN 2000\n";
        check(&samples, true, expected);
    }

    #[test]
    fn names_are_quoted_or_get_underscores() {
        let samples = [(labels(&[("__name__", "a.b"), ("c-d", "1")]), 1, SampleValue::Float(2.0))];
        check(&samples, true, "# TYPE \"a.b\" untyped\n{\"a.b\",\"c-d\"=\"1\",instance=\"\"} 2 1\n");
        check(&samples, false, "# TYPE a_b untyped\na_b{c_d=\"1\",instance=\"\"} 2 1\n");
    }

    #[test]
    fn custom_buckets_are_told_as_classic_ones_and_exponential_ones_are_not() {
        let value = |histogram| SampleValue::Histogram(Arc::new(histogram));
        let name = labels(&[("__name__", "h"), ("instance", "x")]);
        check(&[(name.clone(), 1, value(Histogram::empty(0)))], false, "");
        check(
            &[(name, 1, value(custom()))],
            false,
            "# TYPE h histogram\nh_bucket{instance=\"x\",le=\"0.5\"} 2 1\nh_bucket{instance=\"x\",le=\"1\"} 2 1\n\
             h_bucket{instance=\"x\",le=\"+Inf\"} 5 1\nh_sum{instance=\"x\"} 7.5 1\nh_count{instance=\"x\"} 5 1\n",
        );
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
