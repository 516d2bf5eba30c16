//! What is known of the metrics that came before: resources with their labels, metrics with their names, streams with
//! their label sets. All of it can be made again at any time; it only saves the work.
//!
//! Four levels of each tenant, each found by its bytes: a resource has groups (one, or one for each scope where scopes become
//! labels), they have metrics, they have streams. All requests of the tenant share them: what is here follows from the bytes
//! that found it and from settings alone.
//!
//! Memory is bounded, and shared out among tenants by the rules of [`shares`](crate::shares). When it is full, nothing is added
//! but what was not used for [`IDLE_MINUTES`] goes, looked for at most once a minute, and all of the tenant that has the most if
//! another has next to nothing; until then new streams cost what they cost the first time.
//!
//! Lock order: tenants, resources, groups of a resource, metrics of a group, streams of a metric; no lock is waited for under the
//! one of streams.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use parking_lot::RwLock;
use pharos_base::ByteSize;
use pharos_model::TenantId;

use super::booked::Booked;
use super::group::{Group, Resource, ScopeKey};
use super::known_group::KnownGroup;
use crate::shares::{Account, Budget, Shortage};

/// Streams that were not used for so long are forgotten when memory is full.
const IDLE_MINUTES: u32 = 10;
/// What a resource, group or metric takes beside its bytes.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// All that is known.
#[derive(Debug)]
pub(super) struct Known {
    hasher: DefaultHashBuilder,
    budget: Arc<Budget>,
    tenants: RwLock<HashMap<TenantId, Arc<KnownTenant>>>,
}

/// All that is known of a tenant.
#[derive(Debug)]
pub(super) struct KnownTenant {
    hasher: DefaultHashBuilder,
    account: Arc<Account>,
    resources: RwLock<HashTable<Arc<KnownResource>>>,
    /// Of its last request.
    used_minute: AtomicU32,
}

/// A resource and its groups.
#[derive(Debug)]
pub(super) struct KnownResource {
    hash: u64,
    pub resource: Resource,
    groups: RwLock<HashTable<Arc<KnownGroup>>>,
    _booked: Booked,
}

impl Known {
    pub(super) fn new(memory_max: ByteSize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            budget: Arc::new(Budget::new(memory_max.0)),
            tenants: RwLock::default(),
        }
    }

    /// What is known of a tenant, whose request it is.
    pub(super) fn of(&self, tenant: &TenantId, minute: u32) -> Arc<KnownTenant> {
        self.tidy(minute);
        if let Some(known) = self.tenants.read().get(tenant) {
            known.used_minute.store(minute, Ordering::Relaxed);
            return Arc::clone(known);
        }
        let new = || Arc::new(KnownTenant::new(self.hasher.clone(), Account::open(&self.budget), minute));
        Arc::clone(self.tenants.write().entry_ref(tenant).or_insert_with(new))
    }

    /// Memory taken, bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.budget.taken_bytes()
    }

    /// If memory was short since the last time, forgets what was not used for long, and all of one tenant if another has next to
    /// nothing and could not have more.
    fn tidy(&self, minute: u32) {
        let shortage = self.budget.look(minute);
        if shortage == Shortage::None {
            return;
        }
        let oldest_minute = minute.saturating_sub(IDLE_MINUTES);
        let before_bytes = self.memory_bytes();
        let tenants: Vec<_> = self.tenants.read().values().map(Arc::clone).collect();
        for tenant in &tenants {
            tenant.forget_before(oldest_minute);
        }
        let is_relieved = self.memory_bytes() < before_bytes / 4 * 3;
        if shortage == Shortage::Pressed && !is_relieved {
            let most = tenants.iter().max_by_key(|tenant| tenant.account.taken_bytes());
            most.inspect(|tenant| tenant.resources.write().clear());
        }
        drop(tenants);
        let is_used = |tenant: &KnownTenant| tenant.used_minute.load(Ordering::Relaxed) >= oldest_minute;
        self.tenants.write().retain(|_, tenant| is_used(tenant) || !tenant.resources.read().is_empty());
    }
}

impl KnownTenant {
    fn new(hasher: DefaultHashBuilder, account: Account, minute: u32) -> Self {
        let used_minute = AtomicU32::new(minute);
        Self { hasher, account: Arc::new(account), resources: RwLock::default(), used_minute }
    }

    /// A hash that only this process computes.
    #[inline]
    pub(super) fn hash(&self, bytes: &[u8], seed: u64) -> u64 {
        self.hasher.hash_one((bytes, seed))
    }

