//! Zeros where counters start: a sample nobody sent, so that PromQL sees the first increase of a series as well.
//!
//! Senders say with each sample since when it counts. Where that instant is later than all samples of the series that this
//! server knows of, the series was zero there, and a zero is added to the batch.
//!
//! Stores keep the sample that is appended last. So what must never happen is a zero at the instant of a real sample: some
//! senders start at the instant of their first sample, which is none; and a sum begins anew where the one before it ended.
//!
//! A zero is of the group of its run: a store that refuses the one refuses the other, and says so.
//!
//! Invariants
//! - Z1 A zero is added only at an instant later than every sample of its series that told a start before; where the series is
//!   not remembered, later than `floor_ms`, which is no earlier than any such sample of a series that is not remembered.
//! - Z2 A start gets its zero once: again only as long as no batch that has it was acknowledged, and nothing else came to
//!   its instant.
//! - Z3 Memory is bounded per tenant. What is not remembered gets no zero; it never gets a wrong one.
//!
//! Lock order: tenants, then none; the series of a tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::{
    Fingerprint, Histogram, HistogramSample, MetricBatch, ResetHint, RunGroup, Sample, SeriesRun, TenantId,
    is_stale_nan,
};

use crate::DecodedMetrics;

/// Series that were not written for so long are forgotten when there are too many.
const IDLE_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// No instant of a sample.
const NEVER_MS: i64 = i64::MIN;

/// The starts of all tenants' series.
#[derive(Debug)]
pub(crate) struct StartMemory {
    tenants: Mutex<HashMap<TenantId, Arc<Mutex<TenantStarts>>>>,
    series_max: usize,
    /// That of tenants of which nothing is remembered.
    floor_ms: AtomicI64,
    swept_ms: AtomicI64,
}

/// The series of one tenant.
#[derive(Debug)]
struct TenantStarts {
    series: HashMap<Fingerprint, Series>,
    series_max: usize,
    /// See Z1.
    floor_ms: i64,
    swept_ms: i64,
    /// The number of the batch at hand.
    batch: u32,
}

#[derive(Debug, Clone, Copy)]
struct Series {
    last_ms: i64,
    /// The last zero, until it is acknowledged.
    zero_ms: i64,
    /// The batch that has it.
    batch: u32,
}

/// A zero to be added.
struct Zero {
    /// Of the run that tells the start.
    place: usize,
    at_ms: i64,
    /// Where its first histogram is; `None` for floats.
    like: Option<usize>,
}

/// The zeros of a batch.
#[derive(Debug)]
pub(crate) struct AddedZeros {
    starts: Arc<Mutex<TenantStarts>>,
    /// In the order of their runs, the first of the batch.
    of_series: Vec<AddedZero>,
}

#[derive(Debug)]
struct AddedZero {
    series: Fingerprint,
    at_ms: i64,
    is_histogram: bool,
}

impl StartMemory {
    /// An empty memory that begins at this moment, of at most so many series of each tenant.
    pub(crate) fn new(series_max: usize, now_ms: i64) -> Self {
        let (floor_ms, swept_ms) = (AtomicI64::new(now_ms), AtomicI64::new(now_ms));
        Self { tenants: Mutex::default(), series_max, floor_ms, swept_ms }
    }

    /// Series remembered, all tenants together; those of a tenant that is being written are left out.
    pub(crate) fn series_count(&self) -> u64 {
        let tenants = self.tenants.lock();
        tenants.values().filter_map(|starts| Some(starts.try_lock()?.series.len() as u64)).sum()
    }

    /// Adds the zeros of the series that [count](DecodedMetrics::counted), none before `min_ms`; in front, as they are the
    /// first of their series.
    pub(crate) fn add_zeros(
        &self,
        tenant: &TenantId,
        decoded: &mut DecodedMetrics,
        min_ms: i64,
        now_ms: i64,
    ) -> Option<AddedZeros> {
        let counted = std::mem::take(&mut decoded.counted);
        if !counted.contains(&true) {
            return None;
        }
        let starts = self.of(tenant, now_ms);
        let batch = &mut decoded.batch;
        let zeros = starts.lock().zeros(batch, &counted, min_ms, now_ms);
        if zeros.is_empty() {
            return None;
        }
        let added = |zero: &Zero| AddedZero {
            series: batch.fingerprint(&batch.series[zero.place]),
            at_ms: zero.at_ms,
            is_histogram: zero.like.is_some(),
        };
        let of_series = zeros.iter().map(added).collect();
        batch.groups = groups_with(batch, &zeros);
        push_front(batch, &zeros);
        Some(AddedZeros { starts, of_series })
    }

