//! `labels`, `label/{name}/values`, `series`.

use std::sync::Arc;

use axum::extract::{RawPathParams, State};
use pharos_base::ErrorClass;
use pharos_http::{Asked, QueryKind, Refusal};
use pharos_model::{Labels, Matcher, TenantId, TimeRange};
use pharos_storage::{LabelQuery, ReadContext, StorageError};

use crate::call::Caller;
use crate::evaluate::TRUNCATED;
use crate::json::{push_labels, push_strings};
use crate::listed::{self, listing_time};
use crate::params::{Params, invalid};
use crate::reply::{ApiError, Reply, begin_success, end_success};
use crate::routes::PrometheusApi;

/// The books of memory are brought up to date each time a listing of series has grown by this much, bytes.
const BOOKED_BYTES: usize = 64 << 10;

/// The range of a listing: all of time where it is not given.
pub(crate) fn range(params: &Params) -> Result<TimeRange, ApiError> {
    let start_ms = params.time_ms("start")?.unwrap_or(i64::MIN);
    let end_ms = params.time_ms("end")?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(ApiError(invalid("end", "end timestamp must not be before start timestamp")));
    }
    Ok(TimeRange::inclusive(start_ms, end_ms))
}

/// All selectors of a request in one line.
pub(crate) fn selectors(params: &Params) -> String {
    params.all("match[]").collect::<Vec<_>>().join(", ")
}

/// The time of a listing, as the listing of queries shows it.
fn time(params: &Params) -> Result<Option<(i64, i64, i64)>, ApiError> {
    range(params).map(listing_time)
}

/// Lists label names.
pub(crate) async fn names(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let asked = caller.asks(QueryKind::Labels, &format!("label_names({})", selectors(&params)), time(&params)?);
    let read = move |api: &PrometheusApi, query: &LabelQuery, context: &ReadContext| {
        api.store.label_names(&caller.tenant, query, context)
    };
    list(&api, &params, asked, ("names", ""), read).await
}

/// Lists the values of one label.
pub(crate) async fn values(
    State(api): State<Arc<PrometheusApi>>,
    caller: Caller,
    path: RawPathParams,
    params: Params,
) -> Reply {
    let raw = path.iter().find(|(name, _)| *name == "name").map_or("", |(_, value)| value);
    let name = unescape_name(raw);
    if name.is_empty() {
        return Err(ApiError(Refusal::new(ErrorClass::Invalid, format!("invalid label name: {raw:?}"))));
    }
    let text = match selectors(&params) {
        all if all.is_empty() => format!("label_values({name})"),
        some => format!("label_values({some}, {name})"),
    };
    let asked = caller.asks(QueryKind::LabelValues, &text, time(&params)?);
    let kind = ("values", raw);
    let read = move |api: &PrometheusApi, query: &LabelQuery, context: &ReadContext| {
        api.store.label_values(&caller.tenant, &name, query, context)
    };
    list(&api, &params, asked, kind, read).await
}

async fn list(
    api: &Arc<PrometheusApi>,
    params: &Params,
    asked: Asked,
    kind: (&str, &str),
    read: impl Fn(&PrometheusApi, &LabelQuery, &ReadContext) -> Result<Vec<String>, StorageError> + Send + 'static,
) -> Reply {
    let limit = params.limit()?;
    let query = LabelQuery {
        matcher_sets: params.matcher_sets()?,
        range: range(params)?,
        // One more than asked for tells whether something was left out.
        limit: limit.map_or(usize::MAX, |limit| limit.saturating_add(1)),
    };
    let work = move |api: &PrometheusApi, context: &ReadContext| read(api, &query, context);
    let kind = (kind, params.all("match[]").collect::<Vec<_>>());
    let mut found = listed::read_short(api, asked, &kind, work).await?;
    let truncated = limit.is_some_and(|limit| found.len() > limit);
    found.truncate(limit.unwrap_or(usize::MAX));
    let mut body = begin_success();
    push_strings(&mut body, &found);
    Ok(end_success(body, warnings(truncated)))
}

fn warnings(truncated: bool) -> &'static [&'static str] {
    if truncated { &[TRUNCATED] } else { &[] }
}

/// Lists series, in the order of the store.
pub(crate) async fn series(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let sets = params.required_matcher_sets()?;
    let (range, limit) = (range(&params)?, params.limit()?.unwrap_or(usize::MAX));
    let asked = caller.asks(QueryKind::Series, &selectors(&params), listing_time(range));
    let work = move |api: &PrometheusApi, context: &ReadContext| {
        series_json(api, &caller.tenant, &sets, range, limit, context)
    };
    let kind = ("series", params.all("match[]").collect::<Vec<_>>());
    let (body, truncated) = listed::read_short(&api, asked, &kind, work).await?;
    Ok(end_success(body, warnings(truncated)))
}

/// The body up to the end of the list, and whether the limit left something out.
fn series_json(
    api: &PrometheusApi,
    tenant: &TenantId,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    limit: usize,
    context: &ReadContext,
) -> Result<(Vec<u8>, bool), StorageError> {
    let mut found = api.store.series(tenant, sets, range, context)?;
    let mut body = begin_success();
    body.push(b'[');
    let mut held = context.memory.reserve(0)?;
    let mut booked = 0;
    for (index, labels) in found.by_ref().take(limit).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        push_labels(&mut body, &labels?);
        if body.len() - booked >= BOOKED_BYTES {
            held.grow((body.len() - booked) as u64)?;
            booked = body.len();
        }
    }
    body.push(b']');
    Ok((body, found.next().transpose()?.is_some()))
}

/// Labels serialized as a JSON object.
pub(crate) struct AsObject<'a>(pub(crate) &'a Labels);

impl serde::Serialize for AsObject<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// A name in Prometheus' `U__` form, in which `_2e_` stands for U+002E and `__` for `_`; other names as they are.
fn unescape_name(raw: &str) -> String {
    let Some(escaped) = raw.strip_prefix("U__") else { return raw.to_owned() };
    let (mut name, mut rest) = (String::new(), escaped);
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let Some((code, tail)) = rest[at + 1..].split_once('_') else { return raw.to_owned() };
        // Upstream reads at most five digits, which is one less than Unicode has.
        let is_code = code.len() <= 5 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let character = is_code.then(|| u32::from_str_radix(code, 16).ok().and_then(char::from_u32)).flatten();
        match character {
            None if code.is_empty() => name.push('_'),
            None => return raw.to_owned(),
            Some(character) => name.push(character),
        }
        rest = tail;
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::push_labels;

    #[test]
    fn escaped_names_are_unescaped_and_broken_escapes_left_alone() {
        for (raw, name) in [
            ("job", "job"),
            ("U__http_2e_status__code", "http.status_code"),
            ("U__a_1F600_", "a\u{1f600}"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_+1_", "U__a_+1_"),
            ("U__a_10FFFF_", "U__a_10FFFF_"),
            ("U__a_2e", "U__a_2e"),
        ] {
            assert_eq!(unescape_name(raw), name);
        }
    }

    #[test]
    fn labels_serialize_alike_in_both_writers() {
        let labels = Labels::from_pairs([("a", "1\"\n"), ("__name__", "m")]).unwrap();
        let mut out = Vec::new();
        push_labels(&mut out, &labels);
        assert_eq!(out, serde_json::to_vec(&AsObject(&labels)).unwrap());
    }
}
