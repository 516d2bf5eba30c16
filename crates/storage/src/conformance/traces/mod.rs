//! Conformance of trace stores.
//!
//! Every case writes, lets the engine settle as it likes (not at all, flush, compaction, restart) and reads:
//! run the whole suite once for each way of settling.

mod cases;
mod generator;
mod lists;
mod predicates;
mod shop;

use pharos_model::{SpanBatch, TenantId, TimeRangeNs, TraceId};

pub use generator::{SpanGenerator, random_query};
pub use predicates::random_predicate;
pub use shop::ShopTraces;

use crate::memory::MemoryTraceStore;
use crate::{AppendOutcome, BatchId, OperationQuery, ReadContext, Trace, TraceLookup, TraceQuery, TraceStore};

/// A store under test.
pub trait TraceSubject {
    /// The store.
    fn store(&self) -> &dyn TraceStore;

    /// Called between writing and reading: flush, compact, reopen, or nothing. Afterwards
    /// [`TraceSubject::store`] must hold the same spans.
    fn settle(&mut self) {}
}

/// Runs every case, each on a new, empty store.
///
/// `now_ns` is the engine's clock; all spans start within two days before it.
///
/// # Panics
/// Where the store breaks the contract.
pub fn check_all(now_ns: u64, open: &mut dyn FnMut() -> Box<dyn TraceSubject>) {
    assert!(!open().store().is_busy(), "a store at rest");
    for case in cases::ALL {
        (case.run)(&mut Case { subject: open(), now_ns, name: case.name });
    }
}

/// One case on one store.
pub(super) struct Case {
    subject: Box<dyn TraceSubject>,
    now_ns: u64,
    name: &'static str,
}

impl Case {
    fn append_to(&self, tenant: &TenantId, batch: SpanBatch) -> AppendOutcome {
        let completion = self.subject.store().append(tenant, batch, BatchId::random());
        completion.wait().expect(self.name).expect(self.name)
    }

    fn append(&self, batch: SpanBatch) {
        let span_count = batch.span_count() as u64;
        let outcome = self.append_to(&TenantId::default(), batch);
        assert_eq!((outcome.items, outcome.rejected()), (span_count, 0), "{}", self.name);
    }

    fn find(&self, query: &TraceQuery) -> Vec<(TraceId, u64)> {
        let found = self.subject.store().find(&TenantId::default(), query, &ReadContext::unlimited());
        found.expect(self.name).hits.iter().map(|hit| (hit.trace_id, hit.start_ns)).collect()
    }

    fn traces(&self, ids: &[TraceId]) -> Vec<Trace> {
        read_traces(self.subject.store(), &TenantId::default(), ids)
    }
}

fn read_traces(store: &dyn TraceStore, tenant: &TenantId, ids: &[TraceId]) -> Vec<Trace> {
    let lookups: Vec<_> = ids.iter().map(|id| TraceLookup { trace_id: *id, range: None }).collect();
    let stream = store.traces(tenant, &lookups, &ReadContext::unlimited()).expect("traces can be read");
    stream.map(|trace| trace.expect("a trace can be read")).collect()
}

/// All spans of a trace with their resource and scope, in an order of their own: groups and order are the
/// engine's business.
#[must_use]
pub fn comparable(trace: &Trace) -> Vec<String> {
    let mut spans = Vec::new();
    for group in &trace.groups {
        spans.extend(group.spans.iter().map(|span| format!("{span:?} {:?} {:?}", group.scope, group.resource)));
    }
    spans.sort();
    spans
}

/// Asks both stores everything about `ids` and `queries` and compares.
///
/// # Panics
/// Where the answers differ.
pub fn check_equal(
    store: &dyn TraceStore,
    oracle: &MemoryTraceStore,
    tenant: &TenantId,
    ids: &[TraceId],
    queries: &[TraceQuery],
) {
    let context = ReadContext::unlimited();
    let lookups: Vec<_> = ids.iter().map(|id| TraceLookup { trace_id: *id, range: None }).collect();
    let (mine, expected) = (read_traces(store, tenant, ids), read_traces(oracle, tenant, ids));
    assert_eq!(mine.len(), expected.len(), "number of traces");
    for (mine, expected) in mine.iter().zip(&expected) {
        assert_eq!(mine.trace_id, expected.trace_id, "order of traces");
        assert_eq!(comparable(mine), comparable(expected), "spans of {}", mine.trace_id);
    }
    for query in queries {
        let mine = store.find(tenant, query, &context).expect("search works");
        let expected = oracle.find(tenant, query, &context).expect("search works");
        assert_eq!(mine.hits, expected.hits, "hits of {query:?}");
    }
    assert_eq!(
        store.summaries(tenant, &lookups, &context).expect("summaries can be read"),
        oracle.summaries(tenant, &lookups, &context).expect("summaries can be read"),
    );
    let services = oracle.services(tenant).expect("services can be listed");
    assert_eq!(store.services(tenant).expect("services can be listed"), services);
    for service in services {
        let query = OperationQuery { service, kind: None };
        assert_eq!(
            store.operations(tenant, &query).expect("operations can be listed"),
            oracle.operations(tenant, &query).expect("operations can be listed"),
        );
    }
    let ranges = queries.iter().map(|query| query.start).chain([TimeRangeNs::ALL]);
    for range in ranges {
        assert_eq!(
            store.dependencies(tenant, range, &context).expect("dependencies can be listed"),
            oracle.dependencies(tenant, range, &context).expect("dependencies can be listed"),
            "dependencies in {range:?}"
        );
    }
}
