//! Services and operations of a partition, by tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pharos_model::{SpanKind, TenantId};
use pharos_storage::{Operation, span_kind_name};

type Operations = BTreeSet<(String, &'static str)>;

/// Services of one tenant that are listed; the spans of more are stored and found all the same.
const SERVICES_MAX: usize = 10_000;

/// Names seen on one day.
#[derive(Debug, Default)]
pub(super) struct Names {
    tenants: HashMap<TenantId, BTreeMap<String, Operations>>,
}

impl Names {
    /// Whether the name is not listed yet and shall be: a service has at most `operations_max`, a tenant at
    /// most [`SERVICES_MAX`] services.
    pub(super) fn is_new(
        &self,
        tenant: &TenantId,
        service: &str,
        operation: &str,
        kind: SpanKind,
        operations_max: u64,
    ) -> bool {
        let services_count = self.tenants.get(tenant).map_or(0, BTreeMap::len);
        let Some(operations) = self.tenants.get(tenant).and_then(|services| services.get(service)) else {
            return services_count < SERVICES_MAX;
        };
        (operations.len() as u64) < operations_max
            && !operations.contains(&(operation.to_owned(), span_kind_name(kind)))
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, service: &str, operation: &str, kind: SpanKind) {
        let services = self.tenants.entry(tenant.clone()).or_default();
        services.entry(service.to_owned()).or_default().insert((operation.to_owned(), span_kind_name(kind)));
    }

    pub(super) fn services(&self, tenant: &TenantId) -> impl Iterator<Item = &str> {
        self.tenants.get(tenant).into_iter().flat_map(|services| services.keys().map(String::as_str))
    }

    pub(super) fn operations(
        &self,
        tenant: &TenantId,
        service: &str,
        kind: Option<SpanKind>,
    ) -> impl Iterator<Item = Operation> {
        let operations = self.tenants.get(tenant).and_then(|services| services.get(service)).into_iter().flatten();
        operations
            .filter(move |(_, known)| kind.is_none_or(|kind| span_kind_name(kind) == *known))
            .map(|(name, kind)| Operation { name: name.clone(), kind })
    }
}
