//! Reads: searches, summaries, lists. Whole traces: `traces.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{
    DependencyLink, FoundTraces, Operation, OperationQuery, ReadContext, StorageError, TraceLookup, TraceQuery,
    TraceSummary, dependency_minutes,
};

use super::Shared;
use super::summary::{Summarized, summarize};
use crate::partition::{Partition, PiecePlace, read_error};
use crate::search::{Progress, Search, TopTraces};

/// Counts that are added up between two looks at the bounds of a read.
const ENTRIES_PER_CHECK: u64 = 1024;
/// What a pair of services takes in memory beside its names, about: in a map and in the list made of it.
const PAIR_BYTES: u64 = 256;

/// Where the pieces of one trace are, oldest day first.
pub(super) type TracePlaces = Vec<(Arc<Partition>, PiecePlace)>;

impl Shared {
    /// Where a trace is on all days that may have some of it, oldest day first.
    pub(super) fn places_of(&self, tenant: &TenantId, lookup: TraceLookup) -> Result<TracePlaces, StorageError> {
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
            let places = partition.trace_places_or_all(tenant, lookup.trace_id).map_err(read_error)?;
            found.extend(places.into_iter().map(|place| (Arc::clone(&partition), place)));
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
            let places = self.places_of(tenant, *lookup)?;
            match summarize((tenant, lookup.trace_id), &places, context)? {
                Summarized::Whole(summary) => summaries.push(summary),
                Summarized::Absent => {}
                // Only whole spans tell duplicates from different spans.
                Summarized::IdsRepeat => {
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
        for day in self.gone.days_aside() {
            let is_outside = day.start_ns() >= query.start.end_ns || day.last_ns() < query.start.start_ns;
            if !is_outside && top.could_take(day.last_ns()) {
                progress.note_day_aside(day);
            }
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

    /// Memory is reserved for each pair of services that is counted, and the bounds are looked at every so many entries: a day
    /// has one for each pair and minute.
    pub(super) fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<Vec<DependencyLink>, StorageError> {
        context.check()?;
        let Some((first, last)) = dependency_minutes(range) else { return Ok(Vec::new()) };
        let minute = |minute: u64| u32::try_from(minute).unwrap_or(u32::MAX);
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        let (mut reserved, mut entries) = (context.memory.reserve(0)?, 0_u64);
        for partition in self.partitions_newest_first() {
            let count = |parent: &str, child: &str, by: i64| {
                entries += 1;
                if entries.is_multiple_of(ENTRIES_PER_CHECK) {
                    context.check()?;
                }
                let pair = (parent.to_owned(), child.to_owned());
                if !counts.contains_key(&pair) {
                    reserved.grow((parent.len() + child.len()) as u64 + PAIR_BYTES)?;
                }
                *counts.entry(pair).or_default() += by;
                Ok(())
            };
            partition.calls(tenant, (minute(first), minute(last)), count)?;
        }
        let links = counts.into_iter().filter_map(|((parent, child), count)| {
            let call_count = u64::try_from(count).ok().filter(|count| *count > 0)?;
            Some(DependencyLink { parent, child, call_count })
        });
        Ok(links.collect())
    }
}
