//! The contract's reading half: selections over parts and heads, merged series by series.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pharos_base::Reservation;
use pharos_model::{Exemplar, Labels, Matcher, TenantId, TimeRange, matches_labels};
use pharos_storage::{ExemplarSeries, ReadContext, StorageError};
use roaring::RoaringBitmap;

use crate::damage::DamageLog;
use crate::head::generation::Generation;
use crate::index;
use crate::masks::{Hiding, Masks};
use crate::merge::Merge;
use crate::newest::{Newest, Pulse};
use crate::pace::Reading;
use crate::part::{Part, PartCursor};
use crate::rollup::{RollupCursor, ThinSeries, Wanted};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::source::{HeadCursor, Source};

/// What a selection holds for each selected series of a head.
const SELECTED_BYTES: u64 = 32;
/// The books are brought up to date, and cancellation is asked, each time after this many series.
const CHECKED_SERIES: u64 = 64;
/// A series with more samples than this is asked about while it is read: some hundred microseconds of decoding.
const LONG_SERIES_SAMPLES: usize = 1 << 16;

/// Everything of a tenant that overlaps a range, oldest first.
pub(crate) struct View {
    pub(crate) parts: Vec<Arc<Part>>,
    pub(crate) generations: Vec<Arc<Generation>>,
    pub(crate) hiding: Hiding,
}

/// In which order a selection's series are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By label bytes ascending.
    Labels,
    /// In whatever order is cheapest.
    Any,
}

/// An open selection. It stands on one series at a time.
pub(crate) struct Selection {
    merge: Merge,
    context: ReadContext,
    damage: Arc<DamageLog>,
    /// Series it stood on, and those of them that had something.
    series: u64,
    answered: u64,
    /// Other selections that the limit on series holds for as well, and how many of `answered` they know of.
    others: Option<Together>,
    told: u64,
    held: Reservation,
    /// Bytes that the books know of what the sources hold.
    booked: u64,
    /// Merging makes room for reads.
    _reading: Reading,
}

/// Series that several selections had something of, all together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Together(Arc<AtomicU64>);

impl Shared {
    pub(crate) fn view(&self, tenant: &TenantId, range: TimeRange) -> View {
        let Some(tenant) = self.tenants.get(tenant).filter(|_| !range.is_empty()) else {
            return View { parts: Vec::new(), generations: Vec::new(), hiding: Hiding::default() };
        };
        let state = tenant.state.read();
        let parts = state.parts.iter().filter(|part| part.overlaps(range)).cloned().collect();
        // One may know every series of the tenant, and nothing of them in the range.
        let filled = |generation: &&Arc<Generation>| generation.overlaps(range);
        let generations = state.frozen.iter().chain([&state.active]).filter(filled).cloned().collect();
        // Together with the parts: a merge takes a tombstone away only with what it hid.
        View { parts, generations, hiding: self.hiding(&tenant.id, &state) }
    }

    pub(crate) fn select(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        order: Order,
        context: &ReadContext,
    ) -> Result<Selection, StorageError> {
        self.select_thin(tenant, sets, range, order, None, context)
    }

    /// As [`Shared::select`], for a reader that takes cells of rollups for samples where it can.
    pub(crate) fn select_thin(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        order: Order,
        wanted: Option<&Arc<Wanted>>,
        context: &ReadContext,
    ) -> Result<Selection, StorageError> {
        let (sources, held) = self.sources(tenant, sets, range, (order, wanted), context)?;
        Ok(self.walk(sources, held, context))
    }

    /// What a selection is made of, and the memory it takes.
    pub(crate) fn sources(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        (order, wanted): (Order, Option<&Arc<Wanted>>),
        context: &ReadContext,
    ) -> Result<(Vec<Source>, Reservation), StorageError> {
        let view = self.view(tenant, range);
        let mut held = context.memory.reserve(0)?;
        let mut sources = Vec::new();
        for part in view.parts {
            context.check()?;
            let found = index::select_any(&part.index, sets, &context.cancel).and_then(|mut selected| {
                let masks = view.hiding.of_part(&part, range, &mut selected)?;
                Ok((selected, masks))
            });
            let (selected, masks) = found.map_err(|error| self.damaged.met_in_query(error))?;
            if !selected.is_empty() {
                held.grow(selected.serialized_size() as u64)?;
                let rollup = wanted.and_then(|wanted| RollupCursor::open(&part, wanted, &selected));
                let cursor = PartCursor::new(part, selected, Some(Arc::clone(&self.cache))).within(context);
                sources.push(Source::part(cursor, masks).with_rollup(rollup));
            }
        }
        let generations = view.generations.iter().filter(|generation| generation.sample_count() > 0);
        for generation in generations.clone() {
            context.check()?;
            let is_alone = sources.is_empty() && generations.clone().count() == 1;
            if order == Order::Any && is_alone && !view.hiding.concerns_generation(generation, range) {
                let selected = generation.select_numbers(sets, range, &context.cancel)?;
                held.grow(size_of_val(selected.as_slice()) as u64)?;
                let cursor = HeadCursor::unordered(Arc::clone(generation), selected);
                sources.push(Source::head(cursor, Masks::default()));
                continue;
            }
            let mut selected = generation.select(sets, range, &context.cancel)?;
            let masks = view.hiding.of_generation(generation, range, &mut selected);
            held.grow(selected.len() as u64 * SELECTED_BYTES)?;
            sources.push(Source::head(HeadCursor::new(Arc::clone(generation), selected), masks));
        }
        Ok((sources, held))
    }

