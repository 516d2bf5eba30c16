//! Services and operations of a partition, by tenant.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

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

/// Longer names of operations are not listed; their spans are stored and found all the same.
const OPERATION_BYTES_MAX: usize = 4096;

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
    fn operations_of(&self, tenant: &TenantId, service: &str) -> Option<&Operations> {
        self.tenants.get(tenant)?.get(service)
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, service: &str, operation: &str, kind: SpanKind) {
        let services = self.tenants.entry(tenant.clone()).or_default();
        let operations = services.entry(service.to_owned()).or_default();
        *operations.entry(operation.to_owned()).or_default() |= kind_bit(kind);
    }

    pub(super) fn remove(&mut self, tenant: &TenantId) {
        self.tenants.remove(tenant);
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

/// Names that one record brings, within the limits: a service has at most `operations_max` operations, a
/// tenant at most [`SERVICES_MAX`] services.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    names: HashSet<(Arc<str>, String, SpanKind)>,
    /// New operations by service.
    operations: HashMap<Arc<str>, u64>,
    new_services: usize,
}

impl NewNames {
    /// Whether the name is neither listed nor added yet and shall be. A new operation that comes with two
    /// kinds in one record counts twice against the limit of that record.
    pub(super) fn add(
        &mut self,
        listed: &Names,
        tenant: &TenantId,
        service: &Arc<str>,
        operation: &str,
        kind: SpanKind,
        operations_max: u64,
    ) -> bool {
        if operation.len() > OPERATION_BYTES_MAX {
            return false;
        }
        let operations = listed.operations_of(tenant, service);
        match operations.and_then(|operations| operations.get(operation)) {
            Some(kinds) if kinds & kind_bit(kind) != 0 => return false,
            Some(_) => return self.names.insert((Arc::clone(service), operation.to_owned(), kind)),
            None => {}
        }
        if self.names.contains(&(Arc::clone(service), operation.to_owned(), kind)) {
            return false;
        }
        if operations.is_none() && !self.operations.contains_key(service) {
            let services = listed.tenants.get(tenant).map_or(0, BTreeMap::len);
            if services + self.new_services >= SERVICES_MAX {
                return false;
            }
            self.new_services += 1;
        }
        let added = self.operations.entry(Arc::clone(service)).or_default();
        if operations.map_or(0, BTreeMap::len) as u64 + *added >= operations_max {
            return false;
        }
        *added += 1;
        self.names.insert((Arc::clone(service), operation.to_owned(), kind))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, SpanKind)> {
        self.names.iter().map(|(service, operation, kind)| (&**service, operation.as_str(), *kind))
    }
}
