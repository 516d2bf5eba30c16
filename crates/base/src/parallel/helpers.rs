//! Threads that may help others: a number, not threads that exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads may help callers, of all callers together; clones share them.
#[derive(Debug, Clone)]
pub struct Helpers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    free: AtomicUsize,
}

/// Some of the [`Helpers`]; dropping it gives them back.
#[derive(Debug)]
pub struct Lent {
    helpers: Helpers,
    count: usize,
}

impl Helpers {
    /// So many, for callers that are none of them.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Inner { total: count, free: AtomicUsize::new(count) }))
    }

    /// As many as keep all cores busy together with one caller.
    #[must_use]
    pub fn for_cores() -> Self {
        Self::new(crate::available_cores() - 1)
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// How many of them are lent now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.0.total - self.0.free.load(Ordering::Relaxed)
    }

    /// As many as are free, at most `wanted`, perhaps none. Nobody waits for them. `busy` other callers are at work on
    /// their own and leave as many fewer cores.
    #[must_use]
    pub fn lend(&self, wanted: usize, busy: usize) -> Lent {
        let lent = |free: usize| free.saturating_sub(busy).min(wanted);
        let take = |free: usize| Some(free - lent(free));
        let before = self.0.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        Lent { helpers: self.clone(), count: lent(before) }
    }
}

impl Lent {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.helpers.0.free.fetch_add(self.count, Ordering::Relaxed);
    }
}