    /// A selection of all that these sources have.
    pub(crate) fn walk(&self, sources: Vec<Source>, held: Reservation, context: &ReadContext) -> Selection {
        Selection {
            merge: Merge::new(sources),
            context: context.clone(),
            damage: Arc::clone(&self.damaged),
            series: 0,
            answered: 0,
            others: None,
            told: 0,
            held,
            booked: 0,
            _reading: Reading::begin(&self.reading),
        }
    }

    pub(crate) fn exemplars(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        let range = self.kept(tenant, range);
        let view = self.view(tenant, range);
        let mut found: BTreeMap<Labels, BTreeMap<(i64, Labels), Exemplar>> = BTreeMap::new();
        let mut held = context.memory.reserve(0)?;
        for part in &view.parts {
            let mut cursor = part.exemplars();
            let mut block = context.memory.reserve(0)?;
            // Entries of a series stand together: its labels are tested once.
            let mut series: Option<(Arc<[u8]>, Option<Labels>)> = None;
            while let Some(exemplar) = cursor.next().map_err(|error| self.damaged.met_in_query(error))? {
                if series.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, cursor.labels())) {
                    context.check()?;
                    block.grow(cursor.bytes().saturating_sub(block.bytes()))?;
                    let passed = Labels::from_encoded(cursor.labels()).ok().filter(|labels| passes(sets, labels));
                    series = Some((Arc::clone(cursor.labels()), passed));
                }
                let Some((_, Some(labels))) = &series else { continue };
                let at_ms = exemplar.timestamp_ms;
                if range.contains(at_ms)
                    && !view.hiding.hides_exemplar(part.meta.sequence, part.meta.cleaned, labels, at_ms)
                {
                    held.grow(exemplar_bytes(&exemplar))?;
                    let key = (at_ms, exemplar.labels.clone());
                    found.entry(labels.clone()).or_default().insert(key, exemplar);
                    context.check_series(found.len() as u64)?;
                }
            }
        }
        for generation in &view.generations {
            context.check()?;
            for (labels, exemplar) in generation.exemplars(sets, range, &context.cancel)? {
                if view.hiding.hides_exemplar(generation.sequence(), 0, &labels, exemplar.timestamp_ms) {
                    continue;
                }
                held.grow(exemplar_bytes(&exemplar))?;
                found.entry(labels).or_default().insert((exemplar.timestamp_ms, exemplar.labels.clone()), exemplar);
            }
            context.check_series(found.len() as u64)?;
        }
        let series = found.into_iter();
        Ok(series
            .map(|(labels, exemplars)| ExemplarSeries { labels, exemplars: exemplars.into_values().collect() })
            .collect())
    }
}

/// What an answer of exemplars holds for one, about: of its series only a share.
fn exemplar_bytes(exemplar: &Exemplar) -> u64 {
    (2 * size_of::<(i64, Exemplar)>() + exemplar.labels.encoded().len()) as u64
}

fn passes(sets: &[Vec<Matcher>], labels: &Labels) -> bool {
    sets.is_empty() || sets.iter().any(|matchers| matches_labels(matchers, labels))
}

impl Selection {
    /// Goes to the next series that passes; false at the end. Asks for cancellation and limits.
    ///
    /// # Errors
    /// Those of [`ReadContext`], and damage met in the index.
    pub(crate) fn next(&mut self) -> Result<bool, StorageError> {
        // Also after the first: its block may be all that is read.
        if self.series.is_multiple_of(CHECKED_SERIES) || self.series == 1 {
            self.context.check()?;
            let bytes = self.merge.bytes();
            if bytes > self.booked {
                self.held.grow(bytes - self.booked)?;
                self.booked = bytes;
            }
        }
        let found = self.merge.next().map_err(|error| self.damage.met_in_query(error))?;
        self.series += u64::from(found);
        if !found {
            self.tell_others()?;
        }
        Ok(found)
    }

