//! Searches: the newest traces with spans that pass.
//!
//! The store finds candidates by what is asked of spans, the newest first; every candidate is read and judged as a whole. Where
//! nothing is asked of traces each candidate is a hit. Otherwise more candidates are asked for until the hits are settled: no
//! candidate to come can be newer than the oldest hit. [`CANDIDATES_MAX`] bounds that; the answer says if it was reached.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Query as UrlQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use pharos_base::Reservation;
use pharos_http::QueryKind;
use pharos_model::{TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    ReadContext, SpanPredicate, StorageError, Trace, TraceHit, TraceLookup, TraceQuery, TraceSummary, predicate_holds,
};
use serde_json::json;

use crate::call::Caller;
use crate::params::{Params, parse_tags};
use crate::routes::TempoApi;
use crate::span_json::trace_json;
use crate::traceql::{self, Expr, Field, Filter, Folded, Intrinsic, Known, Literal, Operator, Query, duration_ns};

/// Traces an answer has where the client does not say.
const LIMIT_DEFAULT: usize = 20;
/// Traces an answer may have.
const LIMIT_MAX: usize = 10_000;
/// Spans of a trace that are shown where the client does not say.
const SPANS_PER_SET_DEFAULT: usize = 3;
/// Spans of a trace that may be shown.
const SPANS_PER_SET_MAX: usize = 100;
/// Traces that are judged one by one in a search that asks something of traces.
const CANDIDATES_MAX: usize = 20_000;
/// How many times more candidates are asked for when those so far were too few.
const CANDIDATES_GROWTH: usize = 4;

/// Finds traces.
pub(crate) async fn search(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    UrlQuery(params): UrlQuery<Vec<(String, String)>>,
) -> Response {
    // Read within the job: patterns take their time to compile.
    let read = move |api: &TempoApi, tenant: &TenantId, context: &ReadContext| {
        let search = Search::of(&Params(params)).map_err(|message| StorageError::Invalid { message })?;
        search.run(api, tenant, context)
    };
    match caller.read(&api, (QueryKind::TraceSearch, None), read).await {
        Ok(found) => ([(CONTENT_TYPE, "application/json")], found).into_response(),
        Err(refusal) => refusal,
    }
}

/// What is asked.
struct Search {
    filter: Filter,
    /// Shown of each span.
    fields: Vec<Field>,
    range: TimeRangeNs,
    limit: usize,
    spans_per_set: usize,
}

impl Search {
    fn of(params: &Params) -> Result<Self, String> {
        let is_by_tags = ["tags", "minDuration", "maxDuration"].iter().any(|name| params.get(name).is_some());
        let query = match params.get("q") {
            Some(_) if is_by_tags => {
                return Err(
                    "invalid request: tags, minDuration and maxDuration are no part of a search with q".to_owned()
                );
            }
            Some(text) => traceql::parse(text).map_err(|error| format!("invalid TraceQL query: {error}"))?,
            None => by_tags(params)?,
        };
        let mut fields = query.selected.clone();
        fields_of(&query.filter, &mut fields);
        Ok(Self {
            filter: Filter::of(&query)?,
            fields,
            range: params.range()?.unwrap_or(TimeRangeNs::ALL),
            limit: params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?,
            spans_per_set: params.count("spss", SPANS_PER_SET_DEFAULT, SPANS_PER_SET_MAX)?,
        })
    }

    fn run(&self, api: &TempoApi, tenant: &TenantId, context: &ReadContext) -> Result<String, StorageError> {
        let mut hits = Hits { limit: self.limit, kept: Vec::new() };
        let (mut judged, mut warnings) = (HashSet::new(), Vec::new());
        let predicate = match self.filter.fold(Known::Nothing) {
            Folded::Always(false) => return Ok(rendered(&hits.kept, 0, &warnings)),
            Folded::Always(true) => None,
            Folded::If(predicate) => Some(predicate),
        };
        let growth = if self.filter.asks_of_trace() { CANDIDATES_GROWTH } else { 1 };
        let mut query = self.query(predicate, (self.limit * growth).min(CANDIDATES_MAX));
        loop {
            let found = api.store.find(tenant, &query, context)?;
            let fresh: Vec<_> = found.hits.iter().filter(|hit| judged.insert(hit.trace_id)).copied().collect();
            for some in fresh.chunks(self.limit) {
                self.judge(api, tenant, some, context, &mut hits)?;
                if hits.are_settled(some) {
                    break;
                }
            }
            let is_done = found.hits.len() < query.limit || hits.are_settled(&found.hits);
            if is_done || query.limit == CANDIDATES_MAX {
                warnings.extend(found.warnings);
                if !is_done {
                    warnings
                        .push(format!("only the newest {CANDIDATES_MAX} candidates were looked at: narrow the search"));
                }
                break;
            }
            query.limit = (query.limit * CANDIDATES_GROWTH).min(CANDIDATES_MAX);
        }
        for hit in &hits.kept {
            warnings.extend(hit.warnings.iter().map(|warning| format!("trace {}: {warning}", hit.trace_id)));
        }
        Ok(rendered(&hits.kept, judged.len(), &warnings))
    }

