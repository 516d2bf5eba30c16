//! Origins: which a partition knows, and those of all partitions that were looked at last.

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

/// Memory of origins that are kept decoded, of all days and tenants together.
const DECODED_BYTES_MAX: usize = 8 << 20;
/// What a decoded origin takes for each encoded byte, about: keys and values are texts of their own.
const DECODED_BYTES_PER_ENCODED: usize = 4;
/// What it takes beside.
const DECODED_OVERHEAD_BYTES: usize = 400;

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

/// Decoded origins of all days, in two generations: when the younger is full, the older is forgotten. An origin never changes, so
/// that what is here is right for ever.
#[derive(Debug, Clone, Default)]
pub(super) struct DecodedOrigins(Arc<Mutex<Generations>>);

type Place = (Day, u32, OriginHash);

/// A decoded origin and the memory it takes, about.
type Decoded = (Arc<Origin>, usize);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Place, Decoded>,
    young_bytes: usize,
    old: HashMap<Place, Decoded>,
}

impl DecodedOrigins {
    fn get(&self, place: Place) -> Option<Arc<Origin>> {
        let mut generations = self.0.lock();
        if let Some((origin, _)) = generations.young.get(&place) {
            return Some(Arc::clone(origin));
        }
        // What is in use stays.
        let (origin, bytes) = generations.old.remove(&place)?;
        generations.insert(place, (Arc::clone(&origin), bytes));
        Some(origin)
    }

    fn insert(&self, place: Place, origin: &Arc<Origin>, encoded_bytes: usize) {
        let bytes = encoded_bytes * DECODED_BYTES_PER_ENCODED + DECODED_OVERHEAD_BYTES;
        if bytes <= DECODED_BYTES_MAX / 2 {
            self.0.lock().insert(place, (Arc::clone(origin), bytes));
        }
    }
}

impl Generations {
    fn insert(&mut self, place: Place, decoded: Decoded) {
        let bytes = decoded.1;
        if self.young_bytes + bytes > DECODED_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(place, decoded).is_none() {
            self.young_bytes += bytes;
        }
    }
}

/// A tenant's origins, from memory or disk.
pub(super) struct TenantOrigins<'a> {
    pub(super) database: &'a Database,
    pub(super) decoded: &'a DecodedOrigins,
    pub(super) day: Day,
    pub(super) tenant: u32,
}

impl OriginSource for TenantOrigins<'_> {
    fn origin(&self, hash: OriginHash) -> Result<Arc<Origin>, TraceStoreError> {
        let place = (self.day, self.tenant, hash);
        if let Some(origin) = self.decoded.get(place) {
            return Ok(origin);
        }
        let bytes = self.database.meta(&origin_key(self.tenant, hash))?.ok_or_else(|| TraceStoreError::Corrupt {
            what: "origin",
            partition: self.day.to_string(),
            detail: "a span names an origin that is not there".to_owned(),
        })?;
        let origin = Arc::new(decode_origin(&bytes).map_err(TraceStoreError::corrupt("origin", self.day))?);
        self.decoded.insert(place, &origin, bytes.len());
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_origins_are_bounded_by_bytes_and_those_in_use_stay() {
        let decoded = DecodedOrigins::default();
        let place = |number: u32| (Day(number % 3), number, OriginHash(u128::from(number).to_be_bytes()));
        let origin = Arc::new(Origin { resource: Arc::default(), scope: Arc::default() });
        for number in 0..200 {
            decoded.insert(place(number), &origin, 64 << 10);
            assert!(decoded.get(place(0)).is_some());
        }
        let kept = (0..200).filter(|number| decoded.get(place(*number)).is_some()).count();
        assert!((10..=DECODED_BYTES_MAX / (256 << 10)).contains(&kept), "{kept}");
        assert!(decoded.get(place(199)).is_some() && decoded.get(place(1)).is_none());
        decoded.insert(place(500), &origin, DECODED_BYTES_MAX);
        assert!(decoded.get(place(500)).is_none() && decoded.get(place(199)).is_some());
    }
}
