//! Queries that ended: the latest ones, within a bound of memory.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pharos_base::{Clock, SystemClock};
use pharos_model::TenantId;

use super::{Asked, QueryKind, QueryLoad};

/// What a key takes beside its texts: the set's slot and the counts of the pointers.
const KEY_BYTES: u64 = 128;

/// Queries with equal keys are the same query, asked again.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    text: String,
    range_seconds: u64,
    tenant: TenantId,
    kind: QueryKind,
}

impl Key {
    fn bytes(&self) -> u64 {
        KEY_BYTES + size_of::<Self>() as u64 + self.text.len() as u64
    }
}

/// One query that ended.
#[derive(Debug, Clone)]
pub(super) struct Record {
    key: Arc<Key>,
    ended_at: Instant,
    duration: Duration,
    memory_bytes: u64,
    samples_read: u64,
}

/// The latest records; equal keys are kept once.
#[derive(Debug, Default)]
pub(super) struct History {
    records: VecDeque<Record>,
    keys: HashSet<Arc<Key>>,
    bytes: u64,
    bytes_max: u64,
}

impl History {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Remembers a query; the oldest ones make room.
    pub(super) fn push(&mut self, asked: &Asked, duration: Duration, load: &QueryLoad) {
        if self.bytes_max == 0 {
            return;
        }
        let key = Key {
            tenant: asked.tenant.clone(),
            kind: asked.kind,
            text: asked.text.clone(),
            range_seconds: asked.range_seconds(),
        };
        let key = if let Some(known) = self.keys.get(&key) {
            Arc::clone(known)
        } else {
            self.bytes += key.bytes();
            let key = Arc::new(key);
            self.keys.insert(Arc::clone(&key));
            key
        };
        let ended_at = SystemClock.monotonic();
        let (memory_bytes, samples_read) = (load.memory_bytes_peak, load.samples_read);
        self.records.push_back(Record { key, ended_at, duration, memory_bytes, samples_read });
        self.bytes += size_of::<Record>() as u64;
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= size_of::<Record>() as u64;
            // The set's own pointer and this one.
            if Arc::strong_count(&oldest.key) == 2 {
                self.keys.remove(&oldest.key);
                self.bytes -= oldest.key.bytes();
            }
        }
    }

    /// Those of a tenant, or all, that ended within `age_max`.
    pub(super) fn records(&self, tenant: Option<&TenantId>, age_max: Duration) -> Vec<Record> {
        let now = SystemClock.monotonic();
        let is_shown = |record: &&Record| {
            tenant.is_none_or(|tenant| record.key.tenant == *tenant) && now - record.ended_at <= age_max
        };
        self.records.iter().filter(is_shown).cloned().collect()
    }
}

/// A query and what all its runs took together.
#[derive(Debug, Clone)]
pub struct TopQuery {
    key: Arc<Key>,
    /// How often it was asked.
    pub count: u64,
    /// How long it took, all runs together.
    pub duration_sum: Duration,
    /// Peaks of memory, all runs together, bytes.
    pub memory_bytes_sum: u64,
    /// Samples read, all runs together.
    pub samples_read_sum: u64,
}

impl TopQuery {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.key.text
    }

    /// Whose query.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.key.tenant
    }

    /// Which question.
    #[must_use]
    pub fn kind(&self) -> QueryKind {
        self.key.kind
    }

    /// How long a time it asks for, seconds.
    #[must_use]
    pub fn range_seconds(&self) -> u64 {
        self.key.range_seconds
    }

    /// How long a run takes on average.
    #[must_use]
    pub fn duration_mean(&self) -> Duration {
        self.duration_sum / u32::try_from(self.count.max(1)).unwrap_or(u32::MAX)
    }

    /// The peak of memory of a run on average, bytes.
    #[must_use]
    pub fn memory_bytes_mean(&self) -> u64 {
        self.memory_bytes_sum / self.count.max(1)
    }
}

/// Queries ranked by what they took.
#[derive(Debug, Clone, Default)]
pub struct TopQueries {
    /// How many runs were looked at.
    pub run_count: usize,
    /// Asked most often.
    pub by_count: Vec<TopQuery>,
    /// The slowest on average.
    pub by_duration_mean: Vec<TopQuery>,
    /// Those that took most time in all.
    pub by_duration_sum: Vec<TopQuery>,
    /// Those that held most memory on average.
    pub by_memory_mean: Vec<TopQuery>,
    /// Those that read most samples in all.
    pub by_samples_sum: Vec<TopQuery>,
}

/// The first `count` by each measure; equal ones in the order of their texts.
pub(super) fn top(records: &[Record], count: usize) -> TopQueries {
    let mut sums: HashMap<&Arc<Key>, TopQuery> = HashMap::new();
    for record in records {
        let sum = sums.entry(&record.key).or_insert_with(|| TopQuery {
            key: Arc::clone(&record.key),
            count: 0,
            duration_sum: Duration::ZERO,
            memory_bytes_sum: 0,
            samples_read_sum: 0,
        });
        sum.count += 1;
        sum.duration_sum += record.duration;
        sum.memory_bytes_sum = sum.memory_bytes_sum.saturating_add(record.memory_bytes);
        sum.samples_read_sum = sum.samples_read_sum.saturating_add(record.samples_read);
    }
    let mut all: Vec<TopQuery> = sums.into_values().collect();
    TopQueries {
        run_count: records.len(),
        by_count: first(&mut all, count, |query| query.count),
        by_duration_mean: first(&mut all, count, TopQuery::duration_mean),
        by_duration_sum: first(&mut all, count, |query| query.duration_sum),
        by_memory_mean: first(&mut all, count, TopQuery::memory_bytes_mean),
        by_samples_sum: first(&mut all, count, |query| query.samples_read_sum),
    }
}

fn first<M: Ord>(all: &mut [TopQuery], count: usize, measure: impl Fn(&TopQuery) -> M) -> Vec<TopQuery> {
    all.sort_unstable_by(|a, b| (Reverse(measure(a)), &a.key).cmp(&(Reverse(measure(b)), &b.key)));
    all.iter().take(count).cloned().collect()
}
