//! What a predicate implies in the plain words of a query, for engines whose index knows only those.

use pharos_model::{SpanKind, StatusCode};

use super::evaluate::{kind_word, status_word};
use super::value::{Number, Value};
use super::{AttributeLevel, Comparison, SpanConstant, SpanField, SpanOperand, SpanPredicate, SpanReference};
use crate::{SpanFilter, TraceQuery};

impl TraceQuery {
    /// A query without predicate that every span passes which passes this one: what the predicate implies (equalities that
    /// must all hold, bounds of the duration) became plain tests. It may find more, never less.
    #[must_use]
    pub fn without_predicate(&self) -> Self {
        let mut wider = self.clone();
        if let Some(predicate) = wider.predicate.take() {
            narrow(&mut wider, &predicate);
        }
        wider
    }
}

fn narrow(query: &mut TraceQuery, predicate: &SpanPredicate) {
    match predicate {
        SpanPredicate::And(all) => all.iter().for_each(|predicate| narrow(query, predicate)),
        SpanPredicate::Compare {
            left: SpanOperand::Reference(reference),
            comparison,
            right: SpanOperand::Constant(constant),
        } => match reference {
            SpanReference::Attribute { level, key } if *comparison == Comparison::Eq => {
                narrow_attribute(query, *level, key, constant);
            }
            SpanReference::Field(SpanField::Duration) => narrow_duration(query, *comparison, constant),
            SpanReference::Field(field) if *comparison == Comparison::Eq => narrow_field(query, *field, constant),
            SpanReference::Attribute { .. } | SpanReference::Field(_) => {}
        },
        _ => {}
    }
}

fn narrow_attribute(query: &mut TraceQuery, level: Option<AttributeLevel>, key: &str, constant: &SpanConstant) {
    let Some(value) = only_text(constant) else { return };
    let key = key.to_owned();
    query.filters.push(match level {
        Some(AttributeLevel::Resource) => SpanFilter::ResourceAttribute { key, value },
        _ => SpanFilter::Attribute { key, value },
    });
}

/// See [`SpanConstant::only_text`].
pub(super) fn only_text(constant: &SpanConstant) -> Option<String> {
    const SHOWN_ALIKE_BELOW: f64 = 9_007_199_254_740_992.0;
    let (number, written) = match constant {
        SpanConstant::Text(text) => return Some(text.clone()),
        SpanConstant::Bool(truth) => return Some(truth.to_string()),
        SpanConstant::DurationNs(_) | SpanConstant::TimeNs(_) => return None,
        SpanConstant::Int(number) => (Number::Whole((*number).into()), None),
        SpanConstant::Double(number) => (Number::Double(*number), None),
        SpanConstant::Any(text) => match Number::parse(text) {
            None => return Some(text.clone()),
            Some(number) => (number, Some(text)),
        },
    };
    #[expect(clippy::cast_precision_loss, reason = "what is rounded lies beyond the limit")]
    let magnitude = match number {
        Number::Whole(number) => number as f64,
        Number::Double(number) => number,
    }
    .abs();
    let shown = Value::Number(number).shown().into_owned();
    let is_one = magnitude > 0.0 && magnitude < SHOWN_ALIKE_BELOW && written.is_none_or(|written| *written == shown);
    is_one.then_some(shown)
}

fn narrow_field(query: &mut TraceQuery, field: SpanField, constant: &SpanConstant) {
    let (SpanConstant::Any(text) | SpanConstant::Text(text)) = constant else { return };
    match field {
        // A second, different value cannot hold beside the first: leaving it out is wider, never wrong.
        SpanField::Service => drop(query.service.get_or_insert_with(|| text.clone())),
        SpanField::Name => drop(query.operation.get_or_insert_with(|| text.clone())),
        SpanField::Kind => {
            let kinds = [
                SpanKind::Unspecified,
                SpanKind::Internal,
                SpanKind::Server,
                SpanKind::Client,
                SpanKind::Producer,
                SpanKind::Consumer,
            ];
            let kind = kinds.into_iter().find(|kind| kind_word(*kind) == text);
            query.filters.extend(kind.map(SpanFilter::Kind));
        }
        SpanField::Status => {
            let statuses = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error];
            let status = statuses.into_iter().find(|status| status_word(*status) == text);
            query.filters.extend(status.map(SpanFilter::Status));
        }
        SpanField::ScopeName => query.filters.push(SpanFilter::ScopeName(text.clone())),
        SpanField::ScopeVersion => query.filters.push(SpanFilter::ScopeVersion(text.clone())),
        _ => {}
    }
}

fn narrow_duration(query: &mut TraceQuery, comparison: Comparison, constant: &SpanConstant) {
    let SpanConstant::DurationNs(bound_ns) = *constant else { return };
    let Ok(bound_ns) = u64::try_from(bound_ns) else { return };
    if matches!(comparison, Comparison::Eq | Comparison::Gt | Comparison::Gte) {
        query.duration_min_ns = Some(query.duration_min_ns.map_or(bound_ns, |min_ns| min_ns.max(bound_ns)));
    }
    if matches!(comparison, Comparison::Eq | Comparison::Lt | Comparison::Lte) {
        query.duration_max_ns = Some(query.duration_max_ns.map_or(bound_ns, |max_ns| max_ns.min(bound_ns)));
    }
}
