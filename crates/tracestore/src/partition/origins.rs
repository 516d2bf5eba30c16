//! Origins of a partition: which are known, and those that searches looked at last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use pharos_model::TenantId;

use super::database::Database;
use super::keys::origin_key;
use crate::TraceStoreError;
use crate::codec::{Origin, OriginHash, decode_origin};
use crate::record::Day;
use crate::search::OriginSource;

/// Origins that are kept decoded, of all tenants together; beyond, all are forgotten.
const DECODED_MAX: usize = 4096;

/// Hashes of origins by tenant.
///
/// A tenant with more origins on one day than `in_memory_max` (each process that lives for one call may be one) has none of
/// them in memory: the disk is asked.
#[derive(Debug)]
pub(crate) struct OriginCatalogue {
    in_memory_max: u64,
    tenants: HashMap<TenantId, Known>,
}

#[derive(Debug)]
enum Known {
    InMemory(HashSet<OriginHash>),
    OnDisk,
}

impl OriginCatalogue {
    pub(crate) fn new(in_memory_max: u64) -> Self {
        Self { in_memory_max, tenants: HashMap::new() }
    }

    /// Whether the origin is known; `None` if only the disk can tell.
    pub(crate) fn contains(&self, tenant: &TenantId, hash: OriginHash) -> Option<bool> {
        match self.tenants.get(tenant) {
            None => Some(false),
            Some(Known::InMemory(origins)) => Some(origins.contains(&hash)),
            Some(Known::OnDisk) => None,
        }
    }

    pub(crate) fn insert(&mut self, tenant: &TenantId, hash: OriginHash) {
        let known = self.tenants.entry(tenant.clone()).or_insert_with(|| Known::InMemory(HashSet::new()));
        let Known::InMemory(origins) = known else { return };
        if origins.len() as u64 >= self.in_memory_max && !origins.contains(&hash) {
            *known = Known::OnDisk;
            return;
        }
        origins.insert(hash);
    }

    /// Forgets a tenant's origins.
    pub(crate) fn remove(&mut self, tenant: &TenantId) {
        self.tenants.remove(tenant);
    }
}

/// Decoded origins. An origin never changes, so that what is here is right for ever.
#[derive(Debug, Default)]
pub(super) struct DecodedOrigins(Mutex<HashMap<(u32, OriginHash), Arc<Origin>>>);

/// A tenant's origins, from memory or disk.
pub(super) struct TenantOrigins<'a> {
    pub(super) database: &'a Database,
    pub(super) decoded: &'a DecodedOrigins,
    pub(super) day: Day,
    pub(super) tenant: u32,
}

impl OriginSource for TenantOrigins<'_> {
    fn origin(&self, hash: OriginHash) -> Result<Arc<Origin>, TraceStoreError> {
        let place = (self.tenant, hash);
        if let Some(origin) = self.decoded.0.lock().get(&place) {
            return Ok(Arc::clone(origin));
        }
        let bytes = self.database.meta(&origin_key(self.tenant, hash))?.ok_or_else(|| TraceStoreError::Corrupt {
            what: "origin",
            partition: self.day.to_string(),
            detail: "a span names an origin that is not there".to_owned(),
        })?;
        let origin = Arc::new(decode_origin(&bytes).map_err(TraceStoreError::corrupt("origin", self.day))?);
        let mut decoded = self.decoded.0.lock();
        if decoded.len() >= DECODED_MAX {
            decoded.clear();
        }
        decoded.insert(place, Arc::clone(&origin));
        Ok(origin)
    }
}
