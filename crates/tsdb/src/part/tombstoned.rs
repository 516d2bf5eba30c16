//! Which series of a part a tombstone or a rule of retention means: asked of the index once, as a part never changes.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_base::CancelToken;
use pharos_model::{Matcher, TimeRange};
use roaring::RoaringBitmap;

use super::Part;
use crate::retention::SeriesRule;
use crate::tombstones::Tombstone;
use crate::{TsdbError, index};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    /// A tombstone, by its sequence.
    Tombstone(u64),
    /// A rule of retention, by its number.
    Rule(usize),
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Tombstoned(Mutex<HashMap<Asked, Arc<RoaringBitmap>>>);

impl Part {
    /// From the first instant of a sample or exemplar to behind the last.
    pub(crate) fn bounds(&self) -> TimeRange {
        TimeRange::inclusive(self.meta.min_time_ms, self.meta.max_time_ms)
    }

    /// Whether a tombstone is younger than the part and was not applied to it yet.
    pub(crate) fn concerned_by(&self, tombstone: &Tombstone) -> bool {
        tombstone.concerns(self.meta.sequence, self.meta.cleaned) && tombstone.range.overlaps(self.bounds())
    }

    /// The series that a tombstone means.
    ///
    /// # Errors
    /// [`TsdbError`] if the index is damaged.
    pub(crate) fn series_of(&self, tombstone: &Tombstone) -> Result<Arc<RoaringBitmap>, TsdbError> {
        self.asked(Asked::Tombstone(tombstone.sequence), &tombstone.matcher_sets)
    }

    /// The series that a rule names, `number` its place among the rules.
    ///
    /// # Errors
    /// [`TsdbError`] if the index is damaged.
    pub(crate) fn series_of_rule(&self, number: usize, rule: &SeriesRule) -> Result<Arc<RoaringBitmap>, TsdbError> {
        self.asked(Asked::Rule(number), &rule.matcher_sets)
    }

    fn asked(&self, asked: Asked, sets: &[Vec<Matcher>]) -> Result<Arc<RoaringBitmap>, TsdbError> {
        if let Some(known) = self.tombstoned.0.lock().get(&asked) {
            return Ok(Arc::clone(known));
        }
        // Whoever asks first answers for all later ones, and is not stopped half-way.
        let found = Arc::new(index::select_any(&self.index, sets, &CancelToken::new())?);
        self.tombstoned.0.lock().insert(asked, Arc::clone(&found));
        Ok(found)
    }

    /// Whether rewriting the part would take anything away for this tombstone.
    ///
    /// # Errors
    /// [`TsdbError`] if the index is damaged.
    pub(crate) fn holds_deleted(&self, tombstone: &Tombstone) -> Result<bool, TsdbError> {
        // Exemplars may be of series that have no samples here, which the index does not know.
        Ok(self.concerned_by(tombstone) && (self.meta.exemplars > 0 || !self.series_of(tombstone)?.is_empty()))
    }

    /// Forgets tombstones below this sequence.
    pub(crate) fn forget_tombstones_below(&self, sequence: u64) {
        self.tombstoned.0.lock().retain(|asked, _| !matches!(asked, Asked::Tombstone(known) if *known < sequence));
    }
}