    /// Goes to the next series that has samples in the range, and reads them; false at the end. What was in `samples`
    /// is replaced.
    ///
    /// # Errors
    /// As [`Selection::next`] and [`Selection::read`], and the limit on series.
    pub(crate) fn next_samples(&mut self, range: TimeRange, samples: &mut Samples) -> Result<bool, StorageError> {
        while self.next()? {
            self.read(range, samples)?;
            if !samples.is_empty() {
                self.count_answered()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the next series that has samples in the range, and reads what it can of them as cells; false at the end.
    /// What was in `series` and `samples` is replaced.
    ///
    /// # Errors
    /// As [`Selection::next_samples`].
    pub(crate) fn next_thin(
        &mut self,
        range: TimeRange,
        series: &mut ThinSeries,
        samples: &mut Samples,
    ) -> Result<bool, StorageError> {
        while self.next()? {
            self.merge.read_thin(range, series, samples).map_err(|error| self.damage.met_in_query(error))?;
            if !series.is_empty() || !samples.is_empty() {
                self.count_answered()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the next series that has a sample in the range, and answers the newest; `None` at the end. Cheap where
    /// many series are asked for theirs: nothing is decoded that was decoded before.
    ///
    /// # Errors
    /// As [`Selection::next_samples`].
    pub(crate) fn next_newest(&mut self, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        while self.next()? {
            let newest = self.merge.newest(range).map_err(|error| self.damage.met_in_query(error))?;
            if let Some(newest) = newest {
                self.count_answered()?;
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    /// As [`Selection::next_newest`], for who does not ask for the value: nothing is decoded that headers tell.
    ///
    /// # Errors
    /// As [`Selection::next_samples`].
    pub(crate) fn next_pulse(&mut self, range: TimeRange) -> Result<Option<Pulse>, StorageError> {
        while self.next()? {
            let pulse = self.merge.pulse(range).map_err(|error| self.damage.met_in_query(error))?;
            if pulse.is_some() {
                self.count_answered()?;
                return Ok(pulse);
            }
        }
        Ok(None)
    }

    /// All histories, each with the numbers of the series that no older one has: so each series is in one.
    ///
    /// # Errors
    /// As [`Selection::next`].
    pub(crate) fn into_owned(mut self) -> Result<Vec<(Source, RoaringBitmap)>, StorageError> {
        let mut owned: Vec<RoaringBitmap> = Vec::new();
        while self.next()? {
            let Some((source, number)) = self.merge.owner() else { break };
            if owned.len() <= source {
                owned.resize_with(source + 1, RoaringBitmap::new);
            }
            owned[source].insert(number);
        }
        Ok(self.merge.into_sources().into_iter().zip(owned).collect())
    }

    /// Label bytes of the series it stands on.
    ///
    /// # Errors
    /// Damage met in the index.
    pub(crate) fn labels(&mut self) -> Result<&[u8], StorageError> {
        self.merge.labels().map_err(|error| self.damage.met_in_query(error))
    }

    /// Samples in the range of the series it stands on, sorted; what was in `samples` is replaced.
    ///
    /// # Errors
    /// Damage met in the data.
    pub(crate) fn read(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), StorageError> {
        samples.clear();
        for nth in 0..self.merge.standing() {
            let read = self.merge.standing_source(nth).read(range, samples);
            read.map_err(|error| self.damage.met_in_query(error))?;
            if samples.len() >= LONG_SERIES_SAMPLES {
                // One series may be as long as thousands of others: the query may be over before it is read, and who
                // asked must have room for it.
                self.context.check()?;
                self.context.memory.reserve(samples.bytes())?;
            }
        }
        Ok(())
    }

    /// Lets the limit on series hold for this selection and others together.
    pub(crate) fn with_others(mut self, others: &Together) -> Self {
        self.others = Some(others.clone());
        self
    }

    fn count_answered(&mut self) -> Result<(), StorageError> {
        self.answered += 1;
        self.context.check_series(self.answered)?;
        if self.answered.is_multiple_of(CHECKED_SERIES) { self.tell_others() } else { Ok(()) }
    }

    /// Counts with the others what they do not know of.
    fn tell_others(&mut self) -> Result<(), StorageError> {
        let Some(Together(count)) = &self.others else { return Ok(()) };
        let more = self.answered - std::mem::replace(&mut self.told, self.answered);
        self.context.check_series(count.fetch_add(more, Ordering::Relaxed) + more)
    }

    /// How many series had something so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// The bounds of the read.
    pub(crate) fn context(&self) -> &ReadContext {
        &self.context
    }
}

/// A stream that ends after its first error.
pub(crate) fn until_error<T>(
    mut next: impl FnMut() -> Result<Option<T>, StorageError>,
) -> impl Iterator<Item = Result<T, StorageError>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let item = next().transpose();
        ended = !matches!(item, Some(Ok(_)));
        item
    })
}
