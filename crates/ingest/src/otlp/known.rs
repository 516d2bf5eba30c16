//! What is known of the metrics that came before: resources with their labels, metrics with their names, streams with
//! their label sets. All of it can be made again at any time; it only saves the work.
//!
//! Three levels, each found by its bytes: a group is a resource (and the scope, where scopes become labels), it has
//! metrics, they have streams. All requests and tenants share them: what is here follows from the bytes that found it and
//! from settings alone.
//!
//! Memory is bounded. When it is full, nothing is added but what was not used for [`IDLE_MINUTES`] goes, looked for at
//! most once a minute; until then new streams cost what they cost the first time.
//!
//! Lock order: groups, metrics of a group, streams of a metric; no lock is waited for under the one of streams.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;
use pharos_base::ByteSize;

use super::booked::{Booked, Budget};
use super::group::{Group, GroupKey};
use super::streams::{Streams, same};

/// Streams that were not used for so long are forgotten when memory is full.
const IDLE_MINUTES: u32 = 10;
/// What a group or metric takes beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// All that is known.
#[derive(Debug)]
pub(super) struct Known {
    hasher: DefaultHashBuilder,
    budget: Arc<Budget>,
    groups: RwLock<HashTable<Arc<KnownGroup>>>,
    tidied_minute: AtomicU32,
}

/// A group and its metrics.
#[derive(Debug)]
pub(super) struct KnownGroup {
    hash: u64,
    pub group: Group,
    metrics: RwLock<Metrics>,
    budget: Arc<Budget>,
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
    pub streams: RwLock<Streams>,
    _booked: Booked,
}

impl Known {
    pub(super) fn new(memory_max: ByteSize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            budget: Arc::new(Budget::new(memory_max.0)),
            groups: RwLock::default(),
            tidied_minute: AtomicU32::new(0),
        }
    }

    /// A hash that only this process computes.
    #[inline]
    pub(super) fn hash(&self, bytes: &[u8], seed: u64) -> u64 {
        self.hasher.hash_one((bytes, seed))
    }

    /// Memory taken, bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.budget.taken_bytes()
    }

    /// The group of this key, made by `make` if it is not known.
    pub(super) fn group<E>(
        &self,
        key: &GroupKey<'_>,
        make: impl FnOnce() -> Result<Group, E>,
    ) -> Result<Arc<KnownGroup>, E> {
        let hash = self.hasher.hash_one(key);
        if let Some(known) = self.groups.read().find(hash, |known| known.group.is(key)) {
            return Ok(Arc::clone(known));
        }
        let group = make()?;
        let mut booked = Booked::nothing(&self.budget);
        let is_kept = booked.add((group.memory_bytes() + size_of::<KnownGroup>() + OVERHEAD_BYTES) as u64);
        let known =
            KnownGroup { hash, group, metrics: RwLock::default(), budget: Arc::clone(&self.budget), _booked: booked };
        let known = Arc::new(known);
        if is_kept {
            let mut groups = self.groups.write();
            if let Some(other) = groups.find(hash, |other| other.group.is(key)) {
                return Ok(Arc::clone(other));
            }
            groups.insert_unique(hash, Arc::clone(&known), |known| known.hash);
        }
        Ok(known)
    }

    /// Forgets what was not used for long, if memory was short since the last time, and that was not this minute.
    pub(super) fn tidy(&self, minute: u32) {
        if self.tidied_minute.load(Ordering::Relaxed) == minute || !self.budget.was_short() {
            return;
        }
        self.tidied_minute.store(minute, Ordering::Relaxed);
        let groups: Vec<_> = self.groups.read().iter().map(Arc::clone).collect();
        for group in &groups {
            group.forget_before(minute.saturating_sub(IDLE_MINUTES));
        }
        self.groups.write().retain(|group| !group.metrics.read().list.is_empty());
    }
}

impl KnownGroup {
    /// The metric of this key, made by `make` if it is not known, and where it is; `guess` is where it may be.
    pub(super) fn metric(
        &self,
        known: &Known,
        guess: usize,
        key: MetricKey<'_>,
        make: impl FnOnce() -> Option<(String, String)>,
    ) -> Option<(Arc<KnownMetric>, usize)> {
        let hash = {
            let metrics = self.metrics.read();
            if let Some(metric) = metrics.list.get(guess).filter(|metric| metric.is(key)) {
                return Some((Arc::clone(metric), guess));
            }
            let hash = known.hasher.hash_one(key);
            if let Some(index) = metrics.find(hash, key) {
                return Some((Arc::clone(&metrics.list[index]), index));
            }
            hash
        };
        let (name, unit) = make()?;
        let mut booked = Booked::nothing(&self.budget);
        let texts = key.name.len() + key.unit.len() + name.len() + unit.len();
        let is_kept = booked.add((size_of::<KnownMetric>() + OVERHEAD_BYTES + texts) as u64);
        let metric = Arc::new(KnownMetric {
            hash,
            raw_name: key.name.into(),
            raw_unit: key.unit.into(),
            kind: key.kind,
            name,
            unit,
            streams: RwLock::new(Streams::new(Booked::nothing(&self.budget))),
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
        Streams::new(Booked::nothing(&self.budget))
    }

    fn forget_before(&self, oldest_minute: u32) {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

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
        let decoded = decoder.decode(body.as_bytes(), WireForm::Json, TimeWindow::ALL, minute * MINUTE_MS).unwrap();
        decoded.batch.series.len()
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
        let some_of_second = decoder.known_bytes();
        decode(&decoder, &second, 21);
        assert!(decoder.known_bytes() > some_of_second / 2, "room of the first, which was idle");
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
}
