//! Services and operations of a partition, by tenant.

use std::collections::{BTreeMap, HashMap};

use pharos_model::{SpanKind, TenantId};
use pharos_storage::{Operation, span_kind_name};

use crate::codec::kind_code;

/// Services of one tenant that are listed; the spans of more are stored and found all the same.
const SERVICES_MAX: usize = 10_000;

const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];

/// Operations of a service: the kinds each was seen with, one bit a kind.
type Operations = BTreeMap<String, u8>;

/// Names seen on one day.
#[derive(Debug, Default)]
pub(super) struct Names {
    tenants: HashMap<TenantId, BTreeMap<String, Operations>>,
}

fn kind_bit(kind: SpanKind) -> u8 {
    1 << kind_code(kind)
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
        let Some(services) = self.tenants.get(tenant) else { return true };
        let Some(operations) = services.get(service) else { return services.len() < SERVICES_MAX };
        match operations.get(operation) {
            Some(kinds) => kinds & kind_bit(kind) == 0,
            None => (operations.len() as u64) < operations_max,
        }
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, service: &str, operation: &str, kind: SpanKind) {
        let services = self.tenants.entry(tenant.clone()).or_default();
        let operations = services.entry(service.to_owned()).or_default();
        *operations.entry(operation.to_owned()).or_default() |= kind_bit(kind);
    }

    pub(super) fn services(&self, tenant: &TenantId) -> impl Iterator<Item = &str> {
        self.tenants.get(tenant).into_iter().flat_map(|services| services.keys().map(String::as_str))
    }

    pub(super) fn operations(
        &self,
        tenant: &TenantId,
        service: &str,
        wanted: Option<SpanKind>,
    ) -> impl Iterator<Item = Operation> {
        let operations = self.tenants.get(tenant).and_then(|services| services.get(service)).into_iter().flatten();
        operations.flat_map(move |(name, kinds)| {
            let kinds = KINDS.into_iter().filter(move |kind| kinds & kind_bit(*kind) != 0);
            let kinds = kinds.filter(move |kind| wanted.is_none_or(|wanted| wanted == *kind));
            kinds.map(|kind| Operation { name: name.clone(), kind: span_kind_name(kind) })
        })
    }
}
