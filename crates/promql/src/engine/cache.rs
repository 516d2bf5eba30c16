//! Answers of range queries, kept while the samples they came from stay as they are.
//!
//! Dashboards ask the same query again and again, each time a little later. Of an earlier answer, the steps whose samples did not change
//! since ([`MetricStore::changed_since`]) are taken over and only the others are evaluated, at exactly the steps
//! asked for.
//!
//! Invariants
//! - C1 An answer from here equals, bit for bit, one without: a step is taken over only if all it depends on ([`Reach`])
//!   is as it was, and an expression whose steps depend on the query's own start or end only for the same start and end.
//! - C2 The mark of an entry was taken before the samples were read, so that nothing can change unseen in between.
//! - C3 An answer that hangs together ([`Computed::is_indivisible`], [`Reach`]) is taken over whole or not at all.
//! - C4 Warnings and infos belong to all steps of an answer: one that has any is taken over whole or not at all.

mod reach;
mod stitch;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pharos_model::{Labels, StepRange, TenantId, TimeRange};
use pharos_storage::{ChangeMark, MetricStore};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub(super) use reach::Reach;

use super::{Annotations, CacheUse, EngineSettings, MatrixSeries, QueryResult, Value};

/// One answer may take this share of the whole cache.
const SHARE_MAX: u64 = 4;
/// What an entry weighs beside its points and texts.
const ENTRY_BYTES: u64 = 256;

/// How often the cache helped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Queries answered without reading a sample.
    pub hits: u64,
    /// Queries of which some steps were evaluated.
    pub partial_hits: u64,
    /// Queries evaluated whole.
    pub misses: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// Remembers answers, the most useful ones within a bound of memory.
#[derive(Debug)]
pub(super) struct ResultCache {
    entries: Cache<Key, Arc<Entry>, ByBytes>,
    bytes_max: u64,
    /// [`EngineSettings::cache_samples_min`].
    samples_min: u64,
    hits: AtomicU64,
    partial_hits: AtomicU64,
    misses: AtomicU64,
}

/// What must be the same for an answer to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    tenant: TenantId,
    query: Box<str>,
    lookback_ms: i64,
    step_ms: i64,
    /// Start of the steps modulo their distance.
    phase_ms: i64,
    /// Start and end, where the expression depends on them.
    exact: Option<(i64, i64)>,
}

/// An answer to some or all steps of a query.
pub(super) struct Computed {
    pub(super) result: QueryResult,
    /// Whether evaluating only some of the steps may answer others bits for them.
    pub(super) is_indivisible: bool,
}

/// An answer.
#[derive(Debug)]
struct Entry {
    mark: ChangeMark,
    steps: StepRange,
    series: Vec<MatrixSeries>,
    annotations: Annotations,
    is_indivisible: bool,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Entry>> for ByBytes {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        entry.bytes + key.query.len() as u64
    }
}

/// What an earlier answer spares.
pub(super) struct Reused {
    entry: Option<Arc<Entry>>,
    /// The steps taken over; then those of [`Reused::missing`].
    kept: Option<StepRange>,
    /// When the samples of the new answer began to be read.
    mark: ChangeMark,
}

