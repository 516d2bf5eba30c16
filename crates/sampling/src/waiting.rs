//! Traces that wait to be judged, and judgements that late spans ask for.
//!
//! Invariants
//! - T1 The queue holds every waiting trace once, in the order of arrival of their first spans.
//! - T2 A file of the log is needed while a trace waits that has spans in it, or spans of it are on their way into the store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use pharos_model::{Attribute, AttributeValue, Span, SpanBatch, SpanGroup, TenantId, TraceId};

use crate::policy::Decision;

/// A tenant's trace.
pub(crate) type Key = (TenantId, TraceId);

/// Spans of one trace.
#[derive(Debug)]
pub(crate) struct WaitingTrace {
    pub(crate) trace_id: TraceId,
    pub(crate) groups: Vec<SpanGroup>,
    pub(crate) span_count: usize,
    pub(crate) bytes: usize,
    /// Files of the log that its spans are in.
    pub(crate) files: Vec<u64>,
}

impl WaitingTrace {
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

    fn push(&mut self, group: &SpanGroup, span: Span) {
        self.bytes += span_bytes(&span);
        self.span_count += 1;
        let is_same =
            |last: &SpanGroup| Arc::ptr_eq(&last.resource, &group.resource) && Arc::ptr_eq(&last.scope, &group.scope);
        if let Some(last) = self.groups.last_mut().filter(|last| is_same(last)) {
            last.spans.push(span);
        } else {
            self.bytes += size_of::<SpanGroup>() + attribute_bytes(&group.resource.attributes);
            let (resource, scope) = (Arc::clone(&group.resource), Arc::clone(&group.scope));
            self.groups.push(SpanGroup { resource, scope, spans: vec![span] });
        }
    }
}

/// What happened to the spans of a batch.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// Of traces that were judged and are kept, with the thresholds to be recorded.
    pub(crate) kept: Vec<(WaitingTrace, u64)>,
    /// Of traces that were judged and dropped.
    pub(crate) dropped: u64,
}

/// All traces that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    traces: HashMap<Key, WaitingTrace>,
    queue: VecDeque<(i64, Key)>,
    bytes: usize,
    recent: HashMap<Key, Decision>,
    older: HashMap<Key, Decision>,
    decisions_max: usize,
    /// How many traces need each file of the log.
    needed: BTreeMap<u64, usize>,
}

impl Waiting {
    pub(crate) fn new(decisions_max: usize) -> Self {
        Self {
            traces: HashMap::new(),
            queue: VecDeque::new(),
            bytes: 0,
            recent: HashMap::new(),
            older: HashMap::new(),
            decisions_max,
            needed: BTreeMap::new(),
        }
    }

    /// Takes a batch that is in `file` of the log. New traces wait until `deadline_ms`.
    pub(crate) fn admit(&mut self, tenant: &TenantId, batch: SpanBatch, file: u64, deadline_ms: i64) -> Admitted {
        let mut admitted = Admitted::default();
        let mut late: HashMap<TraceId, (WaitingTrace, u64)> = HashMap::new();
        for mut group in batch.groups {
            for span in std::mem::take(&mut group.spans) {
                let key = (tenant.clone(), span.trace_id);
                match self.decision(&key) {
                    Some(None) => admitted.dropped += 1,
                    Some(Some(threshold)) => {
                        let entry = late.entry(span.trace_id);
                        entry.or_insert_with(|| (empty(span.trace_id), threshold)).0.push(&group, span);
                    }
                    None => self.wait(key, &group, span, file, deadline_ms),
                }
            }
        }
        admitted.kept = late.into_values().collect();
        for (trace, _) in &mut admitted.kept {
            trace.files.push(file);
            *self.needed.entry(file).or_default() += 1;
        }
        admitted
    }

    fn wait(&mut self, key: Key, group: &SpanGroup, span: Span, file: u64, deadline_ms: i64) {
        let trace = match self.traces.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.queue.push_back((deadline_ms, entry.key().clone()));
                let new = empty(entry.key().1);
                self.bytes += new.bytes;
                entry.insert(new)
            }
        };
        let before = trace.bytes;
        trace.push(group, span);
        self.bytes += trace.bytes - before;
        if trace.files.last() != Some(&file) {
            trace.files.push(file);
            *self.needed.entry(file).or_default() += 1;
        }
    }

    /// Takes out the trace that came first, if its time is over or there is no room for it.
    pub(crate) fn pop(&mut self, now_ms: i64, traces_max: usize, bytes_max: usize) -> Option<(Key, WaitingTrace)> {
        let is_full = self.queue.len() > traces_max || self.bytes > bytes_max;
        let (_, key) = self.queue.pop_front_if(|(deadline_ms, _)| is_full || *deadline_ms <= now_ms)?;
        let trace = self.traces.remove(&key)?;
        self.bytes -= trace.bytes;
        Some((key, trace))
    }

    /// Remembers what became of a trace.
    pub(crate) fn remember(&mut self, key: Key, decision: Decision) {
        if self.recent.len() >= self.decisions_max.div_ceil(2) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, decision);
    }

    fn decision(&self, key: &Key) -> Option<Decision> {
        self.recent.get(key).or_else(|| self.older.get(key)).copied()
    }

    /// A trace no longer needs its files of the log.
    pub(crate) fn release(&mut self, files: &[u64]) {
        for file in files {
            if let Some(count) = self.needed.get_mut(file) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(file);
                }
            }
        }
    }

    /// The first file of the log that is needed.
    pub(crate) fn first_needed(&self) -> Option<u64> {
        self.needed.keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn empty(trace_id: TraceId) -> WaitingTrace {
    WaitingTrace { trace_id, groups: Vec::new(), span_count: 0, bytes: size_of::<WaitingTrace>(), files: Vec::new() }
}

/// Memory of a span, roughly.
fn span_bytes(span: &Span) -> usize {
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