    fn of(&self, tenant: &TenantId, now_ms: i64) -> Arc<Mutex<TenantStarts>> {
        let mut tenants = self.tenants.lock();
        if let Some(starts) = tenants.get(tenant) {
            return Arc::clone(starts);
        }
        // Seldom enough to look for tenants that are gone; who holds a clone may be about to add to it.
        if now_ms.saturating_sub(self.swept_ms.load(Ordering::Relaxed)) >= MINUTE_MS {
            self.swept_ms.store(now_ms, Ordering::Relaxed);
            tenants.retain(|_, starts| {
                let Some(mut idle) = starts.try_lock().filter(|_| Arc::strong_count(starts) == 1) else { return true };
                idle.forget_before(now_ms.saturating_sub(IDLE_MS));
                if idle.series.is_empty() {
                    self.floor_ms.fetch_max(idle.floor_ms, Ordering::Relaxed);
                }
                !idle.series.is_empty()
            });
        }
        let floor_ms = self.floor_ms.load(Ordering::Relaxed);
        let starts =
            TenantStarts { series: HashMap::new(), series_max: self.series_max, floor_ms, swept_ms: now_ms, batch: 0 };
        let starts = Arc::new(Mutex::new(starts));
        tenants.insert(tenant.clone(), Arc::clone(&starts));
        starts
    }
}

impl TenantStarts {
    /// The zeros that a batch needs.
    fn zeros(&mut self, batch: &MetricBatch, counted: &[bool], min_ms: i64, now_ms: i64) -> Vec<Zero> {
        self.batch = self.batch.wrapping_add(1);
        let mut zeros = Vec::new();
        for (place, run) in batch.series.iter().enumerate().filter(|(place, _)| counted.get(*place) == Some(&true)) {
            let floats = run.samples.clone().filter_map(|at| {
                let Sample { timestamp_ms, value } = *batch.samples.get(at)?;
                Some((*batch.start_ms.get(at)?, timestamp_ms, None, !is_stale_nan(value)))
            });
            let histograms = run.histograms.clone().filter_map(|at| {
                let HistogramSample { timestamp_ms, histogram } = batch.histograms.get(at)?;
                let counts = histogram.reset_hint != ResetHint::Gauge && !is_stale_nan(histogram.sum);
                Some((*batch.histogram_start_ms.get(at)?, *timestamp_ms, Some(at), counts))
            });
            let mut fingerprint = None;
            for (start_ms, at_ms, like, counts) in floats.chain(histograms).filter(|(start_ms, ..)| *start_ms != 0) {
                let is_start = counts && (min_ms.max(1)..at_ms).contains(&start_ms);
                let series = *fingerprint.get_or_insert_with(|| batch.fingerprint(run));
                if self.meet(series, is_start.then_some(start_ms), at_ms, now_ms) {
                    zeros.push(Zero { place, at_ms: start_ms, like });
                }
            }
        }
        zeros
    }

    /// Notes a sample; whether its start, if it has a sound one, is to have a zero.
    fn meet(&mut self, series: Fingerprint, start_ms: Option<i64>, at_ms: i64, now_ms: i64) -> bool {
        let Some(known) = self.series.get_mut(&series) else {
            let zero_ms = start_ms.filter(|start_ms| *start_ms > self.floor_ms);
            let known = Series { last_ms: at_ms, zero_ms: zero_ms.unwrap_or(NEVER_MS), batch: self.batch };
            self.remember(series, known, now_ms);
            return zero_ms.is_some();
        };
        let is_added = match start_ms {
            Some(start_ms) if start_ms > known.last_ms => true,
            Some(start_ms) => start_ms == known.zero_ms && known.batch != self.batch,
            None => false,
        };
        if let Some(start_ms) = start_ms.filter(|_| is_added) {
            (known.zero_ms, known.batch) = (start_ms, self.batch);
        } else if at_ms == known.zero_ms {
            known.zero_ms = NEVER_MS;
        }
        known.last_ms = known.last_ms.max(at_ms);
        is_added
    }

