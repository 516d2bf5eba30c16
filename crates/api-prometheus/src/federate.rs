//! `/federate`: the newest sample of the selected series, in Prometheus' text format.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use pharos_base::CancelToken;
use pharos_model::{Labels, METRIC_NAME, Matcher, TenantId, TimeRange, is_stale_nan};
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, StorageError};

use crate::call::Caller;
use crate::labels::context;
use crate::number::push_float;
use crate::params::Params;
use crate::reply::{ApiError, Reply};
use crate::routes::PrometheusApi;

/// A series' newest sample.
type Newest = (Labels, i64, f64);

/// Answers the newest samples within the lookback; series that ended are left out. Native histograms have
/// no text form and are left out as well.
pub(crate) async fn federate(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let sets = params.matcher_sets()?;
    let inner = Arc::clone(&api);
    let work = move |cancel| newest_samples(&inner, &caller.tenant, &sets, cancel);
    let mut found = api.pool.run(work).await??;
    found.sort_by(|a, b| a.0.metric_name().cmp(b.0.metric_name()).then_with(|| a.0.cmp(&b.0)));
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition(&found)).into_response())
}

fn newest_samples(
    api: &PrometheusApi,
    tenant: &TenantId,
    sets: &[Vec<Matcher>],
    cancel: CancelToken,
) -> Result<Vec<Newest>, ApiError> {
    let now_ms = api.clock.unix_ms();
    let range = TimeRange::inclusive(now_ms - api.engine.settings().lookback_ms + 1, now_ms);
    let context = context(api, cancel);
    let mut found = Vec::new();
    for matchers in sets {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.clone(), range });
        for series in api.store.leaf(tenant, &plan, &context)? {
            let LeafSeries::Raw(series) = series? else {
                return Err(StorageError::Unsupported { what: "an answer of another plan".to_owned() }.into());
            };
            let (Some(&at_ms), Some(&value)) = (series.timestamps_ms.last(), series.values.last()) else { continue };
            if !is_stale_nan(value) {
                found.push((series.labels, at_ms, value));
            }
        }
    }
    Ok(found)
}

fn exposition(samples: &[Newest]) -> Vec<u8> {
    let (mut out, mut family) = (Vec::new(), None);
    for (labels, at_ms, value) in samples {
        let name = labels.metric_name();
        if family != Some(name) {
            out.extend_from_slice(format!("# TYPE {name} untyped\n").as_bytes());
            family = Some(name);
        }
        out.extend_from_slice(name.as_bytes());
        push_exposed_labels(&mut out, labels);
        out.push(b' ');
        push_float(&mut out, *value);
        out.extend_from_slice(format!(" {at_ms}\n").as_bytes());
    }
    out
}

/// Labels in the text format; `instance=""` is told where a series has none, so that the scraping server
/// does not put its own there.
fn push_exposed_labels(out: &mut Vec<u8>, labels: &Labels) {
    let mut pairs: Vec<_> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
    if labels.get("instance").is_none() {
        pairs.push(("instance", ""));
    }
    let mut separator = b'{';
    for (name, value) in pairs {
        out.push(separator);
        let escaped = value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
        out.extend_from_slice(format!("{name}=\"{escaped}\"").as_bytes());
        separator = b',';
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_headed_once_and_values_escaped() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let samples = [
            (labels(&[("__name__", "a"), ("instance", "x"), ("p", "c:\\\"d\"\n")]), 1_000, 1.5),
            (labels(&[("__name__", "a"), ("q", "1")]), 2_000, f64::NAN),
        ];
        assert_eq!(
            String::from_utf8(exposition(&samples)).unwrap(),
            "# TYPE a untyped\na{instance=\"x\",p=\"c:\\\\\\\"d\\\"\\n\"} 1.5 1000\na{q=\"1\",instance=\"\"} NaN 2000\n"
        );
    }
}
