//! Calls between services, paired while spans come in.
//!
//! The rule is the contract's (`TraceStore::dependencies`). A window in memory holds the ids of recent
//! traces; a trace that is not in it is read from disk once. What is counted are differences: the
//! calls of a trace with the new spans minus the calls without them. So it does not matter in which
//! order parents and children come, and spans that come twice change nothing.
//!
//! A trace is paired up to [`TRACE_PAIRED_SPANS_MAX`] different spans. What comes later is stored and found
//! as ever, but its calls are not counted and the calls counted before stay. Whether a trace has reached the
//! limit depends only on which spans came, so memory, disk and a replay agree on it.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::{SpanId, TenantId, TraceId};
use pharos_storage::DEPENDENCY_STEP_NS;

use crate::codec::SpanSkeleton;

/// Spans of one trace whose calls are counted.
pub(crate) const TRACE_PAIRED_SPANS_MAX: usize = 20_000;
/// Traces of up to this many spans are looked through; larger ones are looked up.
const SCANNED_SPANS_MAX: usize = 32;

/// One span of a trace, as far as calls are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Calls more, or less, than were counted before: by minute of the child, caller and called.
#[derive(Debug, Default)]
pub(crate) struct CallChanges {
    by_call: HashMap<(u32, Arc<str>, Arc<str>), i64>,
}

impl CallChanges {
    fn add(&mut self, child: &CallSpan, parent: &Arc<str>, by: i64) {
        let minute = (child.start_ns / DEPENDENCY_STEP_NS) as u32;
        *self.by_call.entry((minute, Arc::clone(parent), Arc::clone(&child.service))).or_default() += by;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }

    /// Minute, caller, called, and how many more.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<str>, &Arc<str>, i64)> {
        self.by_call
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|((minute, parent, child), by)| (*minute, parent, child, *by))
    }
}

const NONE: u32 = u32::MAX;

/// A span in two lists: of those with its id, and of those with its parent.
#[derive(Debug)]
struct Node {
    span: CallSpan,
    next_same_id: u32,
    next_sibling: u32,
}

/// Where the lists of an id begin.
#[derive(Debug)]
struct Heads {
    same_id: u32,
    children: u32,
}

/// The spans of one trace, found by id and by parent.
#[derive(Debug, Default)]
pub(crate) struct TraceCalls {
    nodes: Vec<Node>,
    /// Empty while the trace is small enough to be looked through.
    heads: HashMap<SpanId, Heads>,
    /// Whether the trace has reached [`TRACE_PAIRED_SPANS_MAX`].
    is_closed: bool,
}

impl TraceCalls {
    /// Adds spans and tells `changes` what changes in the counts.
    fn add(&mut self, spans: impl IntoIterator<Item = CallSpan>, changes: &mut CallChanges) {
        let mut services = Vec::new();
        for span in spans {
            if self.is_closed {
                return;
            }
            services.clear();
            let mut is_known = false;
            self.for_each_with_id(span.span_id, |same_id| {
                is_known |= *same_id == span;
                services.push(Arc::clone(&same_id.service));
            });
            if is_known {
                continue;
            }
            if self.nodes.len() >= TRACE_PAIRED_SPANS_MAX {
                *self = Self { is_closed: true, ..Self::default() };
                return;
            }
            if !services.contains(&span.service) {
                self.for_each_child(span.span_id, |child| {
                    let before = caller(&services, child);
                    let after = caller(services.iter().chain([&span.service]), child);
                    if before != after {
                        if let Some(parent) = before {
                            changes.add(child, parent, -1);
                        }
                        if let Some(parent) = after {
                            changes.add(child, parent, 1);
                        }
                    }
                });
            }
            self.insert(span.clone());
            if !span.parent_span_id.is_zero() {
                services.clear();
                self.for_each_with_id(span.parent_span_id, |parent| services.push(Arc::clone(&parent.service)));
                if let Some(parent) = caller(&services, &span) {
                    changes.add(&span, parent, 1);
                }
            }
        }
    }

    /// Adds a span whose calls are counted already.
    pub(crate) fn add_known(&mut self, span: CallSpan) {
        self.add([span], &mut CallChanges::default());
    }