    fn remember(&mut self, fingerprint: Fingerprint, series: Series, now_ms: i64) {
        if self.series.len() >= self.series_max && now_ms.saturating_sub(self.swept_ms) >= MINUTE_MS {
            self.swept_ms = now_ms;
            self.forget_before(now_ms.saturating_sub(IDLE_MS));
        }
        if self.series.len() < self.series_max {
            self.series.insert(fingerprint, series);
        } else {
            self.floor_ms = self.floor_ms.max(series.last_ms);
        }
    }

    fn forget_before(&mut self, oldest_ms: i64) {
        let floor_ms = &mut self.floor_ms;
        self.series.retain(|_, series| {
            let stays = series.last_ms >= oldest_ms;
            if !stays {
                *floor_ms = (*floor_ms).max(series.last_ms);
            }
            stays
        });
        if self.series.capacity() > 4 * self.series.len() {
            self.series.shrink_to_fit();
        }
    }
}

impl AddedZeros {
    /// They are stored, and will not be added again, but for those whose runs the store refused (ascending). Answers how many
    /// float samples and histograms that are.
    pub(crate) fn stored_but(self, refused_runs: &[usize]) -> (u64, u64) {
        let (mut samples, mut histograms) = (0, 0);
        let mut refused = refused_runs.iter().peekable();
        let mut starts = self.starts.lock();
        for (place, zero) in self.of_series.into_iter().enumerate() {
            if refused.next_if(|refused| **refused == place).is_some() {
                continue;
            }
            *(if zero.is_histogram { &mut histograms } else { &mut samples }) += 1;
            if let Some(series) = starts.series.get_mut(&zero.series).filter(|series| series.zero_ms == zero.at_ms) {
                series.zero_ms = NEVER_MS;
            }
        }
        (samples, histograms)
    }
}

/// The groups of a batch once these zeros (ascending by place) are in front of it: a zero joins the group of its run, or makes one
/// with it.
fn groups_with(batch: &MetricBatch, zeros: &[Zero]) -> Vec<RunGroup> {
    let mut groups = Vec::with_capacity(batch.groups.len() + zeros.len());
    let mut before = batch.groups.iter().peekable();
    let mut added = 0;
    loop {
        let zero = zeros.get(added);
        let group = match (before.next_if(|group| zero.is_none_or(|zero| group.runs.start <= zero.place)), zero) {
            (Some(group), _) => group.clone(),
            (None, Some(zero)) => RunGroup::alone(zero.place, &batch.series[zero.place]),
            (None, None) => return groups,
        };
        let first = added;
        added += zeros[first..].iter().take_while(|zero| zero.place < group.runs.end).count();
        let runs = group.runs.start + zeros.len()..group.runs.end + zeros.len();
        groups.push(RunGroup { runs, added: first..added, items: group.items });
    }
}

/// Puts zeros in front of all series.
fn push_front(batch: &mut MetricBatch, zeros: &[Zero]) {
    let mut series = Vec::with_capacity(zeros.len() + batch.series.len());
    for Zero { place, at_ms, like } in zeros {
        let mut run = SeriesRun { labels: batch.series[*place].labels.clone(), ..SeriesRun::empty() };
        if let Some(like) = like {
            let at = batch.histograms.len();
            let histogram = Arc::new(zero_like(&batch.histograms[*like].histogram));
            batch.histograms.push(HistogramSample { timestamp_ms: *at_ms, histogram });
            pad(&mut batch.histogram_start_ms, at + 1);
            run.histograms = at..at + 1;
        } else {
            let at = batch.samples.len();
            batch.samples.push(Sample { timestamp_ms: *at_ms, value: 0.0 });
            pad(&mut batch.start_ms, at + 1);
            run.samples = at..at + 1;
        }
        series.push(run);
    }
    series.append(&mut batch.series);
    batch.series = series;
}

/// A zero has no start of its own.
fn pad(starts_ms: &mut Vec<i64>, length: usize) {
    if !starts_ms.is_empty() {
        starts_ms.resize(length, 0);
    }
}

/// An empty histogram of the same form, so that both fit one chunk.
fn zero_like(histogram: &Histogram) -> Histogram {
    Histogram {
        is_integer: histogram.is_integer,
        reset_hint: ResetHint::Reset,
        zero_threshold: histogram.zero_threshold,
        custom_bounds: histogram.custom_bounds.clone(),
        ..Histogram::empty(histogram.schema)
    }
}

#[cfg(test)]
mod tests;
