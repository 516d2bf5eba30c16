//! Attributes by key, events by time, so that equal spans look equal and people find what they look for.

use std::sync::Arc;

use pharos_model::{Attributes, SpanGroup};

/// Sorts all collections; those with equal keys keep their order.
pub(super) fn sort(groups: &mut [SpanGroup]) {
    for group in groups {
        // What many groups share is copied only where there is something to do.
        if !is_sorted(&group.resource.attributes) {
            by_key(&mut Arc::make_mut(&mut group.resource).attributes);
        }
        if !is_sorted(&group.scope.attributes) {
            by_key(&mut Arc::make_mut(&mut group.scope).attributes);
        }
        for span in &mut group.spans {
            by_key(&mut span.attributes);
            span.events.sort_by_key(|event| event.time_ns);
            span.events.iter_mut().for_each(|event| by_key(&mut event.attributes));
            span.links.iter_mut().for_each(|link| by_key(&mut link.attributes));
        }
    }
}

fn is_sorted(attributes: &Attributes) -> bool {
    attributes.is_sorted_by(|a, b| a.key <= b.key)
}

fn by_key(attributes: &mut Attributes) {
    if !is_sorted(attributes) {
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
    }
}
