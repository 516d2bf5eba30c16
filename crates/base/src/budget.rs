//! A memory budget: what one query may hold at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More memory was asked for than the budget holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs more than its memory budget of {limit_bytes} bytes")]
pub struct BudgetExceeded {
    /// The budget's size, bytes.
    pub limit_bytes: u64,
}

#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "each field says its unit")]
struct Inner {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
}

/// Counts bytes held on behalf of one query; clones share the count.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Inner { limit_bytes, used_bytes: AtomicU64::new(0), peak_bytes: AtomicU64::new(0) }))
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
        let inner = &self.budget.0;
        let before = inner.used_bytes.fetch_add(more, Ordering::Relaxed);
        let after = before.saturating_add(more);
        if after > inner.limit_bytes {
            inner.used_bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(BudgetExceeded { limit_bytes: inner.limit_bytes });
        }
        inner.peak_bytes.fetch_max(after, Ordering::Relaxed);
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
        self.budget.0.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_at_its_limit_and_recovers_when_bytes_return() {
        let budget = MemoryBudget::new(100);
        let first = budget.reserve(60).unwrap();
        assert_eq!(budget.reserve(41).unwrap_err(), BudgetExceeded { limit_bytes: 100 });
        assert_eq!(budget.used_bytes(), 60);
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.reserve(100).is_ok());
        assert_eq!(budget.peak_bytes(), 100);
    }
}