    fn query(&self, predicate: Option<SpanPredicate>, limit: usize) -> TraceQuery {
        TraceQuery {
            service: None,
            operation: None,
            filters: Vec::new(),
            predicate,
            start: self.range,
            duration_min_ns: None,
            duration_max_ns: None,
            limit,
        }
    }

    /// Keeps those of the candidates that pass as a whole.
    fn judge(
        &self,
        api: &TempoApi,
        tenant: &TenantId,
        candidates: &[TraceHit],
        context: &ReadContext,
        hits: &mut Hits,
    ) -> Result<(), StorageError> {
        let mut lookups: Vec<_> =
            candidates.iter().map(|hit| TraceLookup { trace_id: hit.trace_id, range: None }).collect();
        if self.filter.asks_of_trace() {
            let summaries = api.store.summaries(tenant, &lookups, context)?;
            let pass: HashSet<TraceId> = summaries
                .iter()
                .filter(|summary| self.filter.fold(Known::Trace(summary)) != Folded::Always(false))
                .map(|summary| summary.trace_id)
                .collect();
            lookups.retain(|lookup| pass.contains(&lookup.trace_id));
        }
        for trace in api.store.traces(tenant, &lookups, context)? {
            context.check()?;
            if let Some(hit) = self.hit(&trace?, context)? {
                hits.offer(hit);
            }
        }
        Ok(())
    }

    /// The trace as it is shown, if spans of it pass.
    fn hit(&self, trace: &Trace, context: &ReadContext) -> Result<Option<Hit>, StorageError> {
        let summary = TraceSummary::of(trace);
        let predicate = match self.filter.fold(Known::Trace(&summary)) {
            Folded::Always(false) => return Ok(None),
            Folded::Always(true) => None,
            Folded::If(predicate) => Some(predicate),
        };
        let spans = trace.groups.iter().flat_map(|group| group.spans.iter().map(move |span| (group, span)));
        let mut matched: Vec<_> = spans
            .filter(|(group, span)| {
                self.range.contains(span.start_ns)
                    && predicate.as_ref().is_none_or(|test| predicate_holds(test, &group.resource, &group.scope, span))
            })
            .collect();
        let Some(newest_ns) = matched.iter().map(|(_, span)| span.start_ns).max() else { return Ok(None) };
        let matched_count = matched.len();
        matched.sort_by_key(|(_, span)| (span.start_ns, span.span_id));
        matched.truncate(self.spans_per_set);
        let json = trace_json(&summary, matched_count, &matched, &self.fields).to_string();
        let held = context.memory.reserve(json.len() as u64)?;
        let (trace_id, warnings) = (trace.trace_id, trace.warnings.clone());
        Ok(Some(Hit { trace_id, newest_ns, start_ns: summary.start_ns, json, warnings, _held: held }))
    }
}

/// A trace that passed.
struct Hit {
    trace_id: TraceId,
    /// Start of its newest span that passed: hits are ranked as the store ranks candidates.
    newest_ns: u64,
    start_ns: u64,
    json: String,
    /// What the reader should know of it.
    warnings: Vec<String>,
    _held: Reservation,
}

type Rank = (std::cmp::Reverse<u64>, TraceId);

fn rank(newest_ns: u64, trace_id: TraceId) -> Rank {
    (std::cmp::Reverse(newest_ns), trace_id)
}

/// The best hits so far, best first.
struct Hits {
    limit: usize,
    kept: Vec<Hit>,
}

