//! The contract's reading half: selections over parts and heads, merged series by series.

use std::collections::BTreeMap;
use std::sync::Arc;

use pharos_base::Reservation;
use pharos_model::{Exemplar, Labels, Matcher, TenantId, TimeRange, matches_labels};
use pharos_storage::{ExemplarSeries, LeafSeries, RawPlan, ReadContext, StorageError};

use crate::TsdbError;
use crate::head::generation::Generation;
use crate::index;
use crate::masks::Hiding;
use crate::merge::{HeadCursor, Merge, Source};
use crate::part::{Part, PartCursor};
use crate::samples::Samples;
use crate::shared::Shared;

/// What a selection holds for each selected series of a head.
const SELECTED_BYTES: u64 = 32;
/// What a cursor over a part holds at a time, roughly: one block of each kind.
const CURSOR_BYTES: u64 = 256 << 10;

/// Everything of a tenant that overlaps a range, oldest first.
pub(crate) struct View {
    pub(crate) parts: Vec<Arc<Part>>,
    pub(crate) generations: Vec<Arc<Generation>>,
    pub(crate) hiding: Hiding,
}

/// An open selection.
pub(crate) struct Selection {
    merge: Merge,
    context: ReadContext,
    series: u64,
    _held: Reservation,
}

impl Shared {
    pub(crate) fn view(&self, tenant: &TenantId, range: TimeRange) -> View {
        let Some(tenant) = self.tenants.get(tenant).filter(|_| !range.is_empty()) else {
            return View { parts: Vec::new(), generations: Vec::new(), hiding: Hiding::default() };
        };
        let state = tenant.state.read();
        let parts = state.parts.iter().filter(|part| part.overlaps(range)).cloned().collect();
        let generations = state.frozen.iter().chain([&state.active]).cloned().collect();
        // Together with the parts: a merge takes a tombstone away only with what it hid.
        View { parts, generations, hiding: self.hiding(&tenant.id, &state) }
    }

    pub(crate) fn select(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Selection, StorageError> {
        let view = self.view(tenant, range);
        let mut held = context.memory.reserve(0)?;
        let mut sources = Vec::new();
        for part in view.parts {
            context.check()?;
            let mut selected = index::select_any(&part.index, sets)?;
            let masks = view.hiding.of_part(&part, range, &mut selected)?;
            if !selected.is_empty() {
                held.grow(CURSOR_BYTES + selected.serialized_size() as u64)?;
                sources.push(Source::part(PartCursor::new(part, selected)?, masks));
            }
        }
        for generation in view.generations {
            context.check()?;
            let mut selected = generation.select(sets, range)?;
            let masks = view.hiding.of_generation(&generation, range, &mut selected);
            held.grow(selected.len() as u64 * SELECTED_BYTES)?;
            sources.push(Source::head(HeadCursor::new(generation, selected), masks));
        }
        Ok(Selection { merge: Merge::new(sources), context: context.clone(), series: 0, _held: held })
    }

    pub(crate) fn raw(
        &self,
        tenant: &TenantId,
        plan: &RawPlan,
        context: &ReadContext,
    ) -> Result<impl Iterator<Item = Result<LeafSeries, StorageError>> + Send + use<>, StorageError> {
        let range = self.kept(tenant, plan.range);
        let selection = self.select(tenant, std::slice::from_ref(&plan.matchers), range, context)?;
        Ok(until_error(selection, move |selection| selection.next_raw(range)))
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
            context.check()?;
            // Entries of a series stand together: its labels are tested once.
            let mut last: Option<(Vec<u8>, Option<Labels>)> = None;
            part.exemplars(&mut |encoded, exemplar| {
                if last.as_ref().is_none_or(|(bytes, _)| bytes.as_slice() != encoded) {
                    let passed = Labels::from_encoded(encoded).ok().filter(|labels| passes(sets, labels));
                    last = Some((encoded.to_vec(), passed));
                }
                if let Some((_, Some(labels))) = &last
                    && range.contains(exemplar.timestamp_ms)
                    && !view.hiding.hides_exemplar(part.meta.sequence, part.meta.cleaned, labels, exemplar.timestamp_ms)
                {
                    let key = (exemplar.timestamp_ms, exemplar.labels.clone());
                    found.entry(labels.clone()).or_default().insert(key, exemplar);
                }
            })?;
            context.check_series(found.len() as u64)?;
            held.grow(part.meta.exemplar_bytes)?;
        }
        for generation in &view.generations {
            for (labels, exemplar) in generation.exemplars(sets, range)? {
                if view.hiding.hides_exemplar(generation.sequence(), 0, &labels, exemplar.timestamp_ms) {
                    continue;
                }
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

fn passes(sets: &[Vec<Matcher>], labels: &Labels) -> bool {
    sets.is_empty() || sets.iter().any(|matchers| matches_labels(matchers, labels))
}

impl Selection {
    fn next_raw(&mut self, range: TimeRange) -> Result<Option<LeafSeries>, StorageError> {
        let Some((encoded, samples)) = self.next_samples(range)? else { return Ok(None) };
        Ok(Some(LeafSeries::Raw(samples.into_raw(labels_of(encoded)?))))
    }

    /// Label bytes and samples of the next series that has any in the range; ascending by label bytes.
    pub(crate) fn next_samples(&mut self, range: TimeRange) -> Result<Option<(&[u8], Samples)>, StorageError> {
        let samples = loop {
            self.context.check()?;
            match self.merge.next(Some(range))? {
                None => return Ok(None),
                Some((_, samples)) if samples.is_empty() => {}
                Some((_, samples)) => break samples,
            }
        };
        self.count()?;
        Ok(Some((self.merge.current(), samples)))
    }

    pub(crate) fn next_labels(&mut self) -> Result<Option<Labels>, StorageError> {
        self.context.check()?;
        let Some((encoded, _)) = self.merge.next(None)? else { return Ok(None) };
        let labels = labels_of(encoded)?;
        self.count()?;
        Ok(Some(labels))
    }

    fn count(&mut self) -> Result<(), StorageError> {
        self.series += 1;
        self.context.check_series(self.series)
    }
}

pub(crate) fn labels_of(encoded: &[u8]) -> Result<Labels, StorageError> {
    Labels::from_encoded(encoded).map_err(|error| {
        StorageError::from(TsdbError::Corrupt {
            what: "label set",
            path: std::path::PathBuf::new(),
            offset: 0,
            reason: error.to_string(),
        })
    })
}

/// A stream that ends after its first error.
pub(crate) fn until_error<T>(
    mut selection: Selection,
    mut next: impl FnMut(&mut Selection) -> Result<Option<T>, StorageError>,
) -> impl Iterator<Item = Result<T, StorageError>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let item = next(&mut selection).transpose();
        ended = !matches!(item, Some(Ok(_)));
        item
    })
}
