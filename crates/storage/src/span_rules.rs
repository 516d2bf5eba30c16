//! What the words of the trace contract mean, as functions of spans: the one definition that the
//! reference store, every engine's slow path and the tests share.

use std::collections::{BTreeMap, HashSet};

use pharos_model::{Attributes, NS_PER_DAY, Resource, Scope, Span, SpanKind, StatusCode, TimeRangeNs};

use crate::{ServiceSpanCount, SpanFilter, Trace, TraceQuery, TraceSummary, predicate_holds, render_attribute_value};

/// Dependencies are counted by minute of the child's start.
pub const DEPENDENCY_STEP_NS: u64 = NS_PER_DAY / 1440;

/// Jaeger's word for a kind; empty where unspecified.
#[must_use]
pub fn span_kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

/// `range` widened to whole minutes, as `[first, last]` minutes since the epoch; `None` if it is empty.
#[must_use]
pub fn dependency_minutes(range: TimeRangeNs) -> Option<(u64, u64)> {
    (range.start_ns < range.end_ns)
        .then(|| (range.start_ns / DEPENDENCY_STEP_NS, (range.end_ns - 1) / DEPENDENCY_STEP_NS))
}

/// Whether one span passes every test of `query`.
#[must_use]
pub fn span_passes(query: &TraceQuery, resource: &Resource, scope: &Scope, span: &Span) -> bool {
    let duration_ns = span.duration_ns();
    query.start.contains(span.start_ns)
        && query.duration_min_ns.is_none_or(|min| duration_ns >= min)
        && query.duration_max_ns.is_none_or(|max| duration_ns <= max)
        && query.service.as_deref().is_none_or(|service| service == resource.service_name())
        && query.operation.as_deref().is_none_or(|operation| operation == span.name)
        && query.filters.iter().all(|filter| filter_passes(filter, resource, scope, span))
        && query.predicate.as_ref().is_none_or(|predicate| predicate_holds(predicate, resource, scope, span))
}

fn filter_passes(filter: &SpanFilter, resource: &Resource, scope: &Scope, span: &Span) -> bool {
    match filter {
        SpanFilter::Attribute { key, value } => {
            has(&span.attributes, key, value)
                || has(&resource.attributes, key, value)
                || has(&scope.attributes, key, value)
                || span.events.iter().any(|event| has(&event.attributes, key, value))
                || span.links.iter().any(|link| has(&link.attributes, key, value))
        }
        SpanFilter::ResourceAttribute { key, value } => has(&resource.attributes, key, value),
        SpanFilter::Kind(kind) => span.kind == *kind,
        SpanFilter::Status(code) => span.status.code == *code,
        SpanFilter::NotStatus(code) => span.status.code != *code,
        SpanFilter::ScopeName(name) => scope.name == *name,
        SpanFilter::ScopeVersion(version) => scope.version == *version,
    }
}

fn has(attributes: &Attributes, key: &str, value: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key && render_attribute_value(&attribute.value) == value)
}

impl TraceSummary {
    /// A trace in short. The root is the earliest span without a parent id, of equally early ones the
    /// one with the smallest span id; an orphan has a parent id that no span of the trace bears.
    #[must_use]
    pub fn of(trace: &Trace) -> Self {
        let spans = || trace.groups.iter().flat_map(|group| group.spans.iter().map(move |span| (group, span)));
        let ids: HashSet<_> = spans().map(|(_, span)| span.span_id).collect();
        let mut services: BTreeMap<&str, ServiceSpanCount> = BTreeMap::new();
        let (mut span_count, mut error_count, mut orphan_count) = (0, 0, 0);
        for (group, span) in spans() {
            let service = group.resource.service_name();
            let entry = services.entry(service).or_insert_with(|| ServiceSpanCount {
                service: service.to_owned(),
                spans: 0,
                errors: 0,
            });
            let is_error = u64::from(span.status.code == StatusCode::Error);
            entry.spans += 1;
            entry.errors += is_error;
            span_count += 1;
            error_count += is_error;
            orphan_count += u64::from(!span.parent_span_id.is_zero() && !ids.contains(&span.parent_span_id));
        }
        let root = spans()
            .filter(|(_, span)| span.parent_span_id.is_zero())
            .min_by_key(|(group, span)| (span.start_ns, span.span_id, group.resource.service_name(), &span.name));
        Self {
            trace_id: trace.trace_id,
            root_service: root.map_or_else(String::new, |(group, _)| group.resource.service_name().to_owned()),
            root_operation: root.map_or_else(String::new, |(_, span)| span.name.clone()),
            start_ns: spans().map(|(_, span)| span.start_ns).min().unwrap_or(0),
            end_ns: spans().map(|(_, span)| span.end_ns).max().unwrap_or(0),
            span_count,
            error_count,
            orphan_count,
            services: services.into_values().collect(),
            warnings: trace.warnings.clone(),
        }
    }
}
