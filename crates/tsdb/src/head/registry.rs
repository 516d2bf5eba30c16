//! The series a tenant's head knows: label bytes to number, and postings over their labels.
//!
//! Invariants
//! - R1 Numbers are given in order and never reused within a registry, so postings only grow at the end
//!   and stay sorted.
//! - R2 A fingerprint finds candidates; the label bytes decide.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashMap, HashTable};
use pharos_model::{Fingerprint, LabelError, Labels, MetricBatch, RunLabels, SeriesRun};
use roaring::RoaringBitmap;

use crate::TsdbError;
use crate::index::LabelIndex;

/// A series' number within one registry.
pub(crate) type SeriesNumber = u32;

/// A segment number that no log segment has.
const NO_SEGMENT: u64 = 0;

/// One known series.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    fingerprint: Fingerprint,
    /// What log records call it; unique in this process.
    pub(crate) log_id: u64,
    /// The newest log segment that holds its definition.
    defined_in: AtomicU64,
}

/// All series of one tenant's head.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    series: Vec<Series>,
    by_fingerprint: HashTable<SeriesNumber>,
    postings: HashMap<Box<str>, HashMap<Box<str>, Vec<SeriesNumber>>>,
    bytes: u64,
}

/// What a series takes beside its label bytes: [`Series`] with the vector's slack, the counts and rounding of its
/// labels, a slot of the table.
const SERIES_BYTES: u64 = size_of::<Series>() as u64 * 3 / 2 + 32 + 8;
/// What a posting takes, with the list's slack.
const POSTING_BYTES: u64 = 6;
/// What a label value takes beside its text: list, text pointer and slot, and the first allocation of each.
const VALUE_BYTES: u64 = 80;

impl Series {
    /// Whether the run has this very label set.
    pub(crate) fn shares_labels_of(&self, run: &SeriesRun) -> bool {
        matches!(&run.labels, RunLabels::Shared(labels) if labels.is_same(&self.labels))
    }

    /// Notes that `segment` holds the definition; true if it did not before.
    pub(crate) fn define_in(&self, segment: u64) -> bool {
        self.defined_in.swap(segment, Ordering::Relaxed) != segment
    }
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn series(&self, number: SeriesNumber) -> &Series {
        &self.series[number as usize]
    }

    /// The number of a run's series, looking first at the one after `previous`: senders repeat their order, and
    /// neighbours lie side by side in memory where the table's slots do not.
    pub(crate) fn find_after(
        &self,
        previous: Option<SeriesNumber>,
        batch: &MetricBatch,
        run: &SeriesRun,
    ) -> Option<SeriesNumber> {
        let guess = previous.map_or(0, |previous| previous.saturating_add(1));
        if let Some(series) = self.series.get(guess as usize)
            && (series.shares_labels_of(run) || series.labels.encoded() == batch.encoded_labels(run))
        {
            return Some(guess);
        }
        self.find(batch.fingerprint(run), batch.encoded_labels(run))
    }

    pub(crate) fn find(&self, fingerprint: Fingerprint, encoded: &[u8]) -> Option<SeriesNumber> {
        let same = |number: &SeriesNumber| {
            let series = &self.series[*number as usize];
            series.fingerprint == fingerprint && series.labels.encoded() == encoded
        };
        self.by_fingerprint.find(fingerprint as u64, same).copied()
    }

    /// The number of a series, known or new; `labels` makes its labels of the encoded ones.
    ///
    /// # Errors
    /// [`LabelError`] if that fails.
    pub(crate) fn find_or_add(
        &mut self,
        fingerprint: Fingerprint,
        encoded: &[u8],
        labels: impl FnOnce() -> Result<Labels, LabelError>,
        next_log_id: &AtomicU64,
    ) -> Result<SeriesNumber, LabelError> {
        if let Some(number) = self.find(fingerprint, encoded) {
            return Ok(number);
        }
        Ok(self.add(labels()?, fingerprint, next_log_id.fetch_add(1, Ordering::Relaxed)))
    }

