//! The books of one query: bytes and samples held now, counts for the statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pharos_base::{MemoryBudget, Reservation};

use super::QueryError;

#[derive(Debug)]
struct Books {
    memory: MemoryBudget,
    samples_max: u64,
    samples_held: AtomicU64,
    samples_peak: AtomicU64,
    samples_read: AtomicU64,
    samples_queryable: AtomicU64,
    series_read: AtomicU64,
}

/// Handle on the books; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Arc<Books>);

/// Bytes and samples held on behalf of a query; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Ledger,
    samples: u64,
    bytes: Reservation,
}

/// The counts of a finished query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) samples_held: u64,
    pub(super) samples_peak: u64,
    pub(super) samples_read: u64,
    pub(super) samples_queryable: u64,
    pub(super) series_read: u64,
}

impl Ledger {
    pub(super) fn new(memory: MemoryBudget, samples_max: u64) -> Self {
        Self(Arc::new(Books {
            memory,
            samples_max,
            samples_held: AtomicU64::new(0),
            samples_peak: AtomicU64::new(0),
            samples_read: AtomicU64::new(0),
            samples_queryable: AtomicU64::new(0),
            series_read: AtomicU64::new(0),
        }))
    }

    /// Takes `samples` and `bytes` until the lease is dropped.
    pub(super) fn hold(&self, samples: usize, bytes: usize) -> Result<Lease, QueryError> {
        let bytes = self.0.memory.reserve(bytes as u64)?;
        let mut lease = Lease { ledger: self.clone(), samples: 0, bytes };
        lease.grow(samples, 0)?;
        Ok(lease)
    }

    /// Notes a series that came from the store.
    pub(super) fn count_read(&self, samples: usize) {
        self.0.series_read.fetch_add(1, Relaxed);
        self.0.samples_read.fetch_add(samples as u64, Relaxed);
    }

    /// What is to be told of more samples than allowed; notes when that was.
    pub(super) fn too_many_samples(&self) -> QueryError {
        self.0.memory.crossing().note();
        QueryError::TooManySamples { limit: self.0.samples_max }
    }

    /// The samples that it may hold at a time.
    pub(super) fn samples_max(&self) -> u64 {
        self.0.samples_max
    }

    /// Notes samples that one selector looked at.
    pub(super) fn count_queryable(&self, samples: u64) {
        self.0.samples_queryable.fetch_add(samples, Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            samples_held: self.0.samples_held.load(Relaxed),
            samples_peak: self.0.samples_peak.load(Relaxed),
            samples_read: self.0.samples_read.load(Relaxed),
            samples_queryable: self.0.samples_queryable.load(Relaxed),
            series_read: self.0.series_read.load(Relaxed),
        }
    }
}

impl Lease {
    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }

    /// Takes more on top.
    pub(super) fn grow(&mut self, samples: usize, bytes: usize) -> Result<(), QueryError> {
        self.bytes.grow(bytes as u64)?;
        let books = &self.ledger.0;
        let held = books.samples_held.fetch_add(samples as u64, Relaxed) + samples as u64;
        self.samples += samples as u64;
        if held > books.samples_peak.load(Relaxed) {
            books.samples_peak.fetch_max(held, Relaxed);
        }
        if held > books.samples_max { Err(self.ledger.too_many_samples()) } else { Ok(()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ledger.0.samples_held.fetch_sub(self.samples, Relaxed);
    }
}
