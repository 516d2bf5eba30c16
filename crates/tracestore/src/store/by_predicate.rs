//! Searches by predicate: the index proposes traces by what the predicate implies, newest first; whole traces decide.
//!
//! Exact: a proposed trace starts no earlier, as the wider query sees it, than its newest span that passes, so that the search
//! may end once the hits are newer than every trace still to come.

use std::collections::HashSet;
use std::sync::Arc;

use pharos_model::TenantId;
use pharos_storage::{FoundTraces, ReadContext, StorageError, TraceLookup, TraceQuery, span_passes};

use super::Shared;
use crate::search::TopTraces;

/// Traces proposed at first; with every further round this many times as many.
const FIRST_ROUND_MIN: usize = 64;
const ROUND_FACTOR: usize = 4;

impl Shared {
    pub(super) fn find_by_predicate(
        self: &Arc<Self>,
        tenant: &TenantId,
        query: &TraceQuery,
        context: &ReadContext,
    ) -> Result<FoundTraces, StorageError> {
        let mut top = TopTraces::new(query.limit);
        let mut wider = query.without_predicate();
        wider.limit = query.limit.saturating_mul(ROUND_FACTOR).max(FIRST_ROUND_MIN);
        let (mut read, mut warnings) = (HashSet::new(), Vec::new());
        loop {
            let proposed = self.find(tenant, &wider, context)?.hits;
            let is_all = proposed.len() < wider.limit;
            for hit in proposed {
                if !top.could_take(hit.start_ns) {
                    return Ok(FoundTraces { hits: top.into_hits(), warnings });
                }
                if !read.insert(hit.trace_id) {
                    continue;
                }
                let lookup = TraceLookup { trace_id: hit.trace_id, range: None };
                let Some(trace) = self.trace(tenant, lookup, context)? else { continue };
                let spans = trace.groups.iter().flat_map(|group| group.spans.iter().map(move |span| (group, span)));
                let passing = spans.filter(|(group, span)| span_passes(query, &group.resource, &group.scope, span));
                if let Some(start_ns) = passing.map(|(_, span)| span.start_ns).max() {
                    top.offer(hit.trace_id, start_ns);
                }
                // A trace that is cut was tested as far as it was read.
                warnings.extend(trace.warnings);
            }
            if is_all {
                return Ok(FoundTraces { hits: top.into_hits(), warnings });
            }
            wider.limit = wider.limit.saturating_mul(ROUND_FACTOR);
        }
    }
}
