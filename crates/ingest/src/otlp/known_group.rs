//! A group that is known, with its metrics: see [`known`](super::known).

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;
use pharos_model::MetricKind;

use super::booked::Booked;
use super::group::Group;
use super::known::{KnownTenant, OVERHEAD_BYTES};
use super::streams::{Streams, same};
use crate::shares::Account;

/// A group and its metrics.
#[derive(Debug)]
pub(super) struct KnownGroup {
    pub hash: u64,
    pub group: Group,
    metrics: RwLock<Metrics>,
    account: Arc<Account>,
    _booked: Booked,
}

/// Metrics of a group in the order in which they were first seen.
#[derive(Debug, Default)]
struct Metrics {
    list: Vec<Arc<KnownMetric>>,
    by_hash: HashTable<u32>,
}

/// What tells metrics of a group apart, as far as names and labels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MetricKey<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    /// Which kind of points it has.
    pub kind: u8,
}

/// A metric and its streams.
#[derive(Debug)]
pub(super) struct KnownMetric {
    hash: u64,
    raw_name: Box<str>,
    raw_unit: Box<str>,
    kind: u8,
    /// Its translated name.
    pub name: String,
    /// Its unit in words.
    pub unit: String,
    pub metric_kind: MetricKind,
    pub streams: RwLock<Streams>,
    _booked: Booked,
}

impl KnownGroup {
    /// A group without metrics, and whether there is memory to keep it.
    pub(super) fn new(hash: u64, group: Group, account: &Arc<Account>) -> (Self, bool) {
        let mut booked = Booked::nothing(account);
        let is_kept = booked.add((group.memory_bytes() + size_of::<Self>() + OVERHEAD_BYTES) as u64);
        (Self { hash, group, metrics: RwLock::default(), account: Arc::clone(account), _booked: booked }, is_kept)
    }

    /// Whether it has no metric.
    pub(super) fn is_empty(&self) -> bool {
        self.metrics.read().list.is_empty()
    }

    /// The metric of this key, made by `make` if it is not known, and where it is; `guess` is where it may be.
    pub(super) fn metric(
        &self,
        known: &KnownTenant,
        guess: usize,
        key: MetricKey<'_>,
        make: impl FnOnce() -> Option<(String, String, MetricKind)>,
    ) -> Option<(Arc<KnownMetric>, usize)> {
        let hash = {
            let metrics = self.metrics.read();
            if let Some(metric) = metrics.list.get(guess).filter(|metric| metric.is(key)) {
                return Some((Arc::clone(metric), guess));
            }
            let hash = known.hash_of(key);
            if let Some(index) = metrics.find(hash, key) {
                return Some((Arc::clone(&metrics.list[index]), index));
            }
            hash
        };
        let (name, unit, metric_kind) = make()?;
        let mut booked = Booked::nothing(&self.account);
        let texts = key.name.len() + key.unit.len() + name.len() + unit.len();
        let is_kept = booked.add((size_of::<KnownMetric>() + OVERHEAD_BYTES + texts) as u64);
        let metric = Arc::new(KnownMetric {
            hash,
            raw_name: key.name.into(),
            raw_unit: key.unit.into(),
            kind: key.kind,
            name,
            unit,
            metric_kind,
            streams: RwLock::new(Streams::new(Booked::nothing(&self.account))),
            _booked: booked,
        });
        if !is_kept {
            return Some((metric, guess));
        }
        let mut metrics = self.metrics.write();
        if let Some(index) = metrics.find(hash, key) {
            return Some((Arc::clone(&metrics.list[index]), index));
        }
        let index = metrics.push(Arc::clone(&metric));
        Some((metric, index))
    }

    /// Streams that are not known yet, to be taken over by a metric.
    pub(super) fn new_streams(&self) -> Streams {
        Streams::new(Booked::nothing(&self.account))
    }

    /// Forgets the streams that were last used before `oldest_minute`, and metrics without any.
    pub(super) fn forget_before(&self, oldest_minute: u32) {
        let metrics: Vec<_> = self.metrics.read().list.iter().map(Arc::clone).collect();
        for metric in metrics {
            metric.streams.write().forget_before(oldest_minute);
        }
        let mut metrics = self.metrics.write();
        let before = std::mem::take(&mut *metrics);
        for metric in before.list {
            if !metric.streams.read().is_empty() {
                metrics.push(metric);
            }
        }
    }
}

impl Metrics {
    fn find(&self, hash: u64, key: MetricKey<'_>) -> Option<usize> {
        self.by_hash.find(hash, |index| self.list[*index as usize].is(key)).map(|index| *index as usize)
    }

    fn push(&mut self, metric: Arc<KnownMetric>) -> usize {
        let (index, hash) = (self.list.len(), metric.hash);
        self.list.push(metric);
        let list = &self.list;
        self.by_hash.insert_unique(hash, index as u32, |index| list[*index as usize].hash);
        index
    }
}

impl KnownMetric {
    fn is(&self, key: MetricKey<'_>) -> bool {
        self.kind == key.kind && &*self.raw_name == key.name && same(self.raw_unit.as_bytes(), key.unit.as_bytes())
    }
}
