//! What is done to traces before clients see them, unless they ask for traces as they came.
//!
//! Source: the adjusters of Jaeger 2's query service, in its order. They work on one whole trace.

mod clock_skew;
mod duplicates;
mod rewrite;
mod sort;
mod span_ids;

use pharos_base::{BudgetExceeded, HumanDuration, MemoryBudget};
use pharos_model::{Attribute, AttributeValue, Span, SpanGroup};
use pharos_storage::Trace;

/// The attribute in which warnings about a span travel; API v1 has a member for them.
pub(crate) const WARNINGS: &str = "@jaeger@warnings";
/// What adjusting a trace takes for a span of it: its place in the tables of ids, of twins and of children.
const BYTES_PER_SPAN: u64 = 256;

/// What of the adjusting can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adjusting {
    /// The furthest that times of a span are moved where the clock of its host seems wrong; zero moves none.
    pub(crate) clock_skew_max: HumanDuration,
    /// Spans of a trace that are shown; 0 shows all.
    pub(crate) trace_spans_max: u64,
}

impl Adjusting {
    /// Adjusts a trace. What could not be done is told as a warning of its span.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if what it takes does not fit into the `memory` of the read; the trace is as it was.
    pub(crate) fn apply(&self, trace: &mut Trace, memory: &MemoryBudget) -> Result<(), BudgetExceeded> {
        let spans = trace.groups.iter().map(|group| group.spans.len() as u64).sum::<u64>();
        let _held = memory.reserve(spans * BYTES_PER_SPAN)?;
        truncate(trace, self.trace_spans_max);
        let groups = &mut trace.groups;
        let ids_repeat = span_ids::are_repeated(groups);
        if ids_repeat {
            span_ids::make_unique(groups);
        }
        sort::sort(groups);
        // Equal spans had equal ids when they came.
        if ids_repeat {
            duplicates::drop_duplicates(groups);
        }
        clock_skew::correct(groups, self.clock_skew_max);
        rewrite::normalize_addresses(groups);
        rewrite::move_library_attributes(groups);
        rewrite::drop_empty_links(groups);
        Ok(())
    }
}

/// Keeps the first spans.
fn truncate(trace: &mut Trace, spans_max: u64) {
    let mut left = usize::try_from(spans_max).unwrap_or(usize::MAX);
    if left == 0 || trace.groups.iter().map(|group| group.spans.len()).sum::<usize>() <= left {
        return;
    }
    trace.groups.retain_mut(|group| {
        group.spans.truncate(left);
        left -= group.spans.len();
        !group.spans.is_empty()
    });
    if let Some(first) = spans(&mut trace.groups).next() {
        warn(first, format!("trace has more than {spans_max} spans, showing first {spans_max} spans only"));
    }
}

/// Puts warnings to the first span, for answers that have no other place for them.
pub(crate) fn tell_on_first_span(groups: &mut [SpanGroup], warnings: Vec<String>) {
    if let Some(first) = spans(groups).next() {
        for warning in warnings {
            warn(first, warning);
        }
    }
}

fn spans(groups: &mut [SpanGroup]) -> impl Iterator<Item = &mut Span> {
    groups.iter_mut().flat_map(|group| &mut group.spans)
}

/// Adds a warning to a span.
fn warn(span: &mut Span, warning: String) {
    let warning = AttributeValue::String(warning);
    match span.attributes.iter_mut().find(|attribute| attribute.key == WARNINGS).map(|found| &mut found.value) {
        Some(AttributeValue::Array(warnings)) => warnings.push(warning),
        Some(other) => *other = AttributeValue::Array(vec![std::mem::take(other), warning]),
        None => {
            let value = AttributeValue::Array(vec![warning]);
            span.attributes.push(Attribute { key: WARNINGS.to_owned(), value });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
