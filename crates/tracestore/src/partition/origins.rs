//! The catalogue of a partition's origins: which resources and scopes bear an attribute.
//!
//! For each origin it holds one 128-bit hash per attribute, so that ten thousand pods cost some megabytes
//! and a search compares numbers. An attribute that every span of a pod bears is thus never written
//! at every span in the index.

use std::collections::{BTreeMap, HashMap};

use pharos_model::{Attributes, TenantId};
use pharos_storage::render_attribute_value;

use crate::codec::{Origin, OriginHash};
use crate::terms::attribute_hash;

const RESOURCE: u8 = b'r';
const SCOPE: u8 = b's';
const SCOPE_NAME: u8 = b'n';
const SCOPE_VERSION: u8 = b'v';

/// Origins by tenant.
#[derive(Debug, Default)]
pub(crate) struct OriginCatalogue {
    tenants: HashMap<TenantId, BTreeMap<OriginHash, Box<[u128]>>>,
}

/// Which origins pass a test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundOrigins {
    pub(crate) origins: Vec<OriginHash>,
    /// All of the tenant's do, and there is at least one.
    pub(crate) is_all: bool,
}

impl OriginCatalogue {
    pub(crate) fn contains(&self, tenant: &TenantId, hash: OriginHash) -> bool {
        self.tenants.get(tenant).is_some_and(|origins| origins.contains_key(&hash))
    }

    pub(crate) fn insert(&mut self, tenant: &TenantId, hash: OriginHash, origin: &Origin) {
        let hashes = |level: u8, attributes: &Attributes, out: &mut Vec<u128>| {
            out.extend(
                attributes
                    .iter()
                    .map(|attribute| attribute_hash(level, &attribute.key, &render_attribute_value(&attribute.value))),
            );
        };
        let mut marks = Vec::new();
        hashes(RESOURCE, &origin.resource.attributes, &mut marks);
        hashes(SCOPE, &origin.scope.attributes, &mut marks);
        marks.push(attribute_hash(SCOPE_NAME, &origin.scope.name, ""));
        marks.push(attribute_hash(SCOPE_VERSION, &origin.scope.version, ""));
        self.tenants.entry(tenant.clone()).or_default().insert(hash, marks.into_boxed_slice());
    }

    pub(crate) fn with_attribute(&self, tenant: &TenantId, key: &str, value: &str) -> FoundOrigins {
        self.with_any(tenant, &[attribute_hash(RESOURCE, key, value), attribute_hash(SCOPE, key, value)])
    }

    pub(crate) fn with_resource_attribute(&self, tenant: &TenantId, key: &str, value: &str) -> FoundOrigins {
        self.with_any(tenant, &[attribute_hash(RESOURCE, key, value)])
    }

    pub(crate) fn with_scope_name(&self, tenant: &TenantId, name: &str) -> FoundOrigins {
        self.with_any(tenant, &[attribute_hash(SCOPE_NAME, name, "")])
    }

    pub(crate) fn with_scope_version(&self, tenant: &TenantId, version: &str) -> FoundOrigins {
        self.with_any(tenant, &[attribute_hash(SCOPE_VERSION, version, "")])
    }

    fn with_any(&self, tenant: &TenantId, wanted: &[u128]) -> FoundOrigins {
        let Some(known) = self.tenants.get(tenant) else {
            return FoundOrigins { origins: Vec::new(), is_all: false };
        };
        let passing = known.iter().filter(|(_, marks)| marks.iter().any(|mark| wanted.contains(mark)));
        let origins: Vec<OriginHash> = passing.map(|(hash, _)| *hash).collect();
        FoundOrigins { is_all: !origins.is_empty() && origins.len() == known.len(), origins }
    }
}
