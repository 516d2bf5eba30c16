//! Masks: what of one source's series must not be seen, because it was deleted or is too old for its rule.
//!
//! Made once per source and selection: series of which nothing is left in the range are not selected at all,
//! of the others the hidden ranges are cut out as they are decoded. No tombstone and no rule that
//! concerns the range: no cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use pharos_base::CancelToken;
use pharos_model::{Labels, Matcher, TimeRange, matches_labels};
use roaring::RoaringBitmap;

use crate::head::generation::Generation;
use crate::head::registry::SeriesNumber;
use crate::part::Part;
use crate::read::View;
use crate::retention::{CutOffs, SeriesRule};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::tombstones::Tombstone;
use crate::{TsdbError, index};

/// What hides samples of a tenant, as of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hiding {
    /// By sequence ascending.
    pub(crate) tombstones: Arc<[Tombstone]>,
    pub(crate) cut_offs: CutOffs,
}

/// What is hidden of the selected series of one source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks(Vec<Mask>);

#[derive(Debug, Clone)]
struct Mask {
    series: Arc<RoaringBitmap>,
    hidden: TimeRange,
}

impl Masks {
    /// Whether something is hidden of a series.
    pub(crate) fn concern(&self, number: u32) -> bool {
        self.0.iter().any(|mask| mask.series.contains(number))
    }

    /// Takes what is hidden of a series out of its samples.
    pub(crate) fn apply(&self, number: u32, samples: &mut Samples) {
        for mask in self.0.iter().filter(|mask| mask.series.contains(number)) {
            samples.cut_out(mask.hidden);
        }
    }

    /// Hides `series` in `hidden`: those of which nothing in `visible` is left are taken out of `selected`.
    fn hide(
        &mut self,
        series: Arc<RoaringBitmap>,
        hidden: TimeRange,
        visible: TimeRange,
        selected: &mut RoaringBitmap,
    ) {
        if hidden.start_ms <= visible.start_ms && visible.end_ms <= hidden.end_ms {
            *selected -= series.as_ref();
        } else if hidden.overlaps(visible) && !series.is_disjoint(selected) {
            self.0.push(Mask { series, hidden });
        }
    }
}

impl Hiding {
    /// Whether anything of a part may be hidden in the range.
    pub(crate) fn concerns_part(&self, part: &Part, range: TimeRange) -> bool {
        let bounds = part.bounds();
        let visible = TimeRange::new(range.start_ms.max(bounds.start_ms), range.end_ms.min(bounds.end_ms));
        self.tombstones.iter().any(|tombstone| part.concerned_by(tombstone) && tombstone.range.overlaps(visible))
            || self.cut_offs.concern(visible)
    }

    /// Whether anything of a generation may be hidden in the range.
    pub(crate) fn concerns_generation(&self, generation: &Generation, range: TimeRange) -> bool {
        let sequence = generation.sequence();
        self.tombstones.iter().any(|tombstone| tombstone.concerns(sequence, 0) && tombstone.range.overlaps(range))
            || self.cut_offs.concern_generation(generation, range)
    }

    /// What is hidden of a part in the range; series without anything left are taken out of `selected`.
    ///
    /// # Errors
    /// [`TsdbError`] if the part's index is damaged.
    pub(crate) fn of_part(
        &self,
        part: &Part,
        range: TimeRange,
        selected: &mut RoaringBitmap,
    ) -> Result<Masks, TsdbError> {
        let mut masks = Masks::default();
        let bounds = part.bounds();
        let visible = TimeRange::new(range.start_ms.max(bounds.start_ms), range.end_ms.min(bounds.end_ms));
        for tombstone in self.tombstones.iter() {
            if selected.is_empty() {
                break;
            }
            if part.concerned_by(tombstone) && tombstone.range.overlaps(visible) {
                masks.hide(part.series_of(tombstone)?, tombstone.range, visible, selected);
            }
        }
        if self.cut_offs.concern(visible) {
            let mut unruled = selected.clone();
            for (number, rule, before_ms) in &self.cut_offs.rules {
                let series = part.series_of_rule(*number, rule)?.as_ref() & &unruled;
                unruled -= &series;
                masks.hide(Arc::new(series), before(*before_ms), visible, selected);
            }
            masks.hide(Arc::new(unruled), before(self.cut_offs.default_ms), visible, selected);
        }
        Ok(masks)
    }

