//! The catalogue of a partition's origins: which resources and scopes bear an attribute.
//!
//! For each origin it holds one 128-bit hash per attribute, so that ten thousand pods cost some megabytes
//! and a search compares numbers. An attribute that every span of a pod bears is thus never written
//! at every span in the index.
//!
//! A tenant with more origins on one day than `in_memory_max` (each process that lives for one call may be
//! one) has none of them in memory: searches of that day read them from disk, and answer the same.

use std::collections::{BTreeMap, HashMap};

use pharos_model::{Attributes, TenantId};
use pharos_storage::render_attribute_value;

use crate::TraceStoreError;
use crate::codec::{Origin, OriginHash};
use crate::terms::attribute_hash;

const RESOURCE: u8 = b'r';
const SCOPE: u8 = b's';
const SCOPE_NAME: u8 = b'n';
const SCOPE_VERSION: u8 = b'v';

/// Origins by tenant.
#[derive(Debug)]
pub(crate) struct OriginCatalogue {
    in_memory_max: u64,
    tenants: HashMap<TenantId, Known>,
}

#[derive(Debug)]
enum Known {
    InMemory(BTreeMap<OriginHash, Box<[u128]>>),
    OnDisk,
}

/// Reads a tenant's origins from disk, all that were ever inserted and perhaps more, and hands each over.
pub(crate) type StoredOrigins<'a> = dyn Fn(&mut dyn FnMut(OriginHash, &Origin)) -> Result<(), TraceStoreError> + 'a;

/// Which origins pass a test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundOrigins {
    pub(crate) origins: Vec<OriginHash>,
    /// All of the tenant's do, and there is at least one.
    pub(crate) is_all: bool,
}

impl OriginCatalogue {
    pub(crate) fn new(in_memory_max: u64) -> Self {
        Self { in_memory_max, tenants: HashMap::new() }
    }

    /// Whether the origin is known; `None` if only the disk can tell.
    pub(crate) fn contains(&self, tenant: &TenantId, hash: OriginHash) -> Option<bool> {
        match self.tenants.get(tenant) {
            None => Some(false),
            Some(Known::InMemory(origins)) => Some(origins.contains_key(&hash)),
            Some(Known::OnDisk) => None,
        }
    }

    pub(crate) fn insert(&mut self, tenant: &TenantId, hash: OriginHash, origin: &Origin) {
        let known = self.tenants.entry(tenant.clone()).or_insert_with(|| Known::InMemory(BTreeMap::new()));
        let Known::InMemory(origins) = known else { return };
        if origins.len() as u64 >= self.in_memory_max && !origins.contains_key(&hash) {
            *known = Known::OnDisk;
            return;
        }
        origins.insert(hash, marks(origin));
    }

    /// Forgets a tenant's origins.
    pub(crate) fn remove(&mut self, tenant: &TenantId) {
        self.tenants.remove(tenant);
    }

    /// The origins that bear at least one of the marks `wanted` made.
    pub(crate) fn find(
        &self,
        tenant: &TenantId,
        wanted: &[u128],
        stored: &StoredOrigins<'_>,
    ) -> Result<FoundOrigins, TraceStoreError> {
        let (mut origins, mut known_count) = (Vec::new(), 0);
        let mut test = |hash: OriginHash, marks: &[u128]| {
            known_count += 1;
            if marks.iter().any(|mark| wanted.contains(mark)) {
                origins.push(hash);
            }
        };
        match self.tenants.get(tenant) {
            None => {}
            Some(Known::InMemory(known)) => known.iter().for_each(|(hash, marks)| test(*hash, marks)),
            Some(Known::OnDisk) => stored(&mut |hash, origin| test(hash, &marks(origin)))?,
        }
        Ok(FoundOrigins { is_all: !origins.is_empty() && origins.len() == known_count, origins })
    }
}

/// What searches ask of origins, as marks.
pub(crate) mod mark {
    use super::{RESOURCE, SCOPE, SCOPE_NAME, SCOPE_VERSION, attribute_hash};

    pub(crate) fn attribute(key: &str, value: &str) -> [u128; 2] {
        [attribute_hash(RESOURCE, key, value), attribute_hash(SCOPE, key, value)]
    }

    pub(crate) fn resource_attribute(key: &str, value: &str) -> [u128; 1] {
        [attribute_hash(RESOURCE, key, value)]
    }

    pub(crate) fn scope_name(name: &str) -> [u128; 1] {
        [attribute_hash(SCOPE_NAME, name, "")]
    }

    pub(crate) fn scope_version(version: &str) -> [u128; 1] {
        [attribute_hash(SCOPE_VERSION, version, "")]
    }
}

/// The marks that an origin bears.
fn marks(origin: &Origin) -> Box<[u128]> {
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
    marks.into_boxed_slice()
}
