//! The contract of a store of traces.

use std::num::NonZeroUsize;
use std::sync::Arc;

use pharos_base::Completion;
use pharos_model::{SpanBatch, SpanGroup, SpanKind, StatusCode, TenantId, TimeRangeNs, TraceId};

use crate::{
    AppendOutcome, AttributeKey, AttributeKeyQuery, BatchId, Listed, ListedValue, ReadContext, Rejection,
    SpanPredicate, StorageError, ValueQuery,
};

/// One trace to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLookup {
    /// Which.
    pub trace_id: TraceId,
    /// Where to look, if the caller knows: partitions outside may be skipped. The whole trace is
    /// returned as far as it lies in the partitions looked at, also spans outside the range.
    pub range: Option<TimeRangeNs>,
}

/// A trace, complete: all its spans, equal ones once. Where some of them cannot be read, the others, and a warning that says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its spans by resource and scope.
    pub groups: Vec<SpanGroup>,
    /// What the reader should know, such as a limit that cut it, or damage.
    pub warnings: Vec<String>,
}

/// Traces in the order they were asked for; absent ones are left out. After an error the stream ends.
pub type TraceStream = Box<dyn Iterator<Item = Result<Trace, StorageError>> + Send>;

/// Some of a trace's spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TracePart {
    /// Whose they are.
    pub trace_id: TraceId,
    /// Spans by resource and scope; the same resource may come again in a later part.
    pub groups: Vec<SpanGroup>,
    /// What the reader should know; in the last part only.
    pub warnings: Vec<String>,
    /// Whether no more of this trace follows.
    pub is_last: bool,
}

impl TracePart {
    /// How many spans it holds.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }
}

/// Parts of traces: those of one trace one after the other, the traces in the order they were asked for; absent ones
/// are left out. All parts of a trace together are what [`TraceStore::traces`] hands out. After an error the stream ends.
pub type TracePartStream = Box<dyn Iterator<Item = Result<TracePart, StorageError>> + Send>;

impl Trace {
    /// Cuts the trace into parts of at most `spans_max` spans, without copying spans.
    pub fn into_parts(self, spans_max: NonZeroUsize) -> impl Iterator<Item = TracePart> + Send {
        let Self { trace_id, groups, warnings } = self;
        let mut warnings = Some(warnings);
        let mut left = groups.into_iter().filter(|group| !group.spans.is_empty()).peekable();
        let mut rest: Option<(SpanGroup, std::vec::IntoIter<pharos_model::Span>)> = None;
        std::iter::from_fn(move || {
            warnings.as_ref()?;
            let (mut part, mut room) = (Vec::new(), spans_max.get());
            while room > 0 {
                let Some((group, mut spans)) = rest.take().or_else(|| {
                    let mut group = left.next()?;
                    let spans = std::mem::take(&mut group.spans).into_iter();
                    Some((group, spans))
                }) else {
                    break;
                };
                let taken: Vec<_> = spans.by_ref().take(room).collect();
                room -= taken.len();
                let (resource, scope) = (Arc::clone(&group.resource), Arc::clone(&group.scope));
                part.push(SpanGroup { resource, scope, spans: taken });
                if spans.len() > 0 {
                    rest = Some((group, spans));
                }
            }
            let is_last = rest.is_none() && left.peek().is_none();
            let warnings = if is_last { warnings.take().unwrap_or_default() } else { Vec::new() };
            Some(TracePart { trace_id, groups: part, warnings, is_last })
        })
    }
}

/// A test on one span beyond service, operation, time and duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanFilter {
    /// An attribute of the span, its scope, resource, one of its events or links has this key and, as
    /// Jaeger renders it (`123`, `72.5`, `true`), this value.
    Attribute {
        /// The key.
        key: String,
        /// The rendered value.
        value: String,
    },
    /// As `Attribute`, but only of the resource.
    ResourceAttribute {
        /// The key.
        key: String,
        /// The rendered value.
        value: String,
    },
    /// The span's role.
    Kind(SpanKind),
    /// How it ended.
    Status(StatusCode),
    /// It ended in any other way.
    NotStatus(StatusCode),
    /// The scope's name.
    ScopeName(String),
    /// The scope's version.
    ScopeVersion(String),
}

/// A search for traces. All tests hold on **one** span; then its whole trace is a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceQuery {
    /// The resource's `service.name`.
    pub service: Option<String>,
    /// The span's name.
    pub operation: Option<String>,
    /// Further tests.
    pub filters: Vec<SpanFilter>,
    /// A test as a tree. An engine that cannot answer a tree exactly says [`StorageError::Unsupported`].
    pub predicate: Option<SpanPredicate>,
    /// The span starts in `[start, end)`.
    pub start: TimeRangeNs,
    /// The span takes at least this long, nanoseconds.
    pub duration_min_ns: Option<u64>,
    /// The span takes at most this long, nanoseconds.
    pub duration_max_ns: Option<u64>,
    /// At most this many traces.
    pub limit: usize,
}

