//! Memory budgets: what one piece of work may hold at a time, and what all of them together may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Crossing, ErrorClass};

/// More memory was asked for than a budget holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs more than {} of {limit_bytes} bytes", if *.is_shared { "is left of a common memory budget" } else { "its memory budget" })]
pub struct BudgetExceeded {
    /// The size of the budget that is used up, bytes.
    pub limit_bytes: u64,
    /// Whether others hold parts of that budget, too: with time there may be room again.
    pub is_shared: bool,
}

impl BudgetExceeded {
    /// Of a common budget there may be more with time; of one's own there never is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        if self.is_shared { ErrorClass::Unavailable } else { ErrorClass::LimitExceeded }
    }
}

#[derive(Debug)]
struct Inner {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    crossing: Crossing,
    whole: Option<Arc<Inner>>,
}

/// Counts bytes held on behalf of one piece of work; clones share the count. What it holds counts in the budget that
/// it is a part of as well.
///
/// It also keeps when its piece of work first crossed a limit, be it this one or another that the work knows.
///
/// Threads that work together share it: one count of clones beside the counts of bytes, so that taking some has them wait
/// for each other as little as can be.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self(Inner::new(limit_bytes, None))
    }

    /// A part of this budget, with a limit of its own. Parts of parts count in the first whole only.
    #[must_use]
    pub fn part(&self, limit_bytes: u64) -> Self {
        let whole = self.0.whole.as_ref().unwrap_or(&self.0);
        Self(Inner::new(limit_bytes, Some(Arc::clone(whole))))
    }

    /// A budget that never refuses, for tests and tools.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Takes `bytes` until the reservation is dropped.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if the sum would pass the limit; nothing is taken then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Whether so many bytes are left at the moment: for work that knows a thriftier way.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        [Some(&self.0), self.0.whole.as_ref()].into_iter().flatten().all(|budget| budget.has_room(bytes))
    }

    /// When its piece of work first crossed a limit: a refusal of this budget notes it.
    #[must_use]
    pub fn crossing(&self) -> &Crossing {
        &self.0.crossing
    }

    /// Bytes held now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// The most bytes ever held at once.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak_bytes.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn new(limit_bytes: u64, whole: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            crossing: Crossing::default(),
            whole,
        })
    }

    /// Takes the bytes, or says that there are not as many.
    fn take(&self, bytes: u64) -> bool {
        let before = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        if after > self.limit_bytes {
            self.give_back(bytes);
            return false;
        }
        if after > self.peak_bytes.load(Ordering::Relaxed) {
            self.peak_bytes.fetch_max(after, Ordering::Relaxed);
        }
        true
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used_bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.limit_bytes
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes taken from a budget; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Takes `more` bytes on top.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; the reservation keeps what it had.
    pub fn grow(&mut self, more: u64) -> Result<(), BudgetExceeded> {
        let own = &*self.budget.0;
        let Inner { crossing, whole, .. } = own;
        if !own.take(more) {
            crossing.note();
            return Err(BudgetExceeded { limit_bytes: own.limit_bytes, is_shared: false });
        }
        if let Some(whole) = whole
            && !whole.take(more)
        {
            own.give_back(more);
            crossing.note();
            return Err(BudgetExceeded { limit_bytes: whole.limit_bytes, is_shared: true });
        }
        self.bytes += more;
        Ok(())
    }

    /// Bytes held by this reservation.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let own = &self.budget.0;
        own.give_back(self.bytes);
        if let Some(whole) = &own.whole {
            whole.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_at_its_limit_and_recovers_when_bytes_return() {
        let budget = MemoryBudget::new(100);
        let first = budget.reserve(60).unwrap();
        assert!(budget.has_room(40) && !budget.has_room(41) && budget.crossing().at().is_none());
        assert_eq!(budget.reserve(41).unwrap_err(), BudgetExceeded { limit_bytes: 100, is_shared: false });
        assert_eq!(budget.used_bytes(), 60);
        assert!(budget.crossing().at().is_some());
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.reserve(100).is_ok());
        assert_eq!(budget.peak_bytes(), 100);
    }

    #[test]
    fn parts_of_a_budget_share_it() {
        let whole = MemoryBudget::new(100);
        let (a, b) = (whole.part(80), whole.part(80));
        let held = a.reserve(70).unwrap();
        assert_eq!(a.reserve(11).unwrap_err(), BudgetExceeded { limit_bytes: 80, is_shared: false });
        assert!(!b.has_room(31) && b.crossing().at().is_none());
        let error = b.reserve(31).unwrap_err();
        assert_eq!(error, BudgetExceeded { limit_bytes: 100, is_shared: true });
        assert_eq!(error.to_string(), "needs more than is left of a common memory budget of 100 bytes");
        assert_eq!((whole.used_bytes(), a.used_bytes(), b.used_bytes()), (70, 70, 0), "a refusal takes nothing");
        assert!(b.crossing().at().is_some() && whole.crossing().at().is_none(), "of the part's work alone");
        drop(held);
        assert_eq!((whole.used_bytes(), a.used_bytes()), (0, 0));
        assert!(b.reserve(80).is_ok());
    }
}