impl Hits {
    fn offer(&mut self, hit: Hit) {
        let at =
            self.kept.partition_point(|kept| rank(kept.newest_ns, kept.trace_id) < rank(hit.newest_ns, hit.trace_id));
        if at < self.limit {
            self.kept.insert(at, hit);
            self.kept.truncate(self.limit);
        }
    }

    /// Whether nothing that ranks behind these candidates can be among the best.
    fn are_settled(&self, candidates: &[TraceHit]) -> bool {
        let (Some(worst), Some(last)) = (self.kept.last(), candidates.last()) else { return false };
        self.kept.len() == self.limit && rank(worst.newest_ns, worst.trace_id) <= rank(last.start_ns, last.trace_id)
    }
}

/// The answer: traces by their start, newest first, as Tempo has them.
fn rendered(hits: &[Hit], inspected: usize, warnings: &[String]) -> String {
    let mut sorted: Vec<_> = hits.iter().collect();
    sorted.sort_by_key(|hit| (std::cmp::Reverse(hit.start_ns), hit.trace_id));
    let traces: Vec<_> = sorted.iter().map(|hit| hit.json.as_str()).collect();
    let metrics = json!({"inspectedTraces": inspected, "completedJobs": 1, "totalJobs": 1});
    let mut answer = format!("{{\"traces\":[{}],\"metrics\":{metrics}", traces.join(","));
    if !warnings.is_empty() {
        // As Tempo says it of single traces; its own clients skip what they do not know.
        answer.push_str(",\"status\":\"PARTIAL\",\"message\":");
        answer.push_str(&json!(warnings.join("; ")).to_string());
    }
    answer.push('}');
    answer
}

/// The fields a filter names, each once.
fn fields_of(expr: &Expr, fields: &mut Vec<Field>) {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| fields_of(part, fields)),
        Expr::Not(part) => fields_of(part, fields),
        Expr::Compare { field, .. } | Expr::Holds(field) => {
            if !fields.contains(field) {
                fields.push(field.clone());
            }
        }
        Expr::Always(_) => {}
    }
}

/// The query that a search by tags stands for. A value in tags has no type: it is a text, and what it reads as.
fn by_tags(params: &Params) -> Result<Query, String> {
    let mut tests = Vec::new();
    for (key, value) in parse_tags(params.get("tags").unwrap_or_default())? {
        tests.push(of_tag(&key, &value));
    }
    for (name, operator) in [("minDuration", Operator::Gte), ("maxDuration", Operator::Lte)] {
        if let Some(text) = params.get(name) {
            let ns = duration_ns(text).ok_or_else(|| format!("invalid {name}: {text:?} is no duration"))?;
            tests.push(compare(Field::Intrinsic(Intrinsic::TraceDuration), operator, Literal::DurationNs(ns)));
        }
    }
    let filter = match tests.len() {
        0 => Expr::Always(true),
        1 => tests.remove(0),
        _ => Expr::And(tests),
    };
    Ok(Query { filter, selected: Vec::new() })
}

fn compare(field: Field, operator: Operator, literal: Literal) -> Expr {
    Expr::Compare { field, operator, literal }
}

fn of_tag(key: &str, value: &str) -> Expr {
    let text = || Literal::Text(value.to_owned());
    let intrinsic = match key {
        "name" => Some(Intrinsic::Name),
        "root.name" => Some(Intrinsic::RootName),
        "root.service.name" => Some(Intrinsic::RootService),
        _ => None,
    };
    if let Some(intrinsic) = intrinsic {
        return compare(Field::Intrinsic(intrinsic), Operator::Eq, text());
    }
    let status = Literal::WORDS.iter().find(|(word, literal)| *word == value && matches!(literal, Literal::Status(_)));
    if let ("status.code", Some((_, status))) = (key, status) {
        return compare(Field::Intrinsic(Intrinsic::Status), Operator::Eq, status.clone());
    }
    let field = Field::Attribute { scope: None, key: key.to_owned() };
    let number = value.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Float);
    let typed = value.parse().ok().map(Literal::Int).or(number).or_else(|| value.parse().ok().map(Literal::Bool));
    let is_text = compare(field.clone(), Operator::Eq, text());
    match typed {
        Some(typed) => Expr::Or(vec![is_text, compare(field, Operator::Eq, typed)]),
        None => is_text,
    }
}