    /// The number of a series, known or new.
    pub(crate) fn find_or_add_labels(&mut self, labels: Labels, next_log_id: &AtomicU64) -> SeriesNumber {
        let fingerprint = labels.fingerprint();
        match self.find(fingerprint, labels.encoded()) {
            Some(number) => number,
            None => self.add(labels, fingerprint, next_log_id.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Takes over the label set that the sender of a known series shares: it is known by its pointer from now on, and
    /// its bytes are in memory once.
    pub(crate) fn share_labels(&mut self, number: SeriesNumber, run: &SeriesRun) {
        if let (Some(series), RunLabels::Shared(labels)) = (self.series.get_mut(number as usize), &run.labels) {
            debug_assert_eq!(series.labels, *labels);
            series.labels = labels.clone();
        }
    }

    /// The number here of a series of another registry; it keeps its log id.
    pub(crate) fn adopt(&mut self, other: &Series) -> SeriesNumber {
        match self.find(other.fingerprint, other.labels.encoded()) {
            Some(number) => number,
            None => self.add(other.labels.clone(), other.fingerprint, other.log_id),
        }
    }

    fn add(&mut self, labels: Labels, fingerprint: Fingerprint, log_id: u64) -> SeriesNumber {
        let number = self.series.len() as SeriesNumber;
        for (name, value) in labels.iter() {
            let values = match self.postings.get_mut(name) {
                Some(values) => values,
                None => self.postings.entry(name.into()).or_default(),
            };
            if let Some(numbers) = values.get_mut(value) {
                numbers.push(number);
            } else {
                self.bytes += VALUE_BYTES + value.len() as u64;
                values.insert(value.into(), vec![number]);
            }
            self.bytes += POSTING_BYTES;
        }
        self.bytes += SERIES_BYTES + labels.encoded().len() as u64;
        self.series.push(Series { labels, fingerprint, log_id, defined_in: AtomicU64::new(NO_SEGMENT) });
        let series = &self.series;
        self.by_fingerprint
            .insert_unique(fingerprint as u64, number, |number| series[*number as usize].fingerprint as u64);
        number
    }

    /// Each value of a label with its series.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, &[SeriesNumber])> {
        self.postings.get(name).into_iter().flatten().map(|(value, numbers)| (value.as_ref(), numbers.as_slice()))
    }

    /// Every label name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.postings.keys().map(AsRef::as_ref)
    }
}

impl LabelIndex for Registry {
    fn all(&self) -> Result<RoaringBitmap, TsdbError> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series.len() as u32);
        Ok(all)
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, TsdbError> {
        let numbers = self.postings.get(name).and_then(|values| values.get(value));
        Ok(numbers.map_or_else(RoaringBitmap::new, |numbers| from_sorted(numbers)))
    }

    fn any_of(
        &self,
        name: &str,
        passes: &mut dyn FnMut(&str) -> Result<bool, TsdbError>,
    ) -> Result<RoaringBitmap, TsdbError> {
        let mut found = RoaringBitmap::new();
        for (value, numbers) in self.values(name) {
            if passes(value)? {
                found |= from_sorted(numbers);
            }
        }
        Ok(found)
    }
}

fn from_sorted(numbers: &[SeriesNumber]) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(numbers.iter().copied()).expect("R1: numbers ascend")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::SeriesIndex;
    use pharos_base::CancelToken;
    use pharos_model::{BatchBuilder, MatchOp, Matcher};

    /// As if all label sets had one hash.
    const COLLISION: Fingerprint = 7;

    #[test]
    fn series_of_one_fingerprint_stay_apart() {
        let (mut registry, ids) = (Registry::default(), AtomicU64::new(0));
        let sets: Vec<_> = (0..50).map(|n| Labels::from_pairs([("n", n.to_string())]).unwrap()).collect();
        for round in 0..2 {
            for (expected, labels) in sets.iter().enumerate() {
                let make = || if round == 0 { Ok(labels.clone()) } else { Err(LabelError::Encoding) };
                let number = registry.find_or_add(COLLISION, labels.encoded(), make, &ids);
                assert_eq!(number.unwrap() as usize, expected);
            }
        }
        let mut builder = BatchBuilder::new();
        for labels in sets.iter().rev() {
            builder.push_sample(pharos_model::Sample { timestamp_ms: 1, value: 1.0 }, 0);
            builder.finish_series_shared(labels);
        }
        let batch = builder.build();
        for (run, expected) in batch.series.iter().zip((0..50).rev()) {
            // By the place behind the one before, and by the hash.
            assert_eq!(
                registry.find_after(Some(expected).filter(|n| *n > 0).map(|n| n - 1), &batch, run),
                Some(expected)
            );
            assert_eq!(registry.find(COLLISION, batch.encoded_labels(run)), Some(expected));
        }
    }

    #[test]
    fn a_pattern_over_many_values_is_given_up_when_nobody_waits_for_it() {
        let (mut registry, ids) = (Registry::default(), AtomicU64::new(0));
        for n in 0..5_000 {
            registry.find_or_add_labels(Labels::from_pairs([("n", format!("v{n}"))]).unwrap(), &ids);
        }
        let cancel = CancelToken::new();
        let select = |op| registry.select(&[Matcher::new(op, "n", "v.*7.?").unwrap()], &cancel);
        let both = [MatchOp::Regex, MatchOp::NotRegex];
        assert!(both.into_iter().all(|op| select(op).is_ok_and(|found| !found.is_empty())));
        cancel.cancel();
        assert!(both.into_iter().all(|op| matches!(select(op), Err(TsdbError::Interrupted(_)))));
    }
}
