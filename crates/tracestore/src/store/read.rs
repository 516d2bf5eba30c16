//! Reads: traces, searches, summaries, lists.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use pharos_model::{Span, SpanGroup, SpanId, StatusCode, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    DependencyLink, FoundTraces, Operation, OperationQuery, ReadContext, ServiceSpanCount, StorageError, Trace,
    TraceLookup, TraceQuery, TraceStream, TraceSummary, dependency_minutes,
};

use super::Shared;
use crate::TraceStoreError;
use crate::codec::{Origin, OriginHash, RowReader};
use crate::partition::{Partition, StoredRow, read_error};
use crate::search::TopTraces;

/// Spans in memory take about this many times the bytes of their row.
const DECODED_FACTOR: u64 = 4;

/// The rows of one trace, oldest day first.
type TraceRows = Vec<(Arc<Partition>, Vec<StoredRow>)>;

impl Shared {
    pub(super) fn traces(
        self: &Arc<Self>,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> TraceStream {
        let (shared, tenant, context) = (Arc::clone(self), tenant.clone(), context.clone());
        let owned = lookups.to_vec();
        let mut has_failed = false;
        Box::new(
            owned
                .into_iter()
                .map_while(move |lookup| {
                    if has_failed {
                        return None;
                    }
                    let trace = shared.trace(&tenant, lookup, &context);
                    has_failed = trace.is_err();
                    Some(trace.transpose())
                })
                .flatten(),
        )
    }

    fn rows_of(&self, tenant: &TenantId, lookup: TraceLookup) -> Result<TraceRows, StorageError> {
        let mut found = Vec::new();
        let mut partitions = self.partitions_newest_first();
        partitions.reverse();
        for partition in partitions {
            let is_outside = |range: TimeRangeNs| {
                partition.day().last_ns() < range.start_ns || partition.day().start_ns() >= range.end_ns
            };
            if lookup.range.is_some_and(is_outside) {
                continue;
            }
            let rows = partition.trace_rows(tenant, lookup.trace_id).map_err(read_error)?;
            if !rows.is_empty() {
                found.push((partition, rows));
            }
        }
        Ok(found)
    }

    pub(super) fn trace(
        &self,
        tenant: &TenantId,
        lookup: TraceLookup,
        context: &ReadContext,
    ) -> Result<Option<Trace>, StorageError> {
        context.check()?;
        let rows = self.rows_of(tenant, lookup)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let row_bytes: usize = rows.iter().flat_map(|(_, rows)| rows).map(|row| row.value.len()).sum();
        let _reservation = context.memory.reserve(row_bytes as u64 * DECODED_FACTOR)?;
        let mut builder = TraceBuilder::new(lookup.trace_id, self.settings.trace_spans_max);
        for (partition, rows) in &rows {
            for row in rows {
                context.check()?;
                let corrupt = || TraceStoreError::corrupt("row", partition.day());
                let reader = RowReader::new(&row.value, row.min_start_ns).map_err(corrupt()).map_err(read_error)?;
                for span in reader.whole_spans(lookup.trace_id) {
                    let (hash, span) = span.map_err(corrupt()).map_err(read_error)?;
                    builder.add(hash, span, || partition.origin(tenant, hash)).map_err(read_error)?;
                }
            }
        }
        Ok(Some(builder.finish()))
    }

    pub(super) fn summaries(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError> {
        let mut summaries = Vec::new();
        for lookup in lookups {
            context.check()?;
            let rows = self.rows_of(tenant, *lookup)?;
            if rows.is_empty() {
                continue;
            }
            match quick_summary(lookup.trace_id, &rows).map_err(read_error)? {
                Some(summary) => summaries.push(summary),
                // Ids that come twice: only whole spans tell duplicates from different spans.
                None => summaries.extend(self.trace(tenant, *lookup, context)?.as_ref().map(TraceSummary::of)),
            }
        }
        Ok(summaries)
    }

    pub(super) fn find(
        &self,
        tenant: &TenantId,
        query: &TraceQuery,
        context: &ReadContext,
    ) -> Result<FoundTraces, StorageError> {
        if query.predicate.is_some() {
            return self.find_by_predicate(tenant, query, context);
        }
        let mut top = TopTraces::new(query.limit);
        if query.limit == 0 || query.start.start_ns >= query.start.end_ns {
            return Ok(FoundTraces::default());
        }
        for partition in self.partitions_newest_first() {
            let day = partition.day();
            if day.start_ns() >= query.start.end_ns || day.last_ns() < query.start.start_ns {
                continue;
            }
            // Days do not overlap: once the hits are newer than a day, it and all older ones are too late.
            if !top.could_take(day.last_ns()) {
                break;
            }
            context.check()?;
            partition.search(tenant, query, &mut top, context)?;
        }
        Ok(FoundTraces { hits: top.into_hits(), warnings: Vec::new() })
    }

    pub(super) fn services(&self, tenant: &TenantId) -> Vec<String> {
        let mut services = BTreeSet::new();
        for partition in self.partitions_newest_first() {
            partition.for_each_service(tenant, |service| {
                if !services.contains(service) {
                    services.insert(service.to_owned());
                }
            });
        }
        services.into_iter().collect()
    }

    pub(super) fn operations(&self, tenant: &TenantId, query: &OperationQuery) -> Vec<Operation> {
        let mut operations = BTreeSet::new();
        for partition in self.partitions_newest_first() {
            partition.for_each_operation(tenant, &query.service, query.kind, |operation| {
                operations.insert(operation);
            });
        }
        operations.into_iter().collect()
    }

    pub(super) fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
    ) -> Result<Vec<DependencyLink>, StorageError> {
        let Some((first, last)) = dependency_minutes(range) else { return Ok(Vec::new()) };
        let minute = |minute: u64| u32::try_from(minute).unwrap_or(u32::MAX);
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        for partition in self.partitions_newest_first() {
            let count = |parent: &str, child: &str, by: i64| {
                *counts.entry((parent.to_owned(), child.to_owned())).or_default() += by;
            };
            partition.calls(tenant, (minute(first), minute(last)), count).map_err(read_error)?;
        }
        let links = counts.into_iter().filter_map(|((parent, child), count)| {
            let call_count = u64::try_from(count).ok().filter(|count| *count > 0)?;
            Some(DependencyLink { parent, child, call_count })
        });
        Ok(links.collect())
    }
}

/// Joins spans to a trace: equal ones once, by origin.
struct TraceBuilder {
    trace_id: TraceId,
    spans_max: u64,
    span_count: u64,
    left_out: u64,
    groups: Vec<SpanGroup>,
    group_of: HashMap<OriginHash, usize>,
    by_id: HashMap<SpanId, Vec<(usize, usize)>>,
}

impl TraceBuilder {
    fn new(trace_id: TraceId, spans_max: u64) -> Self {
        let (groups, group_of, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { trace_id, spans_max, span_count: 0, left_out: 0, groups, group_of, by_id }
    }

    fn add(
        &mut self,
        hash: OriginHash,
        span: Span,
        origin: impl FnOnce() -> Result<Origin, TraceStoreError>,
    ) -> Result<(), TraceStoreError> {
        let group = if let Some(group) = self.group_of.get(&hash) {
            *group
        } else {
            let Origin { resource, scope }: Origin = origin()?;
            self.groups.push(SpanGroup { resource, scope, spans: Vec::new() });
            self.group_of.insert(hash, self.groups.len() - 1);
            self.groups.len() - 1
        };
        let same_id = self.by_id.entry(span.span_id).or_default();
        if same_id.iter().any(|&(other, index)| other == group && self.groups[group].spans[index] == span) {
            return Ok(());
        }
        if self.span_count >= self.spans_max {
            self.left_out += 1;
            return Ok(());
        }
        self.span_count += 1;
        same_id.push((group, self.groups[group].spans.len()));
        self.groups[group].spans.push(span);
        Ok(())
    }

    fn finish(mut self) -> Trace {
        self.groups.retain(|group| !group.spans.is_empty());
        let mut warnings = Vec::new();
        if self.left_out > 0 {
            warnings.push(format!(
                "the trace has more than {} spans; {} are left out (raise tracestore.trace_spans_max to see them)",
                self.spans_max, self.left_out
            ));
        }
        Trace { trace_id: self.trace_id, groups: self.groups, warnings }
    }
}

/// A summary from skeletons alone; `None` if a span id comes twice.
fn quick_summary(trace_id: TraceId, rows: &TraceRows) -> Result<Option<TraceSummary>, TraceStoreError> {
    let mut readers = Vec::new();
    for (partition, rows) in rows {
        for row in rows {
            let reader = RowReader::new(&row.value, row.min_start_ns);
            readers.push((partition.day(), reader.map_err(TraceStoreError::corrupt("row", partition.day()))?));
        }
    }
    let spans = || readers.iter().flat_map(|(_, reader)| reader.spans());
    let mut ids = HashSet::new();
    if !spans().all(|span| ids.insert(span.skeleton.span_id)) {
        return Ok(None);
    }
    let mut services: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let (mut error_count, mut orphan_count) = (0, 0);
    for span in spans() {
        let is_error = u64::from(span.skeleton.status == StatusCode::Error);
        let parent = span.skeleton.parent_span_id;
        let (span_count, errors) = services.entry(span.service).or_default();
        *span_count += 1;
        *errors += is_error;
        error_count += is_error;
        orphan_count += u64::from(!parent.is_zero() && !ids.contains(&parent));
    }
    // Ids are unique here, so start and id decide.
    let roots = readers.iter().flat_map(|(day, reader)| {
        reader.spans().iter().enumerate().map(move |(index, span)| (*day, reader, index, span))
    });
    let root = roots
        .filter(|(.., span)| span.skeleton.parent_span_id.is_zero())
        .min_by_key(|(.., span)| (span.skeleton.start_ns, span.skeleton.span_id));
    let (root_service, root_operation) = match root {
        Some((day, reader, index, span)) => {
            let name = reader.name(index).map_err(TraceStoreError::corrupt("row", day))?;
            (span.service.to_owned(), name.to_owned())
        }
        None => (String::new(), String::new()),
    };
    let service_count = |(service, (spans, errors)): (&str, (u64, u64))| ServiceSpanCount {
        service: service.to_owned(),
        spans,
        errors,
    };
    Ok(Some(TraceSummary {
        trace_id,
        root_service,
        root_operation,
        start_ns: spans().map(|span| span.skeleton.start_ns).min().unwrap_or(0),
        end_ns: spans().map(|span| span.skeleton.end_ns).max().unwrap_or(0),
        span_count: ids.len() as u64,
        error_count,
        orphan_count,
        services: services.into_iter().map(service_count).collect(),
    }))
}