/// A trace that a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceHit {
    /// Which.
    pub trace_id: TraceId,
    /// Start of its newest span that passed, Unix nanoseconds: hits are sorted by this, newest first,
    /// then by trace id ascending.
    pub start_ns: u64,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundTraces {
    /// Exactly the newest `limit` hits, newest first.
    pub hits: Vec<TraceHit>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// How many spans of a trace one service sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpanCount {
    /// The service.
    pub service: String,
    /// Its spans.
    pub spans: u64,
    /// Those of them that ended in error.
    pub errors: u64,
}

/// A trace in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSummary {
    /// Which.
    pub trace_id: TraceId,
    /// Service of the root span; empty where the root has not arrived.
    pub root_service: String,
    /// Name of the root span; empty where the root has not arrived.
    pub root_operation: String,
    /// Earliest start, Unix nanoseconds.
    pub start_ns: u64,
    /// Latest end, Unix nanoseconds.
    pub end_ns: u64,
    /// All spans.
    pub span_count: u64,
    /// Spans that ended in error.
    pub error_count: u64,
    /// Spans whose parent is not in the trace, beside the root.
    pub orphan_count: u64,
    /// By service, ascending by name.
    pub services: Vec<ServiceSpanCount>,
    /// What the reader should know: of what cannot be read nothing is counted.
    pub warnings: Vec<String>,
}

/// Which operations to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationQuery {
    /// Of this service.
    pub service: String,
    /// Of this kind only.
    pub kind: Option<SpanKind>,
}

/// An operation of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// The span name.
    pub name: String,
    /// `server`, `client`, `producer`, `consumer`, `internal`; empty where unspecified.
    pub kind: &'static str,
}

/// Calls from one service to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DependencyLink {
    /// The caller.
    pub parent: String,
    /// The called.
    pub child: String,
    /// How many calls.
    pub call_count: u64,
}

/// What a store says about itself, for its own metrics; all tenants together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceStoreStats {
    /// Day partitions on disk.
    pub partitions: u64,
    /// Sealed runs of spans on disk: what a lookup by id has to ask.
    pub segments: u64,
    /// Days that cannot be opened or have files that cannot be joined, of a store that has such.
    pub damaged_days: u64,
    /// Of these runs, those that could not be read when it was tried to merge them.
    pub damaged_segments: u64,
    /// Places that reads and searches came to since the start and could not read: blocks of spans, their locators, resources.
    pub damaged_places: u64,
    /// Bytes of log not yet in partitions.
    pub log_bytes: u64,
    /// Bytes of spans on disk.
    pub row_bytes: u64,
    /// Bytes of search index on disk.
    pub index_bytes: u64,
    /// Spans searched from memory, not yet in the index.
    pub tail_spans: u64,
    /// Spans indexed.
    pub indexed_spans: u64,
    /// Whether writes are refused at the moment (disk full, failed sync).
    pub read_only: bool,
}

/// A store of traces. See the crate's rules S1 to S5.
pub trait TraceStore: Send + Sync {
    /// Stores spans; completes when they are durable, readable by id and found by search.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the batch cannot be made durable now. Spans outside retention are
    /// rejections in the outcome.
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>>;

