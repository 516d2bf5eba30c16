//! `search/metric_names`, `search/label_names`, `search/label_values`: names that resemble what somebody types.
//!
//! Answers are lines of JSON: batches of results, then a line that says how it ended. Everything is found and sorted before
//! the first line, so that what fails is an error of the ordinary kind and never breaks off an answer; its size
//! is bounded by [`LIMIT_MAX`].
//!
//! Source of parameters, texts and scores: Prometheus' search API.

mod fuzz;

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use pharos_http::QueryKind;
use pharos_model::{METRIC_NAME, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{LabelQuery, ReadContext, StorageError};

use crate::call::Caller;
use crate::json::push_string;
use crate::labels::selectors;
use crate::listed::{self, listing_time};
use crate::number::push_float;
use crate::params::{Params, bad, parse_integer};
use crate::reply::{ApiError, Reply};
use crate::routes::PrometheusApi;

use fuzz::{Algorithm, Filter};

/// Most results of one answer; upstream's `--web.search.max-limit`.
pub(crate) const LIMIT_MAX: usize = 10_000;
const LIMIT_DEFAULT: usize = 100;
const BATCH_DEFAULT: usize = 100;
/// Most values of `search[]`.
const TERMS_MAX: usize = 32;
/// Longest value of `search[]`.
const TERM_BYTES_MAX: usize = 4 << 10;
/// How far back names are looked for if nothing else is asked.
const BACK_MS: i64 = 3_600_000;

/// Searches metric names.
pub(crate) async fn metric_names(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let search = Search::read(&api, &params, "metric_names")?;
    let with_metadata = flag(&params, "include_metadata", false)?;
    let subject = Subject::Values { label: METRIC_NAME.to_owned(), with_metadata };
    answer(&api, caller, &params, search, subject).await
}

/// Searches label names.
pub(crate) async fn label_names(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let search = Search::read(&api, &params, "label_names")?;
    answer(&api, caller, &params, search, Subject::Names).await
}

/// Searches the values of one label.
pub(crate) async fn label_values(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let search = Search::read(&api, &params, "label_values")?;
    let label = params.get("label").ok_or_else(|| bad("missing required parameter \"label\""))?.to_owned();
    answer(&api, caller, &params, search, Subject::Values { label, with_metadata: false }).await
}

/// What is searched.
enum Subject {
    Names,
    Values { label: String, with_metadata: bool },
}

#[derive(Clone, Copy)]
enum Order {
    Ascending,
    Descending,
    /// The best first; of equal ones the alphabetically first.
    Score,
}

struct Search {
    query: LabelQuery,
    filter: Filter,
    order: Order,
    include_score: bool,
    limit: usize,
    batch: usize,
}

impl Search {
    fn read(api: &PrometheusApi, params: &Params, endpoint: &str) -> Result<Self, ApiError> {
        let now_ms = api.clock.unix_ms();
        let start_ms = params.plain_time_ms("start").map_err(bad)?.unwrap_or(now_ms - BACK_MS);
        let end_ms = params.plain_time_ms("end").map_err(bad)?.unwrap_or(now_ms);
        let query = LabelQuery {
            matcher_sets: params.matcher_sets()?,
            range: TimeRange::inclusive(start_ms, end_ms),
            limit: usize::MAX,
        };
        let filter = filter(params)?;
        let include_score = flag(params, "include_score", false)?;
        let order = order(params, endpoint, filter.is_empty())?;
        let limit = count(params, "limit", LIMIT_DEFAULT)?;
        if limit > LIMIT_MAX {
            return Err(bad(format!("limit {limit} exceeds the maximum of {LIMIT_MAX}")).into());
        }
        Ok(Self { query, filter, order, include_score, limit, batch: count(params, "batch_size", BATCH_DEFAULT)? })
    }

    /// Those of `names` that pass, at most `limit` and in order, and whether there are more.
    fn choose(&self, names: Vec<String>, context: &ReadContext) -> Result<(Vec<Found>, bool), StorageError> {
        let mut found = Vec::new();
        for name in names {
            context.check()?;
            found.extend(self.filter.score(&name).map(|score| Found { name, score, metadata: None }));
        }
        match self.order {
            // As the store lists them.
            Order::Ascending => {}
            Order::Descending => found.reverse(),
            // Stable: among equals the order of the store stays.
            Order::Score => found.sort_by(|a, b| b.score.total_cmp(&a.score)),
        }
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        Ok((found, has_more))
    }

    fn lines(&self, found: &[Found], has_more: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let batches = found.chunks(self.batch).chain(found.is_empty().then_some(&[][..]));
        for batch in batches {
            out.extend_from_slice(b"{\"results\":[");
            for (index, result) in batch.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                self.push(&mut out, result);
            }
            out.extend_from_slice(b"]}\n");
        }
        out.extend_from_slice(format!("{{\"status\":\"success\",\"has_more\":{has_more}}}\n").as_bytes());
        out
    }

    fn push(&self, out: &mut Vec<u8>, found: &Found) {
        out.extend_from_slice(b"{\"name\":");
        push_string(out, &found.name);
        if self.include_score {
            out.extend_from_slice(b",\"score\":");
            push_float(out, found.score);
        }
        if let Some(metadata) = &found.metadata {
            for (key, value) in [("type", metadata.kind.as_str()), ("help", &metadata.help), ("unit", &metadata.unit)] {
                if !value.is_empty() {
                    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
                    push_string(out, value);
                }
            }
        }
        out.push(b'}');
    }
}

