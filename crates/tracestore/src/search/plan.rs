//! From a query to terms: every clause must hold, a clause holds if any of its terms is there.

use pharos_model::{StatusCode, TenantId, TimeRangeNs};
use pharos_storage::{SpanFilter, TraceQuery};

use crate::TraceStoreError;
use crate::codec::OriginHash;
use crate::partition::{OriginCatalogue, StoredOrigins, mark};
use crate::terms::{
    attribute_term, duration_bucket, duration_term, kind_term, operation_term, origin_term, service_term, status_term,
    tenant_term,
};

/// At least one of these terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) any_of: Vec<Vec<u8>>,
}

impl Clause {
    fn one(term: Vec<u8>) -> Self {
        Self { any_of: vec![term] }
    }

    fn origins(tenant: &TenantId, origins: &[OriginHash]) -> Self {
        Self { any_of: origins.iter().map(|origin| origin_term(tenant, *origin)).collect() }
    }
}

/// What is tested on numbers rather than terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchBounds {
    pub(crate) start: TimeRangeNs,
    pub(crate) duration_min_ns: u64,
    pub(crate) duration_max_ns: u64,
}

impl SearchBounds {
    pub(crate) fn of(query: &TraceQuery) -> Self {
        Self {
            start: query.start,
            duration_min_ns: query.duration_min_ns.unwrap_or(0),
            duration_max_ns: query.duration_max_ns.unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn contains(&self, start_ns: u64, duration_ns: u64) -> bool {
        self.start.contains(start_ns) && (self.duration_min_ns..=self.duration_max_ns).contains(&duration_ns)
    }
}

/// The clauses of a query in one partition; `None` if nothing there can pass.
pub(crate) fn plan(
    tenant: &TenantId,
    query: &TraceQuery,
    catalogue: &OriginCatalogue,
    stored: &StoredOrigins<'_>,
) -> Result<Option<Vec<Clause>>, TraceStoreError> {
    let mut clauses = Vec::new();
    if let Some(service) = &query.service {
        clauses.push(Clause::one(service_term(tenant, service)));
    }
    if let Some(operation) = &query.operation {
        clauses.push(Clause::one(operation_term(tenant, operation)));
    }
    for filter in &query.filters {
        match filter {
            SpanFilter::Attribute { key, value } => {
                let found = catalogue.find(tenant, &mark::attribute(key, value), stored)?;
                if !found.is_all {
                    let mut clause = Clause::origins(tenant, &found.origins);
                    clause.any_of.push(attribute_term(tenant, key, value));
                    clauses.push(clause);
                }
            }
            SpanFilter::Kind(kind) => clauses.push(Clause::one(kind_term(tenant, *kind))),
            SpanFilter::Status(status) => clauses.push(Clause::one(status_term(tenant, *status))),
            SpanFilter::NotStatus(status) => {
                let others = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error].into_iter();
                let others = others.filter(|other| other != status).map(|other| status_term(tenant, other));
                clauses.push(Clause { any_of: others.collect() });
            }
            SpanFilter::ResourceAttribute { .. } | SpanFilter::ScopeName(_) | SpanFilter::ScopeVersion(_) => {
                let found = match filter {
                    SpanFilter::ResourceAttribute { key, value } => {
                        catalogue.find(tenant, &mark::resource_attribute(key, value), stored)
                    }
                    SpanFilter::ScopeName(name) => catalogue.find(tenant, &mark::scope_name(name), stored),
                    SpanFilter::ScopeVersion(version) => catalogue.find(tenant, &mark::scope_version(version), stored),
                    _ => unreachable!("the outer match lists the filters on origins"),
                }?;
                if found.origins.is_empty() {
                    return Ok(None);
                }
                if !found.is_all {
                    clauses.push(Clause::origins(tenant, &found.origins));
                }
            }
        }
    }
    if let Some(clause) = duration_clause(tenant, query) {
        clauses.push(clause);
    }
    if clauses.is_empty() {
        clauses.push(Clause::one(tenant_term(tenant)));
    }
    Ok(Some(clauses))
}

/// The buckets of long durations, where they are few enough of all to be worth a look; a bound at the
/// short end excludes little and is tested on the number alone.
fn duration_clause(tenant: &TenantId, query: &TraceQuery) -> Option<Clause> {
    const WORTHWHILE_NS: u64 = 1_000_000;
    let min_ns = query.duration_min_ns.filter(|min_ns| *min_ns >= WORTHWHILE_NS)?;
    let last = query.duration_max_ns.map_or(63, duration_bucket);
    let any_of = (duration_bucket(min_ns)..=last).map(|bucket| duration_term(tenant, bucket)).collect();
    Some(Clause { any_of })
}