impl ResultCache {
    /// None if the settings want none.
    pub(super) fn new(settings: &EngineSettings) -> Option<Self> {
        let EngineSettings { cache_bytes_max: bytes_max, cache_samples_min: samples_min, .. } = *settings;
        if bytes_max == 0 {
            return None;
        }
        // An estimate: quick_cache sizes its tables by it, not its bounds.
        let entries = usize::try_from(bytes_max / (16 << 10)).unwrap_or(0).clamp(16, 65_536);
        Some(Self {
            entries: Cache::with_weighter(entries, bytes_max, ByBytes),
            bytes_max,
            samples_min,
            hits: AtomicU64::new(0),
            partial_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            partial_hits: self.partial_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.entries.weight(),
        }
    }

    /// What of an earlier answer still holds; `None` if the store does not follow changes.
    pub(super) fn look_up(
        &self,
        store: &dyn MetricStore,
        key: &Key,
        reach: &Reach,
        steps: StepRange,
    ) -> Option<Reused> {
        let mark = store.change_mark(&key.tenant)?;
        let entry = self.entries.get(key);
        let kept = entry.as_ref().and_then(|entry| still_valid(store, key, reach, entry, steps));
        let reused = Reused { entry: entry.filter(|_| kept.is_some()), kept, mark };
        let counter = match reused.cache_use(steps) {
            CacheUse::Hit => &self.hits,
            CacheUse::Partial => &self.partial_hits,
            CacheUse::Miss | CacheUse::Off => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Some(reused)
    }

    /// Remembers an answer that is worth it.
    pub(super) fn keep(&self, key: Key, steps: StepRange, reused: &Reused, computed: &Computed) {
        let Computed { result, is_indivisible } = computed;
        let Value::Matrix(series) = &result.value else { return };
        let is_new = reused.kept.is_none_or(|kept| kept.end_ms < last(steps));
        if !is_new || (reused.kept.is_none() && result.stats.samples_read < self.samples_min) {
            return;
        }
        let annotations = result.annotations.clone();
        let texts = annotations.warnings.iter().chain(&annotations.infos).map(|text| text.len() as u64 + 48);
        let bytes = ENTRY_BYTES + texts.sum::<u64>() + series.iter().map(MatrixSeries::bytes).sum::<u64>();
        if bytes <= self.bytes_max / SHARE_MAX {
            let (mark, is_indivisible) = (reused.mark, *is_indivisible);
            let entry = Entry { mark, steps, series: series.clone(), annotations, is_indivisible, bytes };
            self.entries.insert(key, Arc::new(entry));
        }
    }
}

impl Key {
    pub(super) fn new(tenant: &TenantId, query: &str, lookback_ms: i64, steps: StepRange, reach: &Reach) -> Self {
        Self {
            tenant: tenant.clone(),
            query: query.into(),
            lookback_ms,
            step_ms: steps.step_ms,
            phase_ms: steps.start_ms.rem_euclid(steps.step_ms),
            exact: reach.depends_on_query_range.then_some((steps.start_ms, steps.end_ms)),
        }
    }
}

impl Reused {
    /// How much it spares.
    pub(super) fn cache_use(&self, steps: StepRange) -> CacheUse {
        match self.kept {
            Some(kept) if kept.end_ms == last(steps) => CacheUse::Hit,
            Some(_) => CacheUse::Partial,
            None => CacheUse::Miss,
        }
    }

    /// Whether some of the steps are taken over and others evaluated.
    pub(super) fn is_partial(&self, steps: StepRange) -> bool {
        self.kept.is_some_and(|kept| kept.end_ms < last(steps))
    }

    /// Takes nothing over after all.
    pub(super) fn forget(&mut self) {
        (self.entry, self.kept) = (None, None);
    }

    /// The steps that have to be evaluated.
    pub(super) fn missing(&self, steps: StepRange) -> StepRange {
        match self.kept {
            Some(kept) => StepRange { start_ms: kept.end_ms.saturating_add(steps.step_ms), ..steps },
            None => steps,
        }
    }

    /// Completes the answer for the missing steps with what was kept; false if nothing was.
    pub(super) fn complete(&self, result: &mut QueryResult) -> bool {
        let (Some(entry), Some(kept), Value::Matrix(series)) = (&self.entry, self.kept, &mut result.value) else {
            return false;
        };
        *series = stitch::join(&entry.series, kept, std::mem::take(series));
        result.annotations.warnings.extend(entry.annotations.warnings.iter().cloned());
        result.annotations.infos.extend(entry.annotations.infos.iter().cloned());
        true
    }
}

/// The first of the steps asked for that an entry can still answer.
fn still_valid(
    store: &dyn MetricStore,
    key: &Key,
    reach: &Reach,
    entry: &Entry,
    steps: StepRange,
) -> Option<StepRange> {
    let known_end_ms = last(entry.steps).min(last(steps));
    if steps.start_ms < entry.steps.start_ms || known_end_ms < steps.start_ms {
        return None;
    }
    let changed = |range| store.changed_since(&key.tenant, entry.mark, range);
    if reach.fixed.iter().any(|range| changed(*range).is_some()) {
        return None;
    }
    let end_ms = match reach.window {
        None => known_end_ms,
        Some((back_ms, ahead_ms)) => {
            let first = steps.start_ms.saturating_sub(back_ms);
            match changed(TimeRange::inclusive(first, known_end_ms.saturating_add(ahead_ms))) {
                None => known_end_ms,
                Some(changed_ms) => {
                    // The last step that looks at nothing from the change on.
                    let before_ms = changed_ms.saturating_sub(1).saturating_sub(ahead_ms).min(known_end_ms);
                    let count = before_ms.checked_sub(steps.start_ms)?.div_euclid(steps.step_ms);
                    if count < 0 {
                        return None;
                    }
                    steps.start_ms + count * steps.step_ms
                }
            }
        }
    };
    let is_whole = steps.start_ms == entry.steps.start_ms && end_ms == last(entry.steps);
    let hangs_together = entry.is_indivisible || reach.is_indivisible || !entry.annotations.is_empty();
    (is_whole || !hangs_together).then_some(StepRange { end_ms, ..steps })
}

/// The last of the steps, where the end lies between two.
fn last(steps: StepRange) -> i64 {
    steps.at(steps.len().saturating_sub(1))
}

/// Order of an answer's series.
fn by_labels(series: &MatrixSeries) -> &Labels {
    &series.labels
}
