//! The reference store of traces: every answer is computed by looking at every span.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use pharos_model::{Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs, TraceId};

use crate::{
    AppendOutcome, AttributeKey, AttributeKeyQuery, BatchId, Completion, DEPENDENCY_STEP_NS, DependencyLink,
    FoundTraces, LISTED_KEY_BYTES_MAX, LISTED_VALUE_BYTES_MAX, Listed, ListedValue, Operation, OperationQuery,
    ReadContext, SpanPredicate, StorageError, Trace, TraceHit, TraceLookup, TraceQuery, TraceStore, TraceStoreStats,
    TraceStream, TraceSummary, ValueQuery, dependency_minutes, predicate_holds, span_kind_name, span_passes,
    visit_attribute_keys, visit_listed_values,
};

/// A store of traces in memory; keeps everything for ever and refuses nothing.
#[derive(Debug, Default)]
pub struct MemoryTraceStore {
    tenants: Mutex<HashMap<TenantId, BTreeMap<TraceId, StoredTrace>>>,
    /// Spans that are not stored and whose calls count.
    unstored: Mutex<HashMap<TenantId, BTreeMap<TraceId, StoredTrace>>>,
    warnings: Mutex<Warnings>,
}

/// What answers say beside what was found.
#[derive(Debug, Clone, Default)]
struct Warnings {
    of_searches: Vec<String>,
    of_traces: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct StoredTrace {
    spans: Vec<StoredSpan>,
    by_id: HashMap<SpanId, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
struct StoredSpan {
    resource: Arc<Resource>,
    scope: Arc<Scope>,
    span: Span,
}

impl StoredTrace {
    fn insert(&mut self, stored: StoredSpan) {
        let same_id = self.by_id.entry(stored.span.span_id).or_default();
        if same_id.iter().all(|&index| self.spans[index] != stored) {
            same_id.push(self.spans.len());
            self.spans.push(stored);
        }
    }

    fn trace(&self, trace_id: TraceId) -> Trace {
        let mut groups: Vec<SpanGroup> = Vec::new();
        for StoredSpan { resource, scope, span } in &self.spans {
            match groups.iter_mut().find(|group| group.resource == *resource && group.scope == *scope) {
                Some(group) => group.spans.push(span.clone()),
                None => groups.push(SpanGroup {
                    resource: Arc::clone(resource),
                    scope: Arc::clone(scope),
                    spans: vec![span.clone()],
                }),
            }
        }
        Trace { trace_id, groups, warnings: Vec::new() }
    }

    /// Calls whose child starts in the minutes: each child once, whatever else its copies differ in.
    fn calls(&self, minutes: (u64, u64)) -> BTreeSet<(SpanId, SpanId, u64, &str, &str)> {
        let mut calls = BTreeSet::new();
        for child in &self.spans {
            let minute = child.span.start_ns / DEPENDENCY_STEP_NS;
            if child.span.parent_span_id.is_zero() || minute < minutes.0 || minutes.1 < minute {
                continue;
            }
            let service = child.resource.service_name();
            let parents = self.by_id.get(&child.span.parent_span_id).map_or(&[][..], Vec::as_slice);
            let callers: BTreeSet<&str> =
                parents.iter().map(|&index| self.spans[index].resource.service_name()).collect();
            if let Some(caller) = callers.first().filter(|_| !callers.contains(service)) {
                let Span { span_id, parent_span_id, start_ns, .. } = child.span;
                calls.insert((span_id, parent_span_id, start_ns, *caller, service));
            }
        }
        calls
    }
}

fn insert(traces: &mut BTreeMap<TraceId, StoredTrace>, batch: SpanBatch) {
    for SpanGroup { resource, scope, spans } in batch.groups {
        for span in spans {
            let (resource, scope) = (Arc::clone(&resource), Arc::clone(&scope));
            traces.entry(span.trace_id).or_default().insert(StoredSpan { resource, scope, span });
        }
    }
}

impl MemoryTraceStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on searches, and traces with their summaries, come with these warnings, as those of a damaged store do: to see
    /// who tells them on.
    pub fn warn(&self, of_searches: &[&str], of_traces: &[&str]) {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        *self.warnings.lock() = Warnings { of_searches: owned(of_searches), of_traces: owned(of_traces) };
    }

    fn read<R>(&self, tenant: &TenantId, read: impl FnOnce(&BTreeMap<TraceId, StoredTrace>) -> R) -> R {
        let tenants = self.tenants.lock();
        match tenants.get(tenant) {
            Some(traces) => read(traces),
            None => read(&BTreeMap::new()),
        }
    }

    /// What `visit` adds for each span that starts in the range and passes.
    fn list<T: Ord>(
        &self,
        tenant: &TenantId,
        (range, predicate, limit): (TimeRangeNs, Option<&SpanPredicate>, usize),
        visit: impl Fn(&StoredSpan, &mut BTreeSet<T>),
    ) -> Listed<T> {
        let mut found = BTreeSet::new();
        self.read(tenant, |traces| {
            for stored in traces.values().flat_map(|stored| &stored.spans) {
                let StoredSpan { resource, scope, span } = stored;
                if range.contains(span.start_ns)
                    && predicate.is_none_or(|predicate| predicate_holds(predicate, resource, scope, span))
                {
                    visit(stored, &mut found);
                }
            }
        });
        let is_complete = found.len() <= limit;
        Listed { entries: found.into_iter().take(limit).collect(), is_complete }
    }

    fn lookup(&self, tenant: &TenantId, lookups: &[TraceLookup]) -> Vec<Trace> {
        let warnings = self.warnings.lock().of_traces.clone();
        self.read(tenant, |traces| {
            let found = |lookup: &TraceLookup| {
                let trace = traces.get(&lookup.trace_id)?.trace(lookup.trace_id);
                Some(Trace { warnings: warnings.clone(), ..trace })
            };
            lookups.iter().filter_map(found).collect()
        })
    }
}

impl TraceStore for MemoryTraceStore {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        _id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        let outcome = AppendOutcome { items: batch.span_count() as u64, ..AppendOutcome::default() };
        insert(self.tenants.lock().entry(tenant.clone()).or_default(), batch);
        Completion::ready(Ok(outcome))
    }

