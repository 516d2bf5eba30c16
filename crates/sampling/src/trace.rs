//! The spans of one trace that wait together, and what they take in memory.

use std::sync::Arc;

use pharos_model::{Attribute, AttributeValue, Resource, Scope, Span, SpanGroup, TraceId};

use crate::record::Position;

/// Spans of one trace.
#[derive(Debug)]
pub(crate) struct WaitingTrace {
    pub(crate) trace_id: TraceId,
    pub(crate) groups: Vec<SpanGroup>,
    pub(crate) span_count: usize,
    pub(crate) bytes: usize,
    /// Files of the log that its spans are in.
    pub(crate) files: Vec<u64>,
    /// Where its last spans are in the log.
    pub(crate) last: Position,
}

impl WaitingTrace {
    pub(crate) fn new(trace_id: TraceId) -> Self {
        let (groups, files) = (Vec::new(), Vec::new());
        Self { trace_id, groups, span_count: 0, bytes: size_of::<Self>(), files, last: Position::default() }
    }

    /// All spans, each with its group.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&SpanGroup, &Span)> {
        self.groups.iter().flat_map(|group| group.spans.iter().map(move |span| (group, span)))
    }

    /// From the first start to the last end.
    pub(crate) fn duration_ns(&self) -> u64 {
        let start = self.spans().map(|(_, span)| span.start_ns).min().unwrap_or(0);
        let end = self.spans().map(|(_, span)| span.end_ns).max().unwrap_or(0);
        end.saturating_sub(start)
    }

    /// Forgets all of its spans but what tells who calls whom.
    pub(crate) fn keep_calls(&mut self) {
        for group in &mut self.groups {
            for span in &mut group.spans {
                let &mut Span { trace_id, span_id, parent_span_id, start_ns, .. } = span;
                *span = Span { trace_id, span_id, parent_span_id, start_ns, ..Span::default() };
            }
        }
        let origins = self
            .groups
            .iter()
            .map(|group| size_of::<SpanGroup>() + resource_bytes(&group.resource) + scope_bytes(&group.scope));
        self.bytes = size_of::<Self>() + origins.sum::<usize>() + self.span_count * size_of::<Span>();
    }

    /// Adds a span that is at `at` in the log; true if it is the first in that file.
    pub(crate) fn push(&mut self, group: &SpanGroup, span: Span, at: Position) -> bool {
        self.bytes += span_bytes(&span);
        self.span_count += 1;
        let is_same =
            |last: &SpanGroup| Arc::ptr_eq(&last.resource, &group.resource) && Arc::ptr_eq(&last.scope, &group.scope);
        if let Some(last) = self.groups.last_mut().filter(|last| is_same(last)) {
            last.spans.push(span);
        } else {
            // Shared with other traces of the request, which may all go before this one.
            self.bytes += size_of::<SpanGroup>() + resource_bytes(&group.resource) + scope_bytes(&group.scope);
            let (resource, scope) = (Arc::clone(&group.resource), Arc::clone(&group.scope));
            self.groups.push(SpanGroup { resource, scope, spans: vec![span] });
        }
        self.last = at;
        let is_new = self.files.last() != Some(&at.file);
        if is_new {
            self.files.push(at.file);
        }
        is_new
    }
}

fn resource_bytes(resource: &Resource) -> usize {
    size_of::<Resource>() + resource.schema_url.len() + attribute_bytes(&resource.attributes)
}

fn scope_bytes(scope: &Scope) -> usize {
    let texts = scope.name.len() + scope.version.len() + scope.schema_url.len();
    size_of::<Scope>() + texts + attribute_bytes(&scope.attributes)
}

/// Memory of a span, roughly.
pub(crate) fn span_bytes(span: &Span) -> usize {
    let events: usize = span
        .events
        .iter()
        .map(|event| size_of_val(event) + event.name.len() + attribute_bytes(&event.attributes))
        .sum();
    let links: usize = span
        .links
        .iter()
        .map(|link| size_of_val(link) + link.trace_state.len() + attribute_bytes(&link.attributes))
        .sum();
    size_of::<Span>()
        + span.name.len()
        + span.trace_state.len()
        + span.status.message.len()
        + attribute_bytes(&span.attributes)
        + events
        + links
}

fn attribute_bytes(attributes: &[Attribute]) -> usize {
    attributes
        .iter()
        .map(|attribute| size_of_val(attribute) + attribute.key.len() + value_bytes(&attribute.value))
        .sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::String(text) => text.len(),
        AttributeValue::Bytes(bytes) => bytes.len(),
        AttributeValue::Array(values) => values.iter().map(|value| size_of_val(value) + value_bytes(value)).sum(),
        AttributeValue::Map(pairs) => attribute_bytes(pairs),
        _ => 0,
    }
}