/// A name that passed.
struct Found {
    name: String,
    score: f64,
    metadata: Option<MetricMetadata>,
}

async fn answer(api: &Arc<PrometheusApi>, caller: Caller, params: &Params, search: Search, subject: Subject) -> Reply {
    let listed_kind = match subject {
        Subject::Names => QueryKind::Labels,
        Subject::Values { .. } => QueryKind::LabelValues,
    };
    let asked = caller.asks(listed_kind, &format!("search({})", selectors(params)), listing_time(search.query.range));
    let read = move |api: &PrometheusApi, context: &ReadContext| find(api, &caller.tenant, &search, &subject, context);
    let kind = ("search", listed_kind, params.all("match[]").collect::<Vec<_>>());
    let lines = listed::read_short(api, asked, &kind, read).await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson; charset=utf-8")], lines).into_response())
}

fn find(
    api: &PrometheusApi,
    tenant: &TenantId,
    search: &Search,
    subject: &Subject,
    context: &ReadContext,
) -> Result<Vec<u8>, StorageError> {
    let names = match subject {
        Subject::Names => api.store.label_names(tenant, &search.query, context)?,
        Subject::Values { label, .. } => api.store.label_values(tenant, label, &search.query, context)?,
    };
    let (mut found, has_more) = search.choose(names, context)?;
    if matches!(subject, Subject::Values { with_metadata: true, .. }) {
        for result in &mut found {
            context.check()?;
            result.metadata = api.store.metadata(tenant, Some(&result.name), 1)?.pop();
        }
    }
    Ok(search.lines(&found, has_more))
}

fn filter(params: &Params) -> Result<Filter, ApiError> {
    let terms: Vec<_> = params.all("search[]").collect();
    if terms.len() > TERMS_MAX {
        return Err(bad(format!("too many search[] values: {}, at most {TERMS_MAX}", terms.len())).into());
    }
    if let Some(long) = terms.iter().find(|term| term.len() > TERM_BYTES_MAX) {
        return Err(bad(format!("a search[] value has {} bytes, at most {TERM_BYTES_MAX}", long.len())).into());
    }
    let threshold = params.get("fuzz_threshold").map_or(Ok(0), |text| {
        let threshold = parse_integer(text).ok().filter(|number| (0..=100).contains(number));
        threshold.ok_or_else(|| bad(format!("invalid fuzz_threshold {text:?}: must be 0-100")))
    })?;
    let algorithm = match params.get("fuzz_alg") {
        None | Some("subsequence") => Algorithm::Subsequence,
        Some("jarowinkler") => Algorithm::JaroWinkler,
        Some(other) => {
            let message = format!("unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]");
            return Err(bad(message).into());
        }
    };
    Ok(Filter::new(&terms, algorithm, threshold as f64 / 100.0, flag(params, "case_sensitive", true)?))
}

fn order(params: &Params, endpoint: &str, no_terms: bool) -> Result<Order, ApiError> {
    let (sort_by, sort_dir) = (params.get("sort_by"), params.get("sort_dir"));
    let problem = match (sort_by, sort_dir) {
        (None, Some(_)) => "sort_dir is only valid when sort_by is set".to_owned(),
        (Some("score"), Some(_)) => "sort_dir is not supported for sort_by=score".to_owned(),
        (_, Some(other)) if !matches!(other, "asc" | "dsc") => {
            format!("invalid sort_dir {other:?}: must be \"asc\" or \"dsc\"")
        }
        (Some("score"), None) if no_terms => "sort_by=score requires search[] to be set".to_owned(),
        (Some("score"), None) => return Ok(Order::Score),
        (Some("alpha"), Some("dsc")) => return Ok(Order::Descending),
        (None | Some("alpha"), _) => return Ok(Order::Ascending),
        (Some(other), _) => format!("invalid sort_by {other:?} for {endpoint}: must be \"alpha\" or \"score\""),
    };
    Err(bad(problem).into())
}

/// A number of results; 0 and absent stand for `default`.
fn count(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else { return Ok(default) };
    let number = parse_integer(text).ok().and_then(|number| usize::try_from(number).ok());
    let number = number.ok_or_else(|| bad(format!("invalid {name} {text:?}: must be non-negative integer")))?;
    Ok(if number == 0 { default } else { number })
}

/// A switch in any form that Go reads.
fn flag(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        None => Ok(default),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(other) => Err(bad(format!("invalid {name} {other:?}: must be boolean")).into()),
    }
}

#[cfg(test)]
mod tests;
