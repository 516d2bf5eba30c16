//! How much: the limits of a tenant and of a credential, and what they have taken of them.
//!
//! A request is admitted before its body is read, and charged for what it brought when that is known: [`bucket`] says how both fit.
//! Both accounts are asked, the credential's (its own limits alone) and the tenant's (its own, else those of all). Queries are
//! counted where they run: see [`Quotas::of_queries`].
//!
//! Invariants
//! - L1 Who has no limits costs nothing: there is no account.
//! - L2 Accounts are bounded in number; only owners that were admitted have one. Those are forgotten of which nothing is lost: no
//!   request, no debt, no active series.
//! - L3 Settings may change under requests that are under way: accounts keep their counts (what is owed is owed in units, whatever the
//!   rate becomes), and none has limits of before a reload once that has returned.
//!
//! Lock order: `accounts` alone.

mod account;
mod bucket;
mod over_limit;
mod series;
mod settings;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use pharos_base::Clock;
use pharos_http::{OwnLimits, QueryLimits};
use pharos_model::TenantId;

use crate::{LimitOverrides, Principal};
pub use account::{Credential, Unit, Whose};
pub use over_limit::OverLimit;
pub use series::SeriesGate;
pub use settings::{LimitSettings, TenantLimits};

use account::Account;

/// Accounts kept at most.
const ACCOUNTS_MAX: usize = 100_000;
/// Accounts that nobody used for so long are forgotten where room is needed.
const IDLE: Duration = Duration::from_mins(10);
/// Accounts are looked through when there are so many more than after the last time.
const SWEEP_STEP: usize = 1_000;

/// All limits and all accounts.
#[derive(Debug)]
pub struct Quotas {
    clock: Arc<dyn Clock>,
    begun_at: Instant,
    /// Replaced only by who holds `accounts` alone.
    limits: ArcSwap<Limits>,
    accounts: RwLock<HashMap<Whose, Arc<Account>>>,
    /// Of the numbers by which queries know a credential.
    hasher: RandomState,
}

/// The settings in the form that is asked.
#[derive(Debug)]
struct Limits {
    all: Arc<LimitOverrides>,
    burst: Duration,
    /// Of tenants that have their own: those laid over the ones of all.
    tenants: HashMap<TenantId, Arc<LimitOverrides>>,
}

impl Limits {
    fn new(settings: &LimitSettings, tenants: &[TenantLimits]) -> Self {
        let laid_over = |one: &TenantLimits| (one.tenant.clone(), Arc::new(one.limits.over(&settings.all)));
        Self {
            all: Arc::new(settings.all.clone()),
            burst: settings.burst(),
            tenants: tenants.iter().map(laid_over).collect(),
        }
    }

    fn of(&self, tenant: &TenantId) -> &Arc<LimitOverrides> {
        self.tenants.get(tenant).unwrap_or(&self.all)
    }
}

impl Quotas {
    /// Nothing taken yet.
    #[must_use]
    pub fn new(settings: &LimitSettings, tenants: &[TenantLimits], clock: Arc<dyn Clock>) -> Self {
        let limits = ArcSwap::from_pointee(Limits::new(settings, tenants));
        Self { begun_at: clock.monotonic(), clock, limits, accounts: RwLock::default(), hasher: RandomState::new() }
    }

    /// No limits at all.
    #[must_use]
    pub fn unlimited(clock: Arc<dyn Clock>) -> Self {
        Self::new(&LimitSettings::default(), &[], clock)
    }

    /// Takes other settings; what was taken so far stays taken.
    pub fn reload(&self, settings: &LimitSettings, tenants: &[TenantLimits]) {
        let limits = Arc::new(Limits::new(settings, tenants));
        // Alone with the accounts: nobody makes or finds one with limits that were read before.
        let accounts = self.accounts.write();
        self.limits.store(Arc::clone(&limits));
        for account in accounts.values() {
            if let Whose::Tenant(tenant) = &account.whose {
                account.limit(limits.of(tenant), self.now_ns());
            }
        }
    }

