//! Spans that are equal in everything, of equal resources and scopes: the first is kept.
//!
//! The store keeps spans once that came in equal form; here, after sorting, also those that differ in order only.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pharos_model::{Attribute, AttributeValue, Span, SpanGroup};

/// Which group, and which of its spans.
type Position = (usize, usize);

/// Drops all but the first of equal spans.
pub(super) fn drop_duplicates(groups: &mut Vec<SpanGroup>) {
    let dropped = duplicates(groups);
    if dropped.is_empty() {
        return;
    }
    for (number, group) in groups.iter_mut().enumerate() {
        let mut index = 0;
        group.spans.retain(|_| {
            index += 1;
            !dropped.contains(&(number, index - 1))
        });
    }
    groups.retain(|group| !group.spans.is_empty());
}

fn duplicates(groups: &[SpanGroup]) -> HashSet<Position> {
    // Few spans agree in id and times; only those are looked at as a whole.
    let key = |span: &Span| (span.span_id, span.start_ns, span.end_ns);
    let spans = || {
        groups.iter().enumerate().flat_map(|(number, group)| {
            group.spans.iter().enumerate().map(move |(index, span)| ((number, index), span))
        })
    };
    let mut seen = HashSet::with_capacity(groups.iter().map(|group| group.spans.len()).sum());
    let mut alike: HashMap<_, Vec<Position>> =
        spans().map(|(_, span)| key(span)).filter(|key| !seen.insert(*key)).map(|key| (key, Vec::new())).collect();
    if alike.is_empty() {
        return HashSet::new();
    }
    for (position, span) in spans() {
        if let Some(positions) = alike.get_mut(&key(span)) {
            positions.push(position);
        }
    }
    let mut dropped = HashSet::new();
    for positions in alike.into_values() {
        // By hash, so that many spans alike are not compared each with each.
        let mut kept: HashMap<u64, Vec<Position>> = HashMap::new();
        for position in positions {
            let known = kept.entry(hash(&groups[position.0].spans[position.1])).or_default();
            if known.iter().any(|other| are_equal(groups, *other, position)) {
                dropped.insert(position);
            } else {
                known.push(position);
            }
        }
    }
    dropped
}

fn are_equal(groups: &[SpanGroup], (a, a_index): Position, (b, b_index): Position) -> bool {
    let (a, b) = (&groups[a], &groups[b]);
    (Arc::ptr_eq(&a.resource, &b.resource) || a.resource == b.resource)
        && (Arc::ptr_eq(&a.scope, &b.scope) || a.scope == b.scope)
        && a.spans[a_index] == b.spans[b_index]
}

/// A hash of what tells spans apart that agree in id and times.
fn hash(span: &Span) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&span.name, span.parent_span_id, span.kind, &span.trace_state, &span.status.message).hash(&mut hasher);
    hash_attributes(&span.attributes, &mut hasher);
    for event in &span.events {
        (event.time_ns, &event.name).hash(&mut hasher);
        hash_attributes(&event.attributes, &mut hasher);
    }
    for link in &span.links {
        (link.trace_id, link.span_id).hash(&mut hasher);
        hash_attributes(&link.attributes, &mut hasher);
    }
    hasher.finish()
}

fn hash_attributes(attributes: &[Attribute], hasher: &mut impl Hasher) {
    attributes.len().hash(hasher);
    for attribute in attributes {
        attribute.key.hash(hasher);
        hash_value(&attribute.value, hasher);
    }
}

fn hash_value(value: &AttributeValue, hasher: &mut impl Hasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        AttributeValue::Empty => {}
        AttributeValue::String(text) => text.hash(hasher),
        AttributeValue::Bool(truth) => truth.hash(hasher),
        AttributeValue::Int(number) => number.hash(hasher),
        AttributeValue::Double(number) => number.to_bits().hash(hasher),
        AttributeValue::Bytes(bytes) => bytes.hash(hasher),
        AttributeValue::Array(values) => values.iter().for_each(|value| hash_value(value, hasher)),
        AttributeValue::Map(members) => hash_attributes(members, hasher),
    }
}
