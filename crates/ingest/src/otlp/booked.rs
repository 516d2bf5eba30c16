//! Memory that caches take from a common budget, given back when they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number of bytes that several may take from.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    taken_bytes: AtomicU64,
    /// Whether somebody was turned away since the last look.
    was_short: AtomicBool,
}

impl Budget {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, taken_bytes: AtomicU64::new(0), was_short: AtomicBool::new(false) }
    }

    /// Bytes taken.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Whether somebody was turned away since this was asked last.
    pub(super) fn was_short(&self) -> bool {
        self.was_short.load(Ordering::Relaxed) && self.was_short.swap(false, Ordering::Relaxed)
    }
}

/// What one has taken.
#[derive(Debug)]
pub(super) struct Booked {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Booked {
    pub(super) fn nothing(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes more, if the limit allows.
    pub(super) fn add(&mut self, bytes: u64) -> bool {
        let before = self.budget.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget.limit_bytes {
            self.budget.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.was_short.store(true, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Takes over what another took from the same budget.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives a part back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