    /// What is hidden of a generation in the range; series without anything left are taken out of `selected`.
    pub(crate) fn of_generation(
        &self,
        generation: &Generation,
        range: TimeRange,
        selected: &mut Vec<(Labels, SeriesNumber)>,
    ) -> Masks {
        let mut masks = Masks::default();
        for tombstone in self.tombstones.iter() {
            if tombstone.concerns(generation.sequence(), 0) && tombstone.range.overlaps(range) && !selected.is_empty() {
                let hit = |labels: &Labels| tombstone.matcher_sets.iter().any(|set| matches_labels(set, labels));
                let series: RoaringBitmap =
                    selected.iter().filter(|(labels, _)| hit(labels)).map(|(_, number)| *number).collect();
                if series.is_empty() {
                    continue;
                }
                let mut numbers: RoaringBitmap = selected.iter().map(|(_, number)| *number).collect();
                masks.hide(Arc::new(series), tombstone.range, range, &mut numbers);
                selected.retain(|(_, number)| numbers.contains(*number));
            }
        }
        if self.cut_offs.concern_generation(generation, range) {
            let mut by_cut_off: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
            for (labels, number) in selected.iter() {
                by_cut_off.entry(self.cut_offs.of(labels)).or_default().insert(*number);
            }
            let mut numbers: RoaringBitmap = selected.iter().map(|(_, number)| *number).collect();
            for (before_ms, series) in by_cut_off {
                masks.hide(Arc::new(series), before(before_ms), range, &mut numbers);
            }
            selected.retain(|(_, number)| numbers.contains(*number));
        }
        masks
    }

    /// Whether the exemplar at `at_ms` of a series is hidden in a source of this sequence.
    pub(crate) fn hides_exemplar(&self, sequence: u64, cleaned: u64, labels: &Labels, at_ms: i64) -> bool {
        let is_deleted = |tombstone: &Tombstone| {
            tombstone.concerns(sequence, cleaned)
                && tombstone.range.contains(at_ms)
                && tombstone.matcher_sets.iter().any(|set| matches_labels(set, labels))
        };
        at_ms < self.cut_offs.newest_ms && at_ms < self.cut_offs.of(labels) || self.tombstones.iter().any(is_deleted)
    }
}

impl CutOffs {
    /// Whether some series are hidden in a part of the range, and others perhaps not.
    fn concern(&self, visible: TimeRange) -> bool {
        !self.rules.is_empty() && visible.start_ms < self.newest_ms
    }

    fn concern_generation(&self, generation: &Generation, range: TimeRange) -> bool {
        // The head is rarely that old: looking is cheaper than matching all its series.
        self.concern(range) && generation.bounds().is_some_and(|(first_ms, _)| first_ms < self.newest_ms)
    }

    /// The instant before which a series is hidden.
    fn of(&self, labels: &Labels) -> i64 {
        let fits = |rule: &SeriesRule| rule.matcher_sets.iter().any(|set| matches_labels(set, labels));
        self.rules.iter().find(|(_, rule, _)| fits(rule)).map_or(self.default_ms, |(.., before_ms)| *before_ms)
    }
}

fn before(at_ms: i64) -> TimeRange {
    TimeRange::new(i64::MIN, at_ms)
}

impl View {
    /// Series of a part that pass and of which something is to be seen; `None` if that is all of them.
    pub(crate) fn selected(
        &self,
        part: &Part,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &CancelToken,
    ) -> Result<Option<RoaringBitmap>, TsdbError> {
        if sets.is_empty() && !self.hiding.concerns_part(part, range) {
            return Ok(None);
        }
        let mut selected = index::select_any(&part.index, sets, cancel)?;
        self.hiding.of_part(part, range, &mut selected)?;
        Ok(Some(selected))
    }

    pub(crate) fn selected_of_generation(
        &self,
        generation: &Generation,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &CancelToken,
    ) -> Result<Vec<(Labels, SeriesNumber)>, TsdbError> {
        let mut selected = generation.select(sets, range, cancel)?;
        self.hiding.of_generation(generation, range, &mut selected);
        Ok(selected)
    }
}

impl Shared {
    /// Whether anything of these series may lie in the range, exemplars included.
    pub(crate) fn has_something(
        &self,
        tenant: &Tenant,
        sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<bool, TsdbError> {
        if !self.damaged.is_empty() {
            return Ok(true);
        }
        let (view, never) = (self.view(&tenant.id, range), CancelToken::new());
        for part in &view.parts {
            if part.meta.exemplars > 0
                || view.selected(part, sets, range, &never)?.is_none_or(|found| !found.is_empty())
            {
                return Ok(true);
            }
        }
        for generation in &view.generations {
            if !view.selected_of_generation(generation, sets, range, &never)?.is_empty()
                || !generation.exemplars(sets, range, &never)?.is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
