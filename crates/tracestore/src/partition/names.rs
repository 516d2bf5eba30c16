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
/// What a name takes in memory beside its bytes, about.
const NAME_OVERHEAD_BYTES: u64 = 64;

/// Operations of a service: the kinds each was seen with, one bit a kind.
type Operations = BTreeMap<String, u8>;

/// Names seen on one day.
#[derive(Debug, Default)]
pub(super) struct Names {
    tenants: HashMap<TenantId, TenantNames>,
}

#[derive(Debug, Default)]
struct TenantNames {
    services: BTreeMap<String, Operations>,
    /// What all of them take, about.
    bytes: u64,
    /// Whether it was told that there are more than are listed.
    has_warned: bool,
}

/// What may be listed of a day.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameLimits {
    /// Operations of a service.
    pub(super) operations_max: u64,
    /// Memory of all names of a tenant.
    pub(super) bytes_max: u64,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is listed, or will be by the same record.
    Known,
    New,
    /// It is not listed; the limit by name.
    Refused(&'static str),
}

fn name_bytes(name: &str) -> u64 {
    name.len() as u64 + NAME_OVERHEAD_BYTES
}

fn kind_bit(kind: SpanKind) -> u8 {
    1 << kind_code(kind)
}

impl Names {
    fn operations_of(&self, tenant: &TenantId, service: &str) -> Option<&Operations> {
        self.tenants.get(tenant)?.services.get(service)
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, service: &str, operation: &str, kind: SpanKind) {
        let TenantNames { services, bytes, .. } = self.tenants.entry(tenant.clone()).or_default();
        let operations = services.entry(service.to_owned()).or_insert_with(|| {
            *bytes += name_bytes(service);
            Operations::new()
        });
        let kinds = operations.entry(operation.to_owned()).or_insert_with(|| {
            *bytes += name_bytes(operation);
            0
        });
        *kinds |= kind_bit(kind);
    }

    /// Whether it is now that a tenant's names first found no room.
    pub(super) fn first_refused(&mut self, tenant: &TenantId) -> bool {
        !std::mem::replace(&mut self.tenants.entry(tenant.clone()).or_default().has_warned, true)
    }

    pub(super) fn remove(&mut self, tenant: &TenantId) {
        self.tenants.remove(tenant);
    }

    pub(super) fn services(&self, tenant: &TenantId) -> impl Iterator<Item = &str> {
        self.tenants.get(tenant).into_iter().flat_map(|names| names.services.keys().map(String::as_str))
    }

    pub(super) fn operations(
        &self,
        tenant: &TenantId,
        service: &str,
        wanted: Option<SpanKind>,
    ) -> impl Iterator<Item = Operation> {
        let operations = self.operations_of(tenant, service).into_iter().flatten();
        operations.flat_map(move |(name, kinds)| {
            let kinds = KINDS.into_iter().filter(move |kind| kinds & kind_bit(*kind) != 0);
            let kinds = kinds.filter(move |kind| wanted.is_none_or(|wanted| wanted == *kind));
            kinds.map(|kind| Operation { name: name.clone(), kind: span_kind_name(kind) })
        })
    }
}

/// Names that one record brings, within the limits: a service has at most `operations_max` operations, a
/// tenant at most [`SERVICES_MAX`] services, and all its names take at most `bytes_max`.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    names: HashSet<(Arc<str>, String, SpanKind)>,
    /// New operations by service.
    operations: HashMap<Arc<str>, u64>,
    new_services: usize,
    bytes: u64,
    /// A name that found no room, if there was one, and the limit.
    pub(super) refused: Option<(Arc<str>, String, &'static str)>,
}

impl NewNames {
    /// Whether the name is neither listed nor added yet and shall be.
    pub(super) fn add(
        &mut self,
        listed: &Names,
        tenant: &TenantId,
        (service, operation, kind): (&Arc<str>, &str, SpanKind),
        limits: NameLimits,
    ) -> bool {
        match self.admit(listed, tenant, (service, operation, kind), limits) {
            Admission::Known => false,
            Admission::New => true,
            Admission::Refused(limit) => {
                self.refused.get_or_insert_with(|| (Arc::clone(service), operation.to_owned(), limit));
                false
            }
        }
    }