    /// Whether it takes no more spans: it has had too many.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What it counts for in the window.
    fn weight(&self) -> usize {
        self.nodes.len() + 1
    }

    fn insert(&mut self, span: CallSpan) {
        self.nodes.push(Node { span, next_same_id: NONE, next_sibling: NONE });
        if self.nodes.len() == SCANNED_SPANS_MAX + 1 {
            (0..self.nodes.len()).for_each(|index| self.link(index));
        } else if self.nodes.len() > SCANNED_SPANS_MAX {
            self.link(self.nodes.len() - 1);
        }
    }

    fn link(&mut self, index: usize) {
        let empty = || Heads { same_id: NONE, children: NONE };
        let node = &mut self.nodes[index];
        let heads = self.heads.entry(node.span.span_id).or_insert_with(empty);
        node.next_same_id = std::mem::replace(&mut heads.same_id, index as u32);
        if !node.span.parent_span_id.is_zero() {
            let heads = self.heads.entry(node.span.parent_span_id).or_insert_with(empty);
            node.next_sibling = std::mem::replace(&mut heads.children, index as u32);
        }
    }

    fn for_each_with_id(&self, id: SpanId, mut visit: impl FnMut(&CallSpan)) {
        if self.nodes.len() <= SCANNED_SPANS_MAX {
            return self.nodes.iter().filter(|node| node.span.span_id == id).for_each(|node| visit(&node.span));
        }
        let mut next = self.heads.get(&id).map_or(NONE, |heads| heads.same_id);
        while let Some(node) = self.nodes.get(next as usize) {
            visit(&node.span);
            next = node.next_same_id;
        }
    }

    /// The zero id is nobody's parent, whoever bears it.
    fn for_each_child(&self, id: SpanId, mut visit: impl FnMut(&CallSpan)) {
        if id.is_zero() {
            return;
        }
        if self.nodes.len() <= SCANNED_SPANS_MAX {
            return self.nodes.iter().filter(|node| node.span.parent_span_id == id).for_each(|node| visit(&node.span));
        }
        let mut next = self.heads.get(&id).map_or(NONE, |heads| heads.children);
        while let Some(node) = self.nodes.get(next as usize) {
            visit(&node.span);
            next = node.next_sibling;
        }
    }
}

