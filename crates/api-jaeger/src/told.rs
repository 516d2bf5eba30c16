//! What a search found, and what it has to say beside its hits.
//!
//! API v1 has a list for that. The other answers have none: there it goes with the first trace, and from there to a span of it,
//! where Jaeger's own warnings travel.

use pharos_base::Reservation;
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{
    DependencyLink, ReadContext, StorageError, Trace, TraceLookup, TracePart, TracePartStream, TraceQuery, TraceStream,
};

use crate::rendering::too_large;
use crate::routes::JaegerApi;

/// What a pair of services takes beside its names while an answer is made of it, about.
const LINK_BYTES: u64 = 512;

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which traces to read, newest first.
    pub(crate) lookups: Vec<TraceLookup>,
    /// What the reader should know.
    pub(crate) warnings: Vec<String>,
}

impl From<Vec<TraceLookup>> for Found {
    fn from(lookups: Vec<TraceLookup>) -> Self {
        Self { lookups, warnings: Vec::new() }
    }
}

impl JaegerApi {
    /// Searches.
    pub(crate) fn search(
        &self,
        tenant: &TenantId,
        query: &TraceQuery,
        context: &ReadContext,
    ) -> Result<Found, StorageError> {
        let found = self.store.find(tenant, query, context)?;
        let lookup = |hit: &pharos_storage::TraceHit| TraceLookup { trace_id: hit.trace_id, range: None };
        Ok(Found { lookups: found.hits.iter().map(lookup).collect(), warnings: found.warnings })
    }

    /// Calls between services, and the memory that an answer of them takes.
    pub(crate) fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<(Vec<DependencyLink>, Reservation), StorageError> {
        let links = self.store.dependencies(tenant, range, context)?;
        let bytes = |link: &DependencyLink| (link.parent.len() + link.child.len()) as u64 + LINK_BYTES;
        let held = context.memory.reserve(links.iter().map(bytes).sum()).map_err(too_large)?;
        Ok((links, held))
    }
}

/// Puts `warnings` to the first trace.
pub(crate) fn told_with_traces(stream: TraceStream, mut warnings: Vec<String>) -> TraceStream {
    Box::new(stream.map(move |trace| {
        let trace = trace?;
        let warnings = std::mem::take(&mut warnings).into_iter().chain(trace.warnings).collect();
        Ok(Trace { warnings, ..trace })
    }))
}

/// Puts `warnings` to the first part of the first trace.
pub(crate) fn told_with_parts(stream: TracePartStream, mut warnings: Vec<String>) -> TracePartStream {
    Box::new(stream.map(move |part| {
        let part = part?;
        let warnings = std::mem::take(&mut warnings).into_iter().chain(part.warnings).collect();
        Ok(TracePart { warnings, ..part })
    }))
}