    /// As [`hash`](Self::hash), of anything.
    pub(super) fn hash_of(&self, key: impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The resource of this message, made by `make` if it is not known.
    pub(super) fn resource<E>(
        &self,
        message: &[u8],
        make: impl FnOnce() -> Result<Resource, E>,
    ) -> Result<Arc<KnownResource>, E> {
        let hash = self.hash(message, 0);
        if let Some(known) = self.resources.read().find(hash, |known| known.resource.is(message)) {
            return Ok(Arc::clone(known));
        }
        let resource = make()?;
        let mut booked = Booked::nothing(&self.account);
        let is_kept = booked.add((resource.memory_bytes() + size_of::<KnownResource>() + OVERHEAD_BYTES) as u64);
        let known = Arc::new(KnownResource { hash, resource, groups: RwLock::default(), _booked: booked });
        if is_kept {
            let mut resources = self.resources.write();
            if let Some(other) = resources.find(hash, |other| other.resource.is(message)) {
                return Ok(Arc::clone(other));
            }
            resources.insert_unique(hash, Arc::clone(&known), |known| known.hash);
        }
        Ok(known)
    }

    fn forget_before(&self, oldest_minute: u32) {
        let resources: Vec<_> = self.resources.read().iter().map(Arc::clone).collect();
        for resource in &resources {
            resource.forget_before(oldest_minute);
        }
        self.resources.write().retain(|resource| !resource.groups.read().is_empty());
    }
}

impl KnownResource {
    /// The group of this scope, made by `make` if it is not known.
    pub(super) fn group<E>(
        &self,
        known: &KnownTenant,
        key: ScopeKey<'_>,
        make: impl FnOnce() -> Result<Group, E>,
    ) -> Result<Arc<KnownGroup>, E> {
        let hash = known.hash_of(key);
        if let Some(group) = self.groups.read().find(hash, |group| group.group.is(key)) {
            return Ok(Arc::clone(group));
        }
        let (group, is_kept) = KnownGroup::new(hash, make()?, &known.account);
        let group = Arc::new(group);
        if is_kept {
            let mut groups = self.groups.write();
            if let Some(other) = groups.find(hash, |other| other.group.is(key)) {
                return Ok(Arc::clone(other));
            }
            groups.insert_unique(hash, Arc::clone(&group), |group| group.hash);
        }
        Ok(group)
    }