    fn traces(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        _context: &ReadContext,
    ) -> Result<TraceStream, StorageError> {
        Ok(Box::new(self.lookup(tenant, lookups).into_iter().map(Ok)))
    }

    fn find(&self, tenant: &TenantId, query: &TraceQuery, context: &ReadContext) -> Result<FoundTraces, StorageError> {
        let warnings = self.warnings.lock().of_searches.clone();
        self.read(tenant, |traces| {
            let mut hits = Vec::new();
            for (&trace_id, stored) in traces {
                context.check()?;
                let passing = stored
                    .spans
                    .iter()
                    .filter(|stored| span_passes(query, &stored.resource, &stored.scope, &stored.span));
                if let Some(start_ns) = passing.map(|stored| stored.span.start_ns).max() {
                    hits.push(TraceHit { trace_id, start_ns });
                }
            }
            hits.sort_by_key(|hit| (Reverse(hit.start_ns), hit.trace_id));
            hits.truncate(query.limit);
            Ok(FoundTraces { hits, warnings })
        })
    }

    fn summaries(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        _context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError> {
        Ok(self.lookup(tenant, lookups).iter().map(TraceSummary::of).collect())
    }

    fn services(&self, tenant: &TenantId) -> Result<Vec<String>, StorageError> {
        let names = self.read(tenant, |traces| {
            let spans = traces.values().flat_map(|stored| &stored.spans);
            spans.map(|stored| stored.resource.service_name().to_owned()).collect::<BTreeSet<_>>()
        });
        Ok(names.into_iter().collect())
    }

    fn operations(&self, tenant: &TenantId, query: &OperationQuery) -> Result<Vec<Operation>, StorageError> {
        let operations = self.read(tenant, |traces| {
            let spans = traces.values().flat_map(|stored| &stored.spans);
            spans
                .filter(|stored| stored.resource.service_name() == query.service)
                .filter(|stored| query.kind.is_none_or(|kind| kind == stored.span.kind))
                .map(|stored| Operation { name: stored.span.name.clone(), kind: span_kind_name(stored.span.kind) })
                .collect::<BTreeSet<_>>()
        });
        Ok(operations.into_iter().collect())
    }

    fn attribute_keys(
        &self,
        tenant: &TenantId,
        query: &AttributeKeyQuery,
        _context: &ReadContext,
    ) -> Result<Listed<AttributeKey>, StorageError> {
        Ok(self.list(tenant, (query.range, query.predicate.as_ref(), query.limit), |stored, found| {
            visit_attribute_keys(query.level, (&stored.resource, &stored.scope, &stored.span), |level, key| {
                if key.len() <= LISTED_KEY_BYTES_MAX {
                    found.insert(AttributeKey { level, key: key.to_owned() });
                }
            });
        }))
    }

    fn listed_values(
        &self,
        tenant: &TenantId,
        query: &ValueQuery,
        _context: &ReadContext,
    ) -> Result<Listed<ListedValue>, StorageError> {
        query.check()?;
        Ok(self.list(tenant, (query.range, query.predicate.as_ref(), query.limit), |stored, found| {
            visit_listed_values(&query.of, (&stored.resource, &stored.scope, &stored.span), |value_type, text| {
                if text.len() <= LISTED_VALUE_BYTES_MAX {
                    found.insert(ListedValue { text: text.to_owned(), value_type });
                }
            });
        }))
    }

    fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<Vec<DependencyLink>, StorageError> {
        context.check()?;
        let Some(minutes) = dependency_minutes(range) else { return Ok(Vec::new()) };
        // With stored spans, those that only count: both are paired.
        let mut joined = self.unstored.lock().get(tenant).cloned().unwrap_or_default();
        let counts = self.read(tenant, |traces| {
            for (trace_id, unstored) in &mut joined {
                let stored = traces.get(trace_id).into_iter().flat_map(|stored| &stored.spans);
                stored.for_each(|span| unstored.insert(span.clone()));
            }
            let others = traces.iter().filter(|(trace_id, _)| !joined.contains_key(trace_id));
            let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
            let calls = others.map(|(_, stored)| stored).chain(joined.values()).flat_map(|trace| trace.calls(minutes));
            for (_, _, _, parent, child) in calls {
                *counts.entry((parent.to_owned(), child.to_owned())).or_default() += 1;
            }
            counts
        });
        let link = |((parent, child), call_count)| DependencyLink { parent, child, call_count };
        Ok(counts.into_iter().map(link).collect())
    }

    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> Completion<Result<AppendOutcome, StorageError>> {
        let outcome = AppendOutcome { items: batch.span_count() as u64, ..AppendOutcome::default() };
        insert(self.unstored.lock().entry(tenant.clone()).or_default(), batch.clone());
        Completion::ready(Ok(outcome))
    }

    fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        if let Some(traces) = self.tenants.lock().get_mut(tenant) {
            traces.remove(&trace_id);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn stats(&self) -> TraceStoreStats {
        let tenants = self.tenants.lock();
        let spans = tenants.values().flat_map(BTreeMap::values).map(|stored| stored.spans.len() as u64);
        TraceStoreStats { tail_spans: spans.sum(), ..TraceStoreStats::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::traces::{TraceSubject, check_all};

    impl TraceSubject for MemoryTraceStore {
        fn store(&self) -> &dyn TraceStore {
            self
        }
    }

    #[test]
    fn the_reference_keeps_the_contract() {
        check_all(1_800_000_000_000_000_000, &mut || Box::new(MemoryTraceStore::new()));
    }
}