    /// The limits of a tenant, whoever asks.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantId) -> Arc<LimitOverrides> {
        Arc::clone(self.limits.load().of(tenant))
    }

    /// What queries of `principal` for `tenant` may. Those that run and wait are counted for the tenant by the tenant's limits, and
    /// for the credential by its own; of all others the stricter counts.
    #[must_use]
    pub fn of_queries(&self, principal: &Principal, tenant: &TenantId) -> QueryLimits {
        let (of_tenant, own) = (self.of_tenant(tenant), &principal.grant().limits);
        if own.is_empty() {
            return of_tenant.of_queries();
        }
        let (held_max, waiting_max) = (own.queries_in_flight, own.queries_queued);
        let whose = || self.hasher.hash_one(Credential::of(principal));
        let is_counted = held_max.is_some() || waiting_max.is_some();
        QueryLimits {
            in_flight: of_tenant.queries_in_flight,
            queued: of_tenant.queries_queued,
            own: is_counted.then(|| OwnLimits { whose: whose(), held_max, waiting_max }),
            ..own.strictest_with(&of_tenant).of_queries()
        }
    }

    /// The quota of requests of `principal` for `tenant`.
    #[must_use]
    pub fn of(self: &Arc<Self>, principal: &Principal, tenant: &TenantId) -> Quota {
        let limits = self.limits.load();
        let (of_tenant, own) = (limits.of(tenant), &principal.grant().limits);
        let mut accounts = [None, None];
        if own.counts() || own.series_active.is_some() {
            let whose = Whose::Credential(Credential::of(principal));
            accounts[0] = Some(self.account(whose, |known| **known == *own, || Arc::new(own.clone())));
        }
        if of_tenant.counts() {
            let now = || self.of_tenant(tenant);
            accounts[1] = Some(self.account(Whose::Tenant(tenant.clone()), |known| Arc::ptr_eq(known, &now()), now));
        }
        let strictest = if own.is_empty() { Arc::clone(of_tenant) } else { Arc::new(own.strictest_with(of_tenant)) };
        Quota { quotas: Arc::clone(self), burst: limits.burst, accounts, limits: strictest }
    }

    /// The account of an owner, with the limits that it has now.
    fn account(
        &self,
        whose: Whose,
        are_current: impl Fn(&Arc<LimitOverrides>) -> bool,
        limits: impl Fn() -> Arc<LimitOverrides>,
    ) -> Arc<Account> {
        let with_limits = |account: &Arc<Account>| {
            if !are_current(&account.limits()) {
                account.limit(&limits(), self.now_ns());
            }
            Arc::clone(account)
        };
        if let Some(account) = self.accounts.read().get(&whose) {
            return with_limits(account);
        }
        let mut accounts = self.accounts.write();
        if accounts.len() >= SWEEP_STEP && accounts.len() == accounts.capacity() || accounts.len() >= ACCOUNTS_MAX {
            let now_ns = self.now_ns();
            accounts.retain(|_, account| !account.is_idle(IDLE, now_ns));
        }
        if accounts.len() >= ACCOUNTS_MAX {
            // Not remembered: it starts anew with each request, and so does whoever makes up so many owners.
            return Arc::new(Account::new(whose, limits()));
        }
        let made = || Arc::new(Account::new(whose.clone(), limits()));
        with_limits(accounts.entry(whose.clone()).or_insert_with(made))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from((self.clock.monotonic() - self.begun_at).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What one request may do.
#[derive(Debug, Clone)]
pub struct Quota {
    quotas: Arc<Quotas>,
    burst: Duration,
    /// The credential's, then the tenant's.
    accounts: [Option<Arc<Account>>; 2],
    limits: Arc<LimitOverrides>,
}

/// A request under way; its place is given back when dropped.
#[derive(Debug)]
pub struct InFlight([Option<Arc<Account>>; 2]);

impl Quota {
    /// The strictest of all limits that apply.
    #[must_use]
    pub fn limits(&self) -> &LimitOverrides {
        &self.limits
    }

    /// Takes a place among the requests under way.
    ///
    /// # Errors
    /// [`OverLimit`] of `requests_in_flight`.
    pub fn begin(&self) -> Result<InFlight, OverLimit> {
        let mut taken = InFlight([None, None]);
        for (place, account) in taken.0.iter_mut().zip(&self.accounts) {
            if let Some(account) = account {
                account.begin()?;
                *place = Some(Arc::clone(account));
            }
        }
        Ok(taken)
    }

    /// Whether more of `unit` may come now.
    ///
    /// # Errors
    /// [`OverLimit`] of the rate.
    pub fn check(&self, unit: Unit) -> Result<(), OverLimit> {
        self.accounts.iter().flatten().try_for_each(|account| account.check(unit, self.burst, self.quotas.now_ns()))
    }

    /// Asks for the series of a batch; `None` where the credential has no limit of its own. The tenant's is the store's to
    /// keep. Others of the same credential wait until it is dropped.
    #[must_use]
    pub fn series(&self) -> Option<SeriesGate<'_>> {
        let account = self.accounts[0].as_ref()?;
        let max = account.limits().series_active?;
        Some(account.series(max, self.quotas.now_ns()))
    }

    /// Counts what came.
    pub fn take(&self, unit: Unit, units: u64) {
        for account in self.accounts.iter().flatten() {
            account.take(unit, units, self.burst, self.quotas.now_ns());
        }
    }

    /// Takes back what was counted and did not come to be stored.
    pub fn give_back(&self, unit: Unit, units: u64) {
        for account in self.accounts.iter().flatten().filter(|_| units > 0) {
            account.give_back(unit, units, self.burst);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(|account| account.end());
    }
}

#[cfg(test)]
mod tests;
