//! One generation of the head: what was appended between two flushes, of one tenant.
//!
//! Invariants
//! - H1 A sample is visible to readers only after its log record is synced: only the commit thread
//!   calls [`Generation::apply`], after the sync.
//! - H2 After it is frozen nothing is added; readers that hold it go on reading it.
//!
//! Lock order: registry, then buffers, then exemplars.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use pharos_base::{CancelToken, sort_checked};
use pharos_chunk::ChunkError;
use pharos_model::{Exemplar, Labels, Matcher, MetricBatch, TimeRange};
use roaring::RoaringBitmap;

use super::buffer::{Buffer, DecodedTimes, TimesCache};
use super::registry::{Registry, SeriesNumber};
use crate::newest::Newest;
use crate::samples::Samples;
use crate::{TsdbError, index};

/// Marks a run of a batch that was refused.
pub(crate) const REFUSED: SeriesNumber = SeriesNumber::MAX;

/// Reading the labels of a series costs about as much as looking so many up in a set.
const LOOKS_PER_SERIES: u64 = 16;

/// Samples of one tenant between two flushes.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) registry: Arc<RwLock<Registry>>,
    /// Precedence over parts and under tombstones, given when it is frozen.
    sequence: OnceLock<u64>,
    buffers: RwLock<Buffers>,
    exemplars: RwLock<VecDeque<(SeriesNumber, Exemplar)>>,
    bytes: AtomicU64,
    slots: AtomicU64,
    samples: AtomicU64,
    /// First and last instant of samples and exemplars; the first is after the last while there is none.
    first_ms: AtomicI64,
    last_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct Buffers {
    by_series: Vec<Buffer>,
    times: TimesCache,
}