    fn forget_before(&self, oldest_minute: u32) {
        let groups: Vec<_> = self.groups.read().iter().map(Arc::clone).collect();
        for group in &groups {
            group.forget_before(oldest_minute);
        }
        self.groups.write().retain(|group| !group.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use pharos_model::TenantId;

    use super::super::{MetricsDecoder, OtlpSettings, WireForm};
    use crate::{Limits, TimeWindow};

    const MINUTE_MS: i64 = 60_000;

    /// As many streams of one metric.
    fn request(name: &str, streams: usize) -> String {
        let mut points = String::new();
        for stream in 0..streams {
            let separator = if stream == 0 { "" } else { "," };
            write!(
                points,
                r#"{separator}{{"timeUnixNano":"7","asInt":1,"attributes":[{{"key":"k","value":{{"intValue":{stream}}}}}]}}"#
            )
            .unwrap();
        }
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
        )
    }

    fn decode(decoder: &MetricsDecoder, body: &str, minute: i64) -> usize {
        decode_of(decoder, "0", body, minute)
    }

    fn decode_of(decoder: &MetricsDecoder, tenant: &str, body: &str, minute: i64) -> usize {
        let (tenant, body) = (tenant.parse().unwrap(), (body.as_bytes(), WireForm::Json));
        let decoded = decoder.decode(&tenant, body, TimeWindow::ALL, minute * MINUTE_MS);
        decoded.unwrap().batch.series.len()
    }

    /// What is known of a tenant, bytes.
    fn known_of(decoder: &MetricsDecoder, tenant: &str) -> u64 {
        let tenants = decoder.known.tenants.read();
        tenants.get(&tenant.parse::<TenantId>().unwrap()).map_or(0, |known| known.account.taken_bytes())
    }

    #[test]
    fn a_tenant_whose_streams_change_all_the_time_leaves_room_for_others() {
        let (alone, steady) = (decoder(1 << 20), request("steady", 10));
        decode_of(&alone, "steady", &steady, 1);
        let all_of_steady = known_of(&alone, "steady");
        let decoder = decoder(20_000);
        let churn = |minute| decode_of(&decoder, "churning", &request(&format!("of_minute_{minute}"), 200), minute);
        assert_eq!(churn(1), 200);
        assert!(known_of(&decoder, "churning") > 19_000);
        assert_eq!(decode_of(&decoder, "steady", &steady, 1), 10);
        assert!(known_of(&decoder, "steady") < all_of_steady, "no room, but for a minute");
        for minute in 2..40 {
            churn(minute);
            decode_of(&decoder, "steady", &steady, minute);
            assert_eq!(known_of(&decoder, "steady"), all_of_steady, "minute {minute}");
            assert!(decoder.known_bytes() <= 20_000);
        }
    }

    fn decoder(memory_bytes: u64) -> MetricsDecoder {
        let limits = Limits { otlp_streams_memory_max: pharos_base::ByteSize(memory_bytes), ..Limits::default() };
        MetricsDecoder::new(OtlpSettings::default(), limits)
    }

    #[test]
    fn memory_is_bounded_and_idle_streams_make_room() {
        let decoder = decoder(20_000);
        let (first, second) = (request("first", 60), request("second", 60));
        assert_eq!(decode(&decoder, &first, 0), 60);
        let all_of_first = decoder.known_bytes();
        assert!((10_000..20_000).contains(&all_of_first), "{all_of_first}");
        // What does not fit is translated all the same.
        assert_eq!(decode(&decoder, &second, 5), 60);
        assert!((all_of_first..=20_000).contains(&decoder.known_bytes()));
        decode(&decoder, &first, 9);
        decode(&decoder, &second, 12);
        assert!((all_of_first..=20_000).contains(&decoder.known_bytes()), "all in use");
        decode(&decoder, &second, 20);
        decode(&decoder, &second, 21);
        // Raw and translated name are a byte longer, and so is the label of each stream.
        let all_of_second = all_of_first + 62;
        assert_eq!(decoder.known_bytes(), all_of_second, "in the room of the first, which was idle");
        decode(&decoder, &first, 21);
        decode(&decoder, "{}", 40);
        assert_eq!(decoder.known_bytes(), 0, "all idle");
    }

    #[test]
    fn what_is_known_is_found_and_not_kept_twice() {
        let decoder = decoder(1 << 20);
        let body = request("m", 60);
        decode(&decoder, &body, 0);
        let once = decoder.known_bytes();
        decode(&decoder, &body, 1);
        decode(&decoder, &request("m", 30), 1);
        assert_eq!(decoder.known_bytes(), once);
        decode(&decoder, &request("m", 61), 1);
        assert!((once + 1..once + once / 30).contains(&decoder.known_bytes()));
    }

    #[test]
    fn no_memory_is_no_obstacle() {
        let decoder = decoder(0);
        assert_eq!((decode(&decoder, &request("m", 5), 0), decoder.known_bytes()), (5, 0));
    }

    /// A resource and its scopes, which become labels; each with a point, or without.
    fn scopes(resource_bytes: usize, scopes: usize, has_points: bool) -> String {
        let data =
            if has_points { r#""gauge":{"dataPoints":[{"timeUnixNano":"7","asInt":1}]}"# } else { r#""gauge":{}"# };
        let scope = |at: usize| format!(r#"{{"scope":{{"name":"scope {at}"}},"metrics":[{{"name":"m",{data}}}]}}"#);
        let all: Vec<_> = (0..scopes).map(scope).collect();
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"k","value":{{"stringValue":"{}"}}}}]}},"scopeMetrics":[{}]}}]}}"#,
            "x".repeat(resource_bytes),
            all.join(",")
        )
    }

    /// Or else a body of a long resource and very many scopes would keep a server busy for hours.
    #[test]
    fn a_resource_is_looked_for_once_however_many_scopes_it_has() {
        let settings = OtlpSettings { promote_scope_metadata: true, ..OtlpSettings::default() };
        let decoder = |memory_bytes| {
            let limits = Limits { otlp_streams_memory_max: pharos_base::ByteSize(memory_bytes), ..Limits::default() };
            MetricsDecoder::new(settings.clone(), limits)
        };
        let usual = decoder(1 << 30);
        assert_eq!(decode(&usual, &scopes(100_000, 1_000, false), 0), 0);
        assert_eq!(usual.known_bytes(), 0, "without a point nothing is worth remembering");
        assert_eq!(decode(&usual, &scopes(100_000, 20, true), 0), 20);
        assert!((100_000..150_000).contains(&usual.known_bytes()), "one copy of the resource: {}", usual.known_bytes());
        // Made once as well where nothing can be remembered: this took minutes.
        assert_eq!(decode(&decoder(0), &scopes(4_000_000, 5_000, true), 0), 5_000);
    }
}
