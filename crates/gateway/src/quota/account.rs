//! What one tenant, or one credential, has taken of its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pharos_model::TenantId;

use super::bucket::{Bucket, Rate};
use super::over_limit::OverLimit;
use super::series::{ActiveSeries, SeriesGate};
use crate::{IdentitySource, LimitOverrides, Principal, TenantAccess};

/// Whose limits they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whose {
    /// All requests for a tenant.
    Tenant(TenantId),
    /// All requests with a credential.
    Credential(Credential),
}

/// A credential, told from all others: names are unique only among those of one authority, and what one of them says
/// of a name's tenants may differ from request to request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The word for its kind.
    pub kind: &'static str,
    /// Who vouches for the name.
    pub authority: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Which tenants it reaches.
    pub tenants: TenantAccess,
}

impl Credential {
    /// The one that admitted a request. A browser's session is the token that opened it: one of the file, or one of an issuer.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        let grant = principal.grant();
        let source = match principal.source() {
            IdentitySource::Session if grant.authority.is_empty() => IdentitySource::Token,
            IdentitySource::Session => IdentitySource::Jwt,
            other => other,
        };
        Self {
            kind: source.as_str(),
            authority: Arc::clone(&grant.authority),
            name: Arc::clone(&grant.name),
            tenants: grant.tenants.clone(),
        }
    }
}

/// Something of which only so much a second may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of bodies, as they were sent.
    Bytes,
    /// Float samples and histograms.
    Samples,
    /// Spans.
    Spans,
}

/// Counts of one owner of limits.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) whose: Whose,
    limits: ArcSwap<LimitOverrides>,
    in_flight: AtomicU32,
    bytes: Bucket,
    samples: Bucket,
    spans: Bucket,
    series: Mutex<ActiveSeries>,
    used_ns: AtomicU64,
}

impl Account {
    pub(crate) fn new(whose: Whose, limits: Arc<LimitOverrides>) -> Self {
        Self {
            whose,
            limits: ArcSwap::new(limits),
            in_flight: AtomicU32::new(0),
            bytes: Bucket::default(),
            samples: Bucket::default(),
            spans: Bucket::default(),
            series: Mutex::default(),
            used_ns: AtomicU64::new(0),
        }
    }

    /// The limits that it has.
    pub(crate) fn limits(&self) -> Arc<LimitOverrides> {
        self.limits.load_full()
    }

    /// Has other limits from now on; what was taken stays taken.
    pub(crate) fn limit(&self, limits: &Arc<LimitOverrides>, now_ns: u64) {
        let before = self.limits.swap(Arc::clone(limits));
        for unit in [Unit::Bytes, Unit::Samples, Unit::Spans] {
            // Without a rate before nothing is owed, and without one now nobody asks.
            if let (Some((_, from)), Some((_, to))) = (rate(&before, unit), rate(limits, unit))
                && from != to
            {
                self.bucket(unit).change_rate(from, to, now_ns);
            }
        }
    }

    /// Takes a place among the requests under way.
    pub(crate) fn begin(&self) -> Result<(), OverLimit> {
        let limit = self.limits.load().requests_in_flight;
        let taken = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            limit.is_none_or(|limit| count < limit).then(|| count.saturating_add(1))
        });
        match (taken, limit) {
            (Err(_), Some(limit)) => Err(OverLimit {
                limit: "requests_in_flight",
                value: u64::from(limit),
                whose: self.whose.clone(),
                retry_after: Duration::from_secs(1),
            }),
            _ => Ok(()),
        }
    }

    /// Gives the place back.
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Refuses while more of `unit` was taken than the rate allows.
    pub(crate) fn check(&self, unit: Unit, burst: Duration, now_ns: u64) -> Result<(), OverLimit> {
        self.used_ns.store(now_ns, Ordering::Relaxed);
        let Some((name, rate)) = self.rate(unit, burst) else { return Ok(()) };
        match self.bucket(unit).wait(rate, now_ns) {
            None => Ok(()),
            Some(wait) => {
                Err(OverLimit { limit: name, value: rate.per_second, whose: self.whose.clone(), retry_after: wait })
            }
        }
    }

    /// Asks for the series of a batch one by one.
    pub(crate) fn series(&self, max: u64, now_ns: u64) -> SeriesGate<'_> {
        self.used_ns.store(now_ns, Ordering::Relaxed);
        let over = OverLimit {
            limit: "series_active",
            value: max,
            whose: self.whose.clone(),
            retry_after: Duration::from_mins(1),
        };
        let mut series = self.series.lock();
        series.turn(now_ns);
        SeriesGate { series, max, over }
    }

    /// Counts what was taken.
    pub(crate) fn take(&self, unit: Unit, units: u64, burst: Duration, now_ns: u64) {
        if let Some((_, rate)) = self.rate(unit, burst) {
            self.bucket(unit).take(rate, units, now_ns);
        }
    }

    /// Takes back what was counted.
    pub(crate) fn give_back(&self, unit: Unit, units: u64, burst: Duration) {
        if let Some((_, rate)) = self.rate(unit, burst) {
            self.bucket(unit).give_back(rate, units);
        }
    }

    /// Whether nothing is lost if it is forgotten: nobody used it for `idle`, nothing is owed, and no series is active.
    pub(crate) fn is_idle(&self, idle: Duration, now_ns: u64) -> bool {
        let used = now_ns.saturating_sub(self.used_ns.load(Ordering::Relaxed));
        self.in_flight.load(Ordering::Relaxed) == 0
            && u128::from(used) > idle.as_nanos()
            && [&self.bytes, &self.samples, &self.spans].iter().all(|bucket| bucket.is_paid(now_ns))
            // Who has the lock is using it.
            && self.series.try_lock().is_some_and(|mut series| {
                series.turn(now_ns);
                series.is_empty()
            })
    }

    fn rate(&self, unit: Unit, burst: Duration) -> Option<(&'static str, Rate)> {
        rate(&self.limits.load(), unit).map(|(name, per_second)| (name, Rate { per_second, burst }))
    }

    fn bucket(&self, unit: Unit) -> &Bucket {
        match unit {
            Unit::Bytes => &self.bytes,
            Unit::Samples => &self.samples,
            Unit::Spans => &self.spans,
        }
    }
}

/// The rate at which units may come, and the limit's name.
fn rate(limits: &LimitOverrides, unit: Unit) -> Option<(&'static str, u64)> {
    let (name, per_second) = match unit {
        Unit::Bytes => ("bytes_per_second", limits.bytes_per_second.map(|bytes| bytes.0)),
        Unit::Samples => ("samples_per_second", limits.samples_per_second),
        Unit::Spans => ("spans_per_second", limits.spans_per_second),
    };
    per_second.map(|per_second| (name, per_second))
}