impl Generation {
    pub(crate) fn new(registry: Arc<RwLock<Registry>>) -> Self {
        Self {
            registry,
            sequence: OnceLock::new(),
            buffers: RwLock::default(),
            exemplars: RwLock::default(),
            bytes: AtomicU64::new(0),
            slots: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            first_ms: AtomicI64::new(i64::MAX),
            last_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Adds a batch whose runs belong to the series `numbers`, [`REFUSED`] ones excepted.
    pub(crate) fn apply(&self, batch: &MetricBatch, numbers: &[SeriesNumber], exemplars_max: usize) {
        let mut bytes = 0;
        let mut samples = 0;
        let slots;
        // Before the samples are visible: who sees them must not be told that there are none.
        self.widen(batch);
        {
            let mut buffers = self.buffers.write();
            let Buffers { by_series, times } = &mut *buffers;
            for (run, number) in batch.series.iter().zip(numbers) {
                let number = *number as usize;
                if number >= by_series.len() {
                    if number == REFUSED as usize {
                        continue;
                    }
                    let before = by_series.capacity();
                    by_series.resize_with(number + 1, Buffer::default);
                    bytes += ((by_series.capacity() - before) * size_of::<Buffer>()) as u64;
                }
                let buffer = &mut by_series[number];
                if !run.samples.is_empty() {
                    let starts = batch.start_ms.get(run.samples.clone()).unwrap_or_default();
                    buffer.push_floats(&batch.samples[run.samples.clone()], starts, times, &mut bytes);
                }
                for index in run.histograms.clone() {
                    let sample = &batch.histograms[index];
                    let start = batch.histogram_start_ms.get(index).copied().unwrap_or(0);
                    buffer.push_histogram(sample.timestamp_ms, Arc::clone(&sample.histogram), start, times, &mut bytes);
                }
                samples += (run.samples.len() + run.histograms.len()) as u64;
            }
            slots = by_series.len() as u64;
        }
        if !batch.exemplars.is_empty() {
            self.apply_exemplars(batch, numbers, exemplars_max);
        }
        self.slots.store(slots, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    fn widen(&self, batch: &MetricBatch) {
        let floats = batch.samples.iter().map(|sample| sample.timestamp_ms);
        let histograms = batch.histograms.iter().map(|sample| sample.timestamp_ms);
        let exemplars = batch.exemplars.iter().map(|exemplar| exemplar.timestamp_ms);
        let around = |(first, last): (i64, i64), time: i64| (first.min(time), last.max(time));
        let none = (i64::MAX, i64::MIN);
        let (first_ms, last_ms) = exemplars.fold(histograms.fold(floats.fold(none, around), around), around);
        self.first_ms.fetch_min(first_ms, Ordering::Relaxed);
        self.last_ms.fetch_max(last_ms, Ordering::Relaxed);
    }

    /// Where all its samples and exemplars lie.
    pub(crate) fn extent(&self) -> TimeRange {
        TimeRange::inclusive(self.first_ms.load(Ordering::Relaxed), self.last_ms.load(Ordering::Relaxed))
    }

    /// Whether a sample or exemplar may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.first_ms.load(Ordering::Relaxed) < range.end_ms && range.start_ms <= self.last_ms.load(Ordering::Relaxed)
    }

    fn apply_exemplars(&self, batch: &MetricBatch, numbers: &[SeriesNumber], exemplars_max: usize) {
        let mut kept = self.exemplars.write();
        let (mut taken, mut freed) = (0, 0);
        for (run, number) in batch.series.iter().zip(numbers).filter(|(_, number)| **number != REFUSED) {
            for exemplar in &batch.exemplars[run.exemplars.clone()] {
                if kept.len() >= exemplars_max
                    && let Some((_, oldest)) = kept.pop_front()
                {
                    freed += exemplar_bytes(&oldest);
                }
                taken += exemplar_bytes(exemplar);
                kept.push_back((*number, exemplar.clone()));
            }
        }
        // In this order: the sum never passes below zero.
        self.bytes.fetch_add(taken, Ordering::Relaxed);
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Ends it: from now on it stands in this place among parts and deletes.
    pub(crate) fn freeze(&self, sequence: u64) {
        let first = self.sequence.set(sequence);
        debug_assert!(first.is_ok(), "H2: a generation is frozen once");
    }

    /// Its place; the active generation is newer than everything.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.get().copied().unwrap_or(u64::MAX)
    }

    /// How many series it has room for: those with samples, and others with lower numbers.
    pub(crate) fn slots(&self) -> u64 {
        self.slots.load(Ordering::Relaxed)
    }

    /// Bytes of samples and exemplars.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Samples, duplicates included.
    pub(crate) fn sample_count(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sample_count() == 0 && self.exemplars.read().is_empty()
    }

    /// Series with samples.
    pub(crate) fn series_count(&self) -> usize {
        self.buffers.read().by_series.iter().filter(|buffer| !buffer.is_empty()).count()
    }

    /// A registry of the series with samples.
    pub(crate) fn live_registry(&self) -> Registry {
        let registry = self.registry.read();
        let buffers = self.buffers.read();
        let mut live = Registry::default();
        for (number, _) in buffers.by_series.iter().enumerate().filter(|(_, buffer)| !buffer.is_empty()) {
            live.adopt(registry.series(number as SeriesNumber));
        }
        live
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.buffers.read().by_series.iter().map(Buffer::chunk_count).sum()
    }

    /// First and last instant.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        let buffers = self.buffers.read();
        buffers.by_series.iter().filter_map(Buffer::bounds).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Series that pass all matchers of any set and may have samples in the range, by label bytes ascending.
    ///
    /// # Errors
    /// Once `cancel` says so.
    pub(crate) fn select(
        &self,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &CancelToken,
    ) -> Result<Vec<(Labels, SeriesNumber)>, TsdbError> {
        let registry = self.registry.read();
        let passed = index::select_any(&*registry, matcher_sets, cancel)?;
        let buffers = self.buffers.read();
        let found: Vec<_> =
            visible(&buffers, &passed, range).map(|number| (registry.series(number).labels.clone(), number)).collect();
        drop(buffers);
        drop(registry);
        sort_checked(found, |a, b| a.0.encoded().cmp(b.0.encoded()), || Ok(cancel.check()?))
    }

    /// As [`Generation::select`] in any order, without labels.
    pub(crate) fn select_numbers(
        &self,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &CancelToken,
    ) -> Result<Vec<SeriesNumber>, TsdbError> {
        let passed = index::select_any(&*self.registry.read(), matcher_sets, cancel)?;
        Ok(visible(&self.buffers.read(), &passed, range).collect())
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, number: SeriesNumber) -> Labels {
        self.registry.read().series(number).labels.clone()
    }

    /// Calls `each` with every label value of `name` on a selected series, as long as it answers true; one may come twice.
    pub(crate) fn label_values(
        &self,
        name: &str,
        matcher_sets: &[Vec<Matcher>],
        (range, cancel): (TimeRange, &CancelToken),
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), TsdbError> {
        let registry = self.registry.read();
        let passed = Passed::of(&registry, matcher_sets, cancel)?;
        let buffers = self.buffers.read();
        if let Some(few) = passed.few(&registry) {
            _ = visible(&buffers, few, range).filter_map(|number| registry.series(number).labels.get(name)).all(each);
            return Ok(());
        }
        let is_listed = |number: &SeriesNumber| passed.contains(*number) && is_visible(&buffers, *number, range);
        let mut listed = registry.values(name).filter(|(_, numbers)| numbers.iter().any(is_listed));
        _ = listed.all(|(value, _)| each(value));
        Ok(())
    }

    /// Calls `each` with every label name of a selected series; one may come twice.
    pub(crate) fn label_names(
        &self,
        matcher_sets: &[Vec<Matcher>],
        (range, cancel): (TimeRange, &CancelToken),
        each: impl FnMut(&str) -> bool,
    ) -> Result<(), TsdbError> {
        let registry = self.registry.read();
        let passed = Passed::of(&registry, matcher_sets, cancel)?;
        let buffers = self.buffers.read();
        if let Some(few) = passed.few(&registry) {
            _ = visible(&buffers, few, range)
                .flat_map(|number| registry.series(number).labels.iter().map(|(name, _)| name))
                .all(each);
            return Ok(());
        }
        let is_listed = |number: &SeriesNumber| passed.contains(*number) && is_visible(&buffers, *number, range);
        let is_named = |name: &&str| registry.values(name).any(|(_, numbers)| numbers.iter().any(is_listed));
        _ = registry.names().filter(is_named).all(each);
        Ok(())
    }

    /// Calls `each` with every name and value of a label that selected series have, and with how many of them do.
    pub(crate) fn count_values(&self, selected: &RoaringBitmap, mut each: impl FnMut(&str, &str, u64)) {
        let names: Vec<Box<str>> = self.registry.read().names().map(Box::from).collect();
        let mut is_selected = vec![false; selected.max().map_or(0, |last| last as usize + 1)];
        selected.iter().for_each(|number| is_selected[number as usize] = true);
        for name in names {
            // Name by name, so that nobody waits long for the registry.
            for (value, numbers) in self.registry.read().values(&name) {
                let selected = |number: &&SeriesNumber| is_selected.get(**number as usize) == Some(&true);
                match numbers.iter().filter(selected).count() {
                    0 => {}
                    count => each(&name, value, count as u64),
                }
            }
        }
    }

    /// Adds the samples in the range of one series to sorted, older ones.
    pub(crate) fn read(&self, number: SeriesNumber, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        let buffers = self.buffers.read();
        let Some(buffer) = buffers.by_series.get(number as usize) else { return Ok(()) };
        buffer.read(range, samples).map_err(in_memory)
    }

    /// All samples of one series, sorted; what was in `samples` is replaced. `decoded` goes from series to series.
    pub(crate) fn read_all(
        &self,
        number: SeriesNumber,
        decoded: &mut DecodedTimes,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        samples.clear();
        let buffers = self.buffers.read();
        let Some(buffer) = buffers.by_series.get(number as usize) else { return Ok(()) };
        buffer.read_all(decoded, samples).map_err(in_memory)
    }

    /// The newest sample in the range of one series.
    pub(crate) fn newest(&self, number: SeriesNumber, range: TimeRange) -> Result<Option<Newest>, TsdbError> {
        let buffers = self.buffers.read();
        let Some(buffer) = buffers.by_series.get(number as usize) else { return Ok(None) };
        buffer.newest(range).map_err(in_memory)
    }

    /// All exemplars with the labels of their series, in order of arrival.
    pub(crate) fn exemplars(
        &self,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &CancelToken,
    ) -> Result<Vec<(Labels, Exemplar)>, TsdbError> {
        let registry = self.registry.read();
        let kept = self.exemplars.read();
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let passed = index::select_any(&*registry, matcher_sets, cancel)?;
        let inside =
            kept.iter().filter(|(number, exemplar)| passed.contains(*number) && range.contains(exemplar.timestamp_ms));
        Ok(inside.map(|(number, exemplar)| (registry.series(*number).labels.clone(), exemplar.clone())).collect())
    }
}

fn in_memory(error: ChunkError) -> TsdbError {
    let reason = error.to_string();
    TsdbError::Corrupt { what: "chunk in memory", path: std::path::PathBuf::new(), offset: 0, reason }
}

/// Series that pass matchers.
enum Passed {
    /// There are none, so that all pass.
    All,
    These(RoaringBitmap),
}

impl Passed {
    fn of(registry: &Registry, matcher_sets: &[Vec<Matcher>], cancel: &CancelToken) -> Result<Self, TsdbError> {
        if matcher_sets.is_empty() {
            return Ok(Self::All);
        }
        index::select_any(registry, matcher_sets, cancel).map(Self::These)
    }

    fn contains(&self, number: SeriesNumber) -> bool {
        match self {
            Self::All => true,
            Self::These(passed) => passed.contains(number),
        }
    }

    /// The series, if looking at the labels of each costs less than looking for one that passes behind every value.
    fn few(&self, registry: &Registry) -> Option<&RoaringBitmap> {
        match self {
            Self::These(passed) if passed.len() * LOOKS_PER_SERIES < registry.len() as u64 => Some(passed),
            _ => None,
        }
    }
}

/// Bytes of one exemplar, labels included.
fn exemplar_bytes(exemplar: &Exemplar) -> u64 {
    (size_of::<(SeriesNumber, Exemplar)>() + 16 + exemplar.labels.encoded().len()) as u64
}

fn visible(buffers: &Buffers, passed: &RoaringBitmap, range: TimeRange) -> impl Iterator<Item = SeriesNumber> {
    passed.iter().filter(move |number| is_visible(buffers, *number, range))
}

fn is_visible(buffers: &Buffers, number: SeriesNumber, range: TimeRange) -> bool {
    buffers.by_series.get(number as usize).is_some_and(|buffer| buffer.overlaps(range))
}