    /// Whether the store takes spans of this tenant, as [`MetricStore::admits`](crate::MetricStore::admits). The default takes all.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        let _ = tenant;
        Ok(())
    }

    /// Whether the store asks writers to wait a moment, as [`MetricStore::is_busy`](crate::MetricStore::is_busy). The default never does.
    fn is_busy(&self) -> bool {
        false
    }

    /// Takes out of `batch` the spans that [`append`](Self::append) would reject now, and says why: for who acknowledges
    /// spans before the store sees them. What is left may still be rejected later, when time has passed. The default is that
    /// of a store which rejects nothing.
    fn screen(&self, tenant: &TenantId, batch: &mut SpanBatch) -> Vec<Rejection> {
        let _ = (tenant, batch);
        Vec::new()
    }

    /// Reads whole traces.
    ///
    /// # Errors
    /// In the stream, too. A trace of which nothing can be read is one; of which some can, is not.
    fn traces(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<TraceStream, StorageError>;

    /// Reads whole traces in parts of at most `spans_max` spans, so that a trace of any size passes through memory
    /// piece by piece. The default reads each trace whole and cuts it; a store that can, decodes no more than a part.
    fn trace_parts(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        spans_max: NonZeroUsize,
        context: &ReadContext,
    ) -> Result<TracePartStream, StorageError> {
        let cut = move |trace: Result<Trace, StorageError>| -> TracePartStream {
            match trace {
                Ok(trace) => Box::new(trace.into_parts(spans_max).map(Ok)),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        };
        Ok(Box::new(self.traces(tenant, lookups, context)?.flat_map(cut)))
    }

    /// Finds the newest traces that pass.
    fn find(&self, tenant: &TenantId, query: &TraceQuery, context: &ReadContext) -> Result<FoundTraces, StorageError>;

    /// Traces in short, in the order they were asked for; absent ones are left out.
    fn summaries(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError>;

    /// Services seen within retention, ascending.
    fn services(&self, tenant: &TenantId) -> Result<Vec<String>, StorageError>;

    /// Operations of a service seen within retention, ascending.
    fn operations(&self, tenant: &TenantId, query: &OperationQuery) -> Result<Vec<Operation>, StorageError>;

    /// Keys of attributes, for completion. Rules: L1 to L4 of [`Listed`]'s module.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] by a store without a catalogue (the default).
    fn attribute_keys(
        &self,
        tenant: &TenantId,
        query: &AttributeKeyQuery,
        context: &ReadContext,
    ) -> Result<Listed<AttributeKey>, StorageError> {
        let _ = (tenant, query, context);
        Err(StorageError::Unsupported { what: "lists of attribute keys".to_owned() })
    }

    /// Values of attributes and of some fields, for completion. Rules: L1 to L4 of [`Listed`]'s module.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for what [`ValueQuery::check`] refuses, and by a store without a catalogue (the default).
    fn listed_values(
        &self,
        tenant: &TenantId,
        query: &ValueQuery,
        context: &ReadContext,
    ) -> Result<Listed<ListedValue>, StorageError> {
        let _ = (tenant, query, context);
        Err(StorageError::Unsupported { what: "lists of values".to_owned() })
    }

    /// Calls between services whose child spans start in the range, widened to whole minutes; ascending by
    /// parent and child.
    ///
    /// A call is a span whose parent is a span of another service. Spans that agree in id, parent, service
    /// and start are one call; where several services sent a span with the parent's id, the
    /// alphabetically first is the caller, and there is no call if the child's own is among them.
    ///
    /// # Errors
    /// [`StorageError::Interrupted`] and [`StorageError::Memory`] where the bounds of `context` end it.
    fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<Vec<DependencyLink>, StorageError>;

    /// Counts the calls of spans that are not stored, as a gate before the store drops them: [`TraceStore::dependencies`]
    /// answers as if they were. To no other read they are there. Completes when that is durable, with the number of spans that were
    /// looked at.
    ///
    /// Spans pair with each other and with stored ones of their trace, in whatever order they come. A store remembers a limited
    /// number of recent spans, and those until it is closed: for as long, spans that come again, or to both this and
    /// [`TraceStore::append`], are one call, and late ones find those that are not stored. Spans outside retention count for nothing. The default, of a store that can only count what it
    /// stores, counts none.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it cannot be made durable now.
    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> Completion<Result<AppendOutcome, StorageError>> {
        let _ = (tenant, batch);
        Completion::ready(Ok(AppendOutcome::default()))
    }

    /// Deletes a trace: on return its spans are in no answer any more, of reads by id or of searches, and stay away
    /// after power loss. Its bytes go with a later merge. What was counted from it stays: services, operations and calls.
    /// Spans of it that are appended later are stored as those of any trace. A trace that is not there is no error.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the deletion cannot be made durable now, [`StorageError::Unsupported`] by a store
    /// whose operator has other means (the default).
    fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        let _ = (tenant, trace_id);
        Err(StorageError::Unsupported { what: "deletion of traces".to_owned() })
    }

    /// Brings everything in memory to its final place on disk and empties the log; returns when done.
    fn flush(&self) -> Result<(), StorageError>;

    /// Flushes, then merges as far as merging goes; returns when done.
    fn compact(&self) -> Result<(), StorageError>;

    /// Makes a snapshot called `name` of everything acknowledged before the call, whole even after power loss. All
    /// tenants together.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a name that is taken or cannot be one, [`StorageError::Unsupported`] by a store
    /// whose operator has other means (the default).
    fn create_snapshot(&self, name: &str) -> Result<(), StorageError> {
        let _ = name;
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Names of all snapshots, ascending.
    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Deletes a snapshot; false if there is none of that name.
    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        let _ = name;
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Numbers for our own metrics.
    fn stats(&self) -> TraceStoreStats;
}