/// Who calls `child`, if the spans with its parent's id are of these services: nobody if one is its own.
fn caller<'a>(services: impl IntoIterator<Item = &'a Arc<str>>, child: &CallSpan) -> Option<&'a Arc<str>> {
    let mut first: Option<&Arc<str>> = None;
    for service in services {
        if *service == child.service {
            return None;
        }
        if first.is_none_or(|first| service < first) {
            first = Some(service);
        }
    }
    first
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

    /// Forgets a trace, as if none of its spans had come.
    pub(crate) fn forget(&mut self, tenant: &TenantId, trace_id: TraceId) {
        let key = (tenant.clone(), trace_id);
        if let Some(calls) = self.young.remove(&key) {
            self.young_spans -= calls.weight();
        }
        self.old.remove(&key);
    }

    /// Adds spans of a trace and tells `changes` what changes in the counts; `stored` has those on disk, if the window does
    /// not know the trace.
    pub(crate) fn add(
        &mut self,
        tenant: &TenantId,
        trace_id: TraceId,
        stored: TraceCalls,
        spans: impl IntoIterator<Item = CallSpan>,
        changes: &mut CallChanges,
    ) {
        if self.young_spans >= self.spans_max {
            self.old = std::mem::take(&mut self.young);
            self.young_spans = 0;
        }
        let key = (tenant.clone(), trace_id);
        let mut young = self.young.remove(&key);
        let before = young.as_ref().map_or(0, TraceCalls::weight);
        let mut calls = young.take().or_else(|| self.old.remove(&key)).unwrap_or(stored);
        calls.add(spans, changes);
        self.young_spans = (self.young_spans + calls.weight()).saturating_sub(before);
        self.young.insert(key, calls);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn span(id: u64, parent: u64, service: &str) -> CallSpan {
        CallSpan {
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            start_ns: id,
            service: Arc::from(service),
        }
    }

    fn sums(changes: &[CallChanges]) -> Vec<(String, String, i64)> {
        let mut sums = BTreeMap::new();
        for (_, parent, child, by) in changes.iter().flat_map(CallChanges::iter) {
            *sums.entry((parent.to_string(), child.to_string())).or_insert(0) += by;
        }
        sums.into_iter().filter(|(_, by)| *by != 0).map(|((parent, child), by)| (parent, child, by)).collect()
    }

    fn total(spans: &[CallSpan]) -> Vec<(String, String, i64)> {
        let mut calls = TraceCalls::default();
        let mut add = |span: &CallSpan| {
            let mut changes = CallChanges::default();
            calls.add([span.clone()], &mut changes);
            changes
        };
        sums(&spans.iter().map(&mut add).collect::<Vec<_>>())
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
        assert_eq!(total(&[span(1, 0, "a"), span(0, 0, "b")]), [], "a root has no parent");
    }

    /// Small traces are looked through, large ones looked up: both say the same.
    #[test]
    fn large_traces_are_paired_as_small_ones() {
        let services = ["a", "b", "c"];
        let trace: Vec<_> = (1..=200).map(|id| span(id, id / 2, services[(id * 7 % 3) as usize])).collect();
        let mut calls = BTreeMap::new();
        for child in trace.iter().filter(|span| !span.parent_span_id.is_zero()) {
            let parent = trace.iter().find(|span| span.span_id == child.parent_span_id).unwrap();
            if parent.service != child.service {
                *calls.entry((parent.service.to_string(), child.service.to_string())).or_insert(0) += 1;
            }
        }
        let expected: Vec<_> = calls.into_iter().map(|((parent, child), by)| (parent, child, by)).collect();
        assert_eq!(total(&trace), expected);
        let shuffled: Vec<_> = (0..200).map(|index| trace[index * 77 % 200].clone()).collect();
        assert_eq!(total(&shuffled), expected);
    }

    #[test]
    fn a_trace_above_the_limit_is_paired_up_to_it_wherever_its_spans_come_from() {
        let first =
            || (1..=TRACE_PAIRED_SPANS_MAX as u64).map(|id| span(id, id - 1, if id % 2 == 0 { "a" } else { "b" }));
        let late = || [span(900_000, 1, "late"), span(900_001, 900_000, "later")];
        let key = (TenantId::default(), TraceId([1; 16]));
        let mut window = CallWindow::new(1000);
        let mut changes = CallChanges::default();
        window.add(&key.0, key.1, TraceCalls::default(), first(), &mut changes);
        assert_eq!(changes.iter().map(|(.., by)| by).sum::<i64>(), TRACE_PAIRED_SPANS_MAX as i64 - 1);
        let mut none = CallChanges::default();
        window.add(&key.0, key.1, TraceCalls::default(), late(), &mut none);
        window.add(&key.0, key.1, TraceCalls::default(), late(), &mut none);
        assert!(window.knows(&key.0, key.1) && none.is_empty());
        // Forgotten and read again from disk, in any order: still closed.
        let mut window = CallWindow::new(1000);
        let mut stored = TraceCalls::default();
        late().into_iter().chain(first()).for_each(|span| stored.add_known(span));
        assert!(stored.is_closed());
        window.add(&key.0, key.1, stored, late(), &mut none);
        window.add(&key.0, key.1, TraceCalls::default(), [span(900_002, 1, "latest")], &mut none);
        assert!(none.is_empty());
    }

    /// One id of many services below which many children wait: memory follows the calls, not their history.
    #[test]
    fn parents_that_keep_changing_cost_no_memory() {
        let children = (0..2_000).map(|id| span(10_000 + id, 1, "child"));
        let parents = (0..2_000).map(|id| CallSpan { start_ns: id, ..span(1, 0, "parent") });
        let mut calls = TraceCalls::default();
        let mut changes = CallChanges::default();
        calls.add(children.chain(parents), &mut changes);
        assert_eq!(changes.by_call.len(), 1);
        assert_eq!(sums(&[changes]), [("parent".to_owned(), "child".to_owned(), 2_000)]);
    }
}
