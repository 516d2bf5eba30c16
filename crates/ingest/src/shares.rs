//! Memory of what is remembered of requests, shared out among tenants.
//!
//! All tenants take from one budget, and while there is room each takes what it needs. When there is none, and a tenant that has
//! next to nothing is turned away, the one that has the most pays: all that is remembered of it goes, and is made again as its
//! requests come. From then on, until nobody was turned away so for [`CALM_MINUTES`], a tenant takes no more than it leaves to
//! others. So one whose labels change all the time takes what is free, and nothing from others.
//!
//! Numbers are read and written one by one: of tenants that take at the same moment one may be turned away that would have fitted.

mod by_tenant;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

pub(crate) use by_tenant::{ByTenant, TenantMemory};

/// How long a tenant takes no more than it leaves to others, after one was turned away.
const CALM_MINUTES: u32 = 10;

/// What all tenants take from.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: u64,
    taken_bytes: AtomicU64,
    /// Accounts there are.
    tenants: AtomicUsize,
    /// Whether somebody was turned away since the last look.
    was_short: AtomicBool,
    /// Whether it was somebody with next to nothing.
    was_pressed: AtomicBool,
    /// Whether somebody was pressed of late.
    is_contested: AtomicBool,
    calm_at_minute: AtomicU32,
    looked_minute: AtomicU32,
}

/// What one tenant has taken.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    taken_bytes: AtomicU64,
}

/// What became of a budget since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nobody was turned away, or the last look was this minute.
    None,
    /// Somebody was turned away: what is idle should go.
    Full,
    /// Somebody with next to nothing was: who has the most pays, if nothing that is idle can go.
    Pressed,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            taken_bytes: AtomicU64::new(0),
            tenants: AtomicUsize::new(0),
            was_short: AtomicBool::new(false),
            was_pressed: AtomicBool::new(false),
            is_contested: AtomicBool::new(false),
            calm_at_minute: AtomicU32::new(0),
            looked_minute: AtomicU32::new(0),
        }
    }

    /// Bytes taken by all.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Relaxed)
    }

    /// What became of it, asked at most once a minute.
    pub(crate) fn look(&self, minute: u32) -> Shortage {
        if self.looked_minute.load(Relaxed) == minute || !self.was_short.load(Relaxed) {
            return Shortage::None;
        }
        self.looked_minute.store(minute, Relaxed);
        self.was_short.store(false, Relaxed);
        if self.was_pressed.swap(false, Relaxed) {
            self.calm_at_minute.store(minute.saturating_add(CALM_MINUTES), Relaxed);
            self.is_contested.store(true, Relaxed);
            return Shortage::Pressed;
        }
        if minute >= self.calm_at_minute.load(Relaxed) {
            self.is_contested.store(false, Relaxed);
        }
        Shortage::Full
    }

    /// Whether nobody takes more than it leaves to others.
    fn is_contested(&self) -> bool {
        self.is_contested.load(Relaxed) && self.tenants.load(Relaxed) > 1
    }

    /// Below this a tenant has next to nothing: half of an even share. With one tenant nobody has.
    fn little_bytes(&self) -> u64 {
        match self.tenants.load(Relaxed) as u64 {
            0 | 1 => 0,
            tenants => self.limit_bytes / (2 * tenants),
        }
    }
}

impl Account {
    pub(crate) fn open(budget: &Arc<Budget>) -> Self {
        budget.tenants.fetch_add(1, Relaxed);
        Self { budget: Arc::clone(budget), taken_bytes: AtomicU64::new(0) }
    }

    /// Takes more, if there is room for it.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let budget = &self.budget;
        let of_all = budget.taken_bytes.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let own = self.taken_bytes.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let leaves = budget.limit_bytes.checked_sub(of_all);
        if leaves.is_some_and(|leaves| own <= leaves || !budget.is_contested()) {
            return true;
        }
        self.give_back(bytes);
        budget.was_short.store(true, Relaxed);
        if own <= budget.little_bytes() {
            budget.was_pressed.store(true, Relaxed);
        }
        false
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Relaxed);
        self.budget.taken_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Bytes taken.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Relaxed)
    }

    /// What it could have in all, if others took no more.
    pub(crate) fn bytes_max(&self) -> u64 {
        let of_others = self.budget.taken_bytes().saturating_sub(self.taken_bytes());
        let left = self.budget.limit_bytes.saturating_sub(of_others);
        if self.budget.is_contested() { left / 2 } else { left }
    }
}

impl Drop for Account {
    /// What was taken for things that outlive it was given back with them.
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.taken_bytes(), Relaxed);
        self.budget.tenants.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(limit_bytes: u64, count: usize) -> (Arc<Budget>, Vec<Account>) {
        let budget = Arc::new(Budget::new(limit_bytes));
        let accounts = (0..count).map(|_| Account::open(&budget)).collect();
        (budget, accounts)
    }

    #[test]
    fn who_is_alone_takes_all_and_who_is_turned_away_with_a_lot_presses_nobody() {
        let (budget, accounts) = accounts(100, 1);
        assert!(accounts[0].take(60) && accounts[0].take(40) && !accounts[0].take(1));
        assert_eq!((budget.look(1), budget.look(1), budget.taken_bytes()), (Shortage::Full, Shortage::None, 100));
        accounts[0].give_back(100);
        assert!(!accounts[0].take(101));
        assert_eq!((budget.look(1), budget.look(2)), (Shortage::None, Shortage::Full));
        drop(accounts);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn who_has_next_to_nothing_presses_and_nobody_takes_more_than_it_leaves_until_all_is_calm() {
        let (budget, mut accounts) = accounts(100, 2);
        assert!(accounts[0].take(95) && accounts[1].take(5) && !accounts[1].take(10));
        assert_eq!(budget.look(1), Shortage::Pressed);
        accounts[0] = Account::open(&budget);
        assert_eq!((accounts[0].bytes_max(), accounts[1].bytes_max()), (47, 50));
        assert!(accounts[0].take(40) && !accounts[0].take(10), "that would leave 45");
        assert!(accounts[1].take(22) && !accounts[1].take(5));
        assert_eq!((budget.look(2), budget.look(2)), (Shortage::Full, Shortage::None));
        assert!(!accounts[0].take(33), "not calm");
        assert_eq!(budget.look(11), Shortage::Full);
        assert!(accounts[0].take(33));
    }
}
