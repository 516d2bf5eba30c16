//! Calls between services, paired while spans come in.
//!
//! The rule is the contract's (`TraceStore::dependencies`). A window in memory holds the ids of recent
//! traces; a trace that is not in it is read from disk once. What is counted are differences: the
//! calls of a trace with the new spans minus the calls without them. So it does not matter in which
//! order parents and children come, and spans that come twice change nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::{SpanId, TenantId, TraceId};

use crate::codec::SpanSkeleton;

/// One span of a trace, as far as calls are concerned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallSpan {
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: SpanId,
    pub(crate) start_ns: u64,
    pub(crate) service: Arc<str>,
}

impl CallSpan {
    pub(crate) fn new(skeleton: &SpanSkeleton, service: Arc<str>) -> Self {
        let &SpanSkeleton { span_id, parent_span_id, start_ns, .. } = skeleton;
        Self { span_id, parent_span_id, start_ns, service }
    }
}

/// One call more, or less, than was counted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallChange {
    pub(crate) child_start_ns: u64,
    pub(crate) parent: Arc<str>,
    pub(crate) child: Arc<str>,
    pub(crate) by: i64,
}

/// The spans of one trace, found by id and by parent.
#[derive(Debug, Default)]
pub(crate) struct TraceCalls {
    by_id: HashMap<SpanId, BTreeSet<CallSpan>>,
    children: HashMap<SpanId, BTreeSet<CallSpan>>,
    span_count: usize,
}

impl TraceCalls {
    /// Adds spans; returns what changes in the counts.
    pub(crate) fn add(&mut self, spans: impl IntoIterator<Item = CallSpan>) -> Vec<CallChange> {
        let mut changes = Vec::new();
        for span in spans {
            if self.by_id.get(&span.span_id).is_some_and(|same_id| same_id.contains(&span)) {
                continue;
            }
            let children: Vec<CallSpan> = self.children.get(&span.span_id).into_iter().flatten().cloned().collect();
            for child in &children {
                self.count(child, -1, &mut changes);
            }
            self.span_count += 1;
            self.by_id.entry(span.span_id).or_default().insert(span.clone());
            if !span.parent_span_id.is_zero() {
                self.children.entry(span.parent_span_id).or_default().insert(span.clone());
            }
            for child in &children {
                self.count(child, 1, &mut changes);
            }
            // A span that is its own parent is not among `children` yet, but its call is none either.
            self.count(&span, 1, &mut changes);
        }
        changes
    }

    fn count(&self, child: &CallSpan, by: i64, changes: &mut Vec<CallChange>) {
        if child.parent_span_id.is_zero() {
            return;
        }
        let Some(parents) = self.by_id.get(&child.parent_span_id) else { return };
        let services = || parents.iter().map(|parent| &parent.service);
        if services().any(|service| *service == child.service) {
            return;
        }
        let Some(parent) = services().min() else { return };
        let change = CallChange {
            child_start_ns: child.start_ns,
            parent: Arc::clone(parent),
            child: Arc::clone(&child.service),
            by,
        };
        changes.push(change);
    }
}

/// Recent traces, in two generations: when the younger is full, the older is forgotten.
#[derive(Debug)]
pub(crate) struct CallWindow {
    spans_max: usize,
    young: HashMap<(TenantId, TraceId), TraceCalls>,
    young_spans: usize,
    old: HashMap<(TenantId, TraceId), TraceCalls>,
    services: HashMap<Box<str>, Arc<str>>,
}

impl CallWindow {
    pub(crate) fn new(spans_max: u64) -> Self {
        let spans_max = usize::try_from(spans_max / 2).unwrap_or(usize::MAX).max(1);
        let (young, old, services) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { spans_max, young, young_spans: 0, old, services }
    }

    /// One shared text per service name.
    pub(crate) fn service(&mut self, name: &str) -> Arc<str> {
        const NAMES_MAX: usize = 10_000;
        if let Some(known) = self.services.get(name) {
            return Arc::clone(known);
        }
        if self.services.len() >= NAMES_MAX {
            self.services.clear();
        }
        let shared: Arc<str> = Arc::from(name);
        self.services.insert(Box::from(name), Arc::clone(&shared));
        shared
    }

    /// Whether [`CallWindow::add`] needs the spans that are on disk.
    pub(crate) fn knows(&self, tenant: &TenantId, trace_id: TraceId) -> bool {
        let key = (tenant.clone(), trace_id);
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    /// Adds spans of a trace; `stored` are those on disk, for a trace the window does not know.
    pub(crate) fn add(
        &mut self,
        tenant: &TenantId,
        trace_id: TraceId,
        stored: Vec<CallSpan>,
        spans: impl IntoIterator<Item = CallSpan>,
    ) -> Vec<CallChange> {
        if self.young_spans >= self.spans_max {
            self.old = std::mem::take(&mut self.young);
            self.young_spans = 0;
        }
        let key = (tenant.clone(), trace_id);
        let mut calls = self.young.remove(&key);
        if calls.is_none() {
            let mut moved = self.old.remove(&key).unwrap_or_default();
            moved.add(stored);
            self.young_spans += moved.span_count;
            calls = Some(moved);
        }
        let mut calls = calls.unwrap_or_default();
        let before = calls.span_count;
        let changes = calls.add(spans);
        self.young_spans += calls.span_count - before;
        self.young.insert(key, calls);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u8, parent: u8, service: &str) -> CallSpan {
        CallSpan {
            span_id: SpanId([id; 8]),
            parent_span_id: SpanId([parent; 8]),
            start_ns: u64::from(id),
            service: Arc::from(service),
        }
    }

    fn total(spans: &[CallSpan]) -> Vec<(String, String, i64)> {
        let mut calls = TraceCalls::default();
        let mut sums = std::collections::BTreeMap::new();
        for span in spans {
            for change in calls.add([span.clone()]) {
                *sums.entry((change.parent.to_string(), change.child.to_string())).or_insert(0) += change.by;
            }
        }
        sums.into_iter().filter(|(_, by)| *by != 0).map(|((parent, child), by)| (parent, child, by)).collect()
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let spans = [span(1, 0, "web"), span(2, 1, "shop"), span(3, 2, "shop"), span(4, 3, "db"), span(2, 1, "shop")];
        let expected = [("shop".to_owned(), "db".to_owned(), 1), ("web".to_owned(), "shop".to_owned(), 1)];
        assert_eq!(total(&spans), expected);
        let mut reversed = spans.clone();
        reversed.reverse();
        assert_eq!(total(&reversed), expected);
    }

    #[test]
    fn a_parent_id_of_the_childs_own_service_takes_the_call_back() {
        assert_eq!(total(&[span(2, 1, "b"), span(1, 0, "a"), span(1, 9, "b")]), []);
        assert_eq!(total(&[span(1, 1, "a")]), []);
    }
}
