//! Reads: searches, summaries, lists. Whole traces: `traces.rs`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pharos_model::{SpanId, StatusCode, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    DependencyLink, FoundTraces, Operation, OperationQuery, ReadContext, ServiceSpanCount, StorageError, TraceLookup,
    TraceQuery, TraceSummary, dependency_minutes,
};

use super::Shared;
use crate::TraceStoreError;
use crate::partition::{Partition, TracePiece, read_error};
use crate::search::{Progress, Search, TopTraces};

/// The pieces of one trace with the days they are of, oldest first.
pub(super) type TracePieces = Vec<(Arc<Partition>, TracePiece)>;

impl Shared {
    /// The pieces of a trace on all days that may have some, oldest day first.
    pub(super) fn pieces_of(&self, tenant: &TenantId, lookup: TraceLookup) -> Result<TracePieces, StorageError> {
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
            let pieces = partition.trace_pieces(tenant, lookup.trace_id).map_err(read_error)?;
            found.extend(pieces.into_iter().map(|piece| (Arc::clone(&partition), piece)));
        }
        Ok(found)
    }

    pub(super) fn summaries(
        self: &Arc<Self>,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError> {
        let mut summaries = Vec::new();
        for lookup in lookups {
            context.check()?;
            let pieces = self.pieces_of(tenant, *lookup)?;
            if pieces.is_empty() {
                continue;
            }
            match quick_summary(lookup.trace_id, &pieces).map_err(read_error)? {
                Some(summary) => summaries.push(summary),
                // Ids that come twice: only whole spans tell duplicates from different spans.
                None => {
                    for trace in self.traces(tenant, &[*lookup], context) {
                        summaries.push(TraceSummary::of(&trace?));
                    }
                }
            }
        }
        Ok(summaries)
    }

    pub(super) fn find(
        self: &Arc<Self>,
        tenant: &TenantId,
        query: &TraceQuery,
        context: &ReadContext,
    ) -> Result<FoundTraces, StorageError> {
        let mut top = TopTraces::new(query.limit);
        if query.limit == 0 || query.start.start_ns >= query.start.end_ns {
            return Ok(FoundTraces::default());
        }
        let search = Search::new(query);
        let mut progress = Progress::new(context);
        if search.has_patterns {
            progress = progress.within(&*self.clock, self.settings.pattern_time_max);
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
            if !progress.goes_on()? {
                break;
            }
            partition.search(tenant, &search, &mut top, &mut progress)?;
        }
        Ok(FoundTraces { hits: top.into_hits(), warnings: progress.into_warnings() })
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

/// A summary from skeletons alone; `None` if a span id comes twice.
fn quick_summary(trace_id: TraceId, pieces: &TracePieces) -> Result<Option<TraceSummary>, TraceStoreError> {
    let mut ids = HashSet::new();
    let mut parents = Vec::new();
    let mut has_repeated = false;
    let mut services: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut start_ns, mut end_ns, mut error_count) = (u64::MAX, 0, 0);
    // Start and id of the root, its service, and where its name is: ids are unique here, so start and id decide.
    let mut root: Option<((u64, SpanId), String, usize, u32)> = None;
    for (number, (_, piece)) in pieces.iter().enumerate() {
        let mut index = 0;
        piece.skeletons(|_, service, span| {
            has_repeated |= !ids.insert(span.span_id);
            start_ns = start_ns.min(span.start_ns);
            end_ns = end_ns.max(span.end_ns);
            if !services.contains_key(service) {
                services.insert(service.to_owned(), (0, 0));
            }
            let is_error = u64::from(span.status == StatusCode::Error);
            error_count += is_error;
            if let Some((span_count, errors)) = services.get_mut(service) {
                *span_count += 1;
                *errors += is_error;
            }
            let place = (span.start_ns, span.span_id);
            if !span.parent_span_id.is_zero() {
                parents.push(span.parent_span_id);
            } else if root.as_ref().is_none_or(|(first, ..)| place < *first) {
                root = Some((place, service.to_owned(), number, index));
            }
            index += 1;
        })?;
    }
    if has_repeated {
        return Ok(None);
    }
    let (root_service, root_operation) = match root {
        Some((_, service, number, index)) => (service, pieces[number].1.name(index)?),
        None => (String::new(), String::new()),
    };
    let service_count = |(service, (spans, errors)): (String, (u64, u64))| ServiceSpanCount { service, spans, errors };
    Ok(Some(TraceSummary {
        trace_id,
        root_service,
        root_operation,
        start_ns,
        end_ns,
        span_count: ids.len() as u64,
        error_count,
        orphan_count: parents.iter().filter(|parent| !ids.contains(parent)).count() as u64,
        services: services.into_iter().map(service_count).collect(),
    }))
}