    /// A new operation that comes with two kinds in one record counts twice against the limits of that record.
    fn admit(
        &mut self,
        listed: &Names,
        tenant: &TenantId,
        (service, operation, kind): (&Arc<str>, &str, SpanKind),
        limits: NameLimits,
    ) -> Admission {
        if operation.len() > OPERATION_BYTES_MAX {
            return Admission::Refused("4096 bytes a name");
        }
        let operations = listed.operations_of(tenant, service);
        match operations.and_then(|operations| operations.get(operation)) {
            Some(kinds) if kinds & kind_bit(kind) != 0 => return Admission::Known,
            Some(_) => {
                let is_new = self.names.insert((Arc::clone(service), operation.to_owned(), kind));
                return if is_new { Admission::New } else { Admission::Known };
            }
            None => {}
        }
        if self.names.contains(&(Arc::clone(service), operation.to_owned(), kind)) {
            return Admission::Known;
        }
        let names = listed.tenants.get(tenant);
        let mut bytes = name_bytes(operation);
        if operations.is_none() && !self.operations.contains_key(service) {
            let services = names.map_or(0, |names| names.services.len());
            if services + self.new_services >= SERVICES_MAX {
                return Admission::Refused("10000 services");
            }
            bytes += name_bytes(service);
        }
        if names.map_or(0, |names| names.bytes) + self.bytes + bytes > limits.bytes_max {
            return Admission::Refused("tracestore.names_memory");
        }
        if operations.is_none() && !self.operations.contains_key(service) {
            self.new_services += 1;
        }
        let added = self.operations.entry(Arc::clone(service)).or_default();
        if operations.map_or(0, BTreeMap::len) as u64 + *added >= limits.operations_max {
            return Admission::Refused("tracestore.operations_max");
        }
        *added += 1;
        self.bytes += bytes;
        self.names.insert((Arc::clone(service), operation.to_owned(), kind));
        Admission::New
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, SpanKind)> {
        self.names.iter().map(|(service, operation, kind)| (&**service, operation.as_str(), *kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_no_more_memory_than_they_may_and_what_is_refused_is_known() {
        let (tenant, other) = (TenantId::default(), "other".parse::<TenantId>().unwrap());
        let limits = NameLimits { operations_max: 1_000, bytes_max: 10_000 };
        let (mut names, web) = (Names::default(), Arc::<str>::from("web"));
        let mut refused = 0;
        for number in 0..200 {
            let mut new = NewNames::default();
            let operation = format!("GET /{number}/{}", "x".repeat(100));
            new.add(&names, &tenant, (&web, &operation, SpanKind::Server), limits);
            for (service, operation, kind) in new.iter() {
                names.insert(&tenant, service, operation, kind);
            }
            if let Some((_, _, limit)) = &new.refused {
                assert_eq!(*limit, "tracestore.names_memory");
                assert_eq!(names.first_refused(&tenant), refused == 0);
                refused += 1;
            }
        }
        assert!(refused > 100 && names.tenants[&tenant].bytes <= 10_000, "{refused}");
        // In one record as in many; what is listed is known, and others have room of their own.
        let mut new = NewNames::default();
        for number in 0..200 {
            new.add(&names, &other, (&web, &format!("{number}/{}", "x".repeat(100)), SpanKind::Server), limits);
        }
        assert!(new.bytes <= 10_000 && new.iter().count() > 50 && new.refused.is_some());
        let mut known = NewNames::default();
        assert!(!known.add(&names, &tenant, (&web, &format!("GET /0/{}", "x".repeat(100)), SpanKind::Server), limits));
        assert!(known.refused.is_none());
        assert!(!known.add(&names, &other, (&web, &"x".repeat(5_000), SpanKind::Server), limits));
        assert_eq!(known.refused.unwrap().2, "4096 bytes a name");
    }
}
