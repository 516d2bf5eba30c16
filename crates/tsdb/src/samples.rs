//! The decoded samples of one series, and how two histories of it become one.

use std::sync::Arc;

use pharos_model::{Histogram, HistogramSample, Labels, TimeRange};
use pharos_storage::RawSeries;

/// A column of instants with payloads and optional start timestamps.
#[derive(Debug, Clone)]
pub(crate) struct Column<T> {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<T>,
    /// Empty if no start is known, else one for each value.
    pub(crate) starts: Vec<i64>,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { times: Vec::new(), values: Vec::new(), starts: Vec::new() }
    }
}

/// Floats and histograms of one series.
///
/// Sorted means: both columns ascend strictly in time and share no instant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    pub(crate) floats: Column<f64>,
    pub(crate) histograms: Column<Arc<Histogram>>,
}

impl<T: Clone> Column<T> {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
    }

    pub(crate) fn push(&mut self, time: i64, value: T, start: i64) {
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
            self.starts.push(start);
        }
        self.times.push(time);
        self.values.push(value);
    }

    fn start(&self, index: usize) -> i64 {
        self.starts.get(index).copied().unwrap_or(0)
    }

    /// Sorts by time; of equal instants the last pushed stays.
    pub(crate) fn sort(&mut self) {
        if self.times.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|index| self.times[*index]);
        let last_of_instant =
            |pair: usize| order.get(pair + 1).is_none_or(|next| self.times[*next] != self.times[order[pair]]);
        let kept: Vec<usize> = (0..order.len()).filter(|at| last_of_instant(*at)).map(|at| order[at]).collect();
        self.keep(&kept);
    }

    fn keep(&mut self, kept: &[usize]) {
        let mut column = Self::default();
        column.times.reserve(kept.len());
        column.values.reserve(kept.len());
        for index in kept {
            column.push(self.times[*index], self.values[*index].clone(), self.start(*index));
        }
        *self = column;
    }

    fn append(&mut self, mut newer: Self) {
        if !newer.starts.is_empty() || !self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
            newer.starts.resize(newer.times.len(), 0);
            self.starts.append(&mut newer.starts);
        }
        self.times.append(&mut newer.times);
        self.values.append(&mut newer.values);
    }

    /// Joins a newer sorted column to this one; where both have an instant, the newer wins.
    fn merge(&mut self, newer: Self) {
        if newer.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = newer;
            return;
        }
        let from = self.times.partition_point(|time| *time < newer.times[0]);
        if from == self.len() {
            return self.append(newer);
        }
        let older = self.split_off(from);
        self.interleave(&older, &newer);
    }

    /// The columns from an index on.
    fn split_off(&mut self, from: usize) -> Self {
        let starts = if self.starts.is_empty() { Vec::new() } else { self.starts.split_off(from) };
        Self { times: self.times.split_off(from), values: self.values.split_off(from), starts }
    }

    /// Appends two sorted columns in order of time; where both have an instant, the newer wins.
    fn interleave(&mut self, older: &Self, newer: &Self) {
        let (mut left, mut right) = (0, 0);
        while left < older.len() || right < newer.len() {
            let take_newer = match (older.times.get(left), newer.times.get(right)) {
                (Some(a), Some(b)) => {
                    left += usize::from(a == b);
                    b <= a
                }
                (left, _) => left.is_none(),
            };
            let (column, at) = if take_newer { (newer, &mut right) } else { (older, &mut left) };
            self.push(column.times[*at], column.values[*at].clone(), column.start(*at));
            *at += 1;
        }
    }

    fn remove_instants(&mut self, instants: &[i64]) {
        if instants.is_empty() || self.is_empty() {
            return;
        }
        let kept: Vec<usize> = (0..self.len()).filter(|i| instants.binary_search(&self.times[*i]).is_err()).collect();
        if kept.len() < self.len() {
            self.keep(&kept);
        }
    }

    /// The part inside `[start, end)` of a sorted column.
    pub(crate) fn cut(&mut self, range: TimeRange) {
        let start = self.times.partition_point(|time| *time < range.start_ms);
        let end = self.times.partition_point(|time| *time < range.end_ms).max(start);
        if start == 0 && end == self.len() {
            return;
        }
        self.times.truncate(end);
        self.values.truncate(end);
        self.starts.truncate(end);
        self.times.drain(..start);
        self.values.drain(..start);
        self.starts.drain(..start.min(self.starts.len()));
    }

    /// Takes what is inside `[start, end)` out of a sorted column.
    fn cut_out(&mut self, range: TimeRange) {
        let start = self.times.partition_point(|time| *time < range.start_ms);
        let end = self.times.partition_point(|time| *time < range.end_ms).max(start);
        self.times.drain(start..end);
        self.values.drain(start..end);
        if !self.starts.is_empty() {
            self.starts.drain(start..end);
        }
    }

    /// The values in `[from, to)` by index.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        let starts = if self.starts.is_empty() { Vec::new() } else { self.starts[from..to].to_vec() };
        Self { times: self.times[from..to].to_vec(), values: self.values[from..to].to_vec(), starts }
    }

    fn forget_unknown_starts(&mut self) {
        if self.starts.iter().all(|start| *start == 0) {
            self.starts = Vec::new();
        }
    }
}

impl Samples {
    /// Floats and histograms together.
    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// What they take in memory at least, bytes; buckets of histograms come on top.
    pub(crate) fn bytes(&self) -> u64 {
        let starts = self.floats.starts.len() + self.histograms.starts.len();
        (16 * self.len() + 8 * starts + size_of::<Histogram>() * self.histograms.len()) as u64
    }

    /// Forgets the samples and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
    }

    /// The newest instant.
    pub(crate) fn last_time(&self) -> Option<i64> {
        self.floats.times.last().max(self.histograms.times.last()).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Joins newer sorted samples to these sorted ones; where both have an instant, the newer wins.
    pub(crate) fn merge(&mut self, newer: Self) {
        self.floats.remove_instants(&newer.histograms.times);
        self.histograms.remove_instants(&newer.floats.times);
        self.floats.merge(newer.floats);
        self.histograms.merge(newer.histograms);
    }

    pub(crate) fn cut(&mut self, range: TimeRange) {
        self.floats.cut(range);
        self.histograms.cut(range);
    }

    /// Takes what is at an instant or behind it off and answers it.
    pub(crate) fn split_off(&mut self, from_ms: i64) -> Self {
        let floats = self.floats.times.partition_point(|time| *time < from_ms);
        let histograms = self.histograms.times.partition_point(|time| *time < from_ms);
        Self { floats: self.floats.split_off(floats), histograms: self.histograms.split_off(histograms) }
    }

    /// Takes everything inside `[start, end)` out.
    pub(crate) fn cut_out(&mut self, range: TimeRange) {
        self.floats.cut_out(range);
        self.histograms.cut_out(range);
    }

    /// First and last instant.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        let first = [self.floats.times.first(), self.histograms.times.first()].into_iter().flatten().min()?;
        let last = [self.floats.times.last(), self.histograms.times.last()].into_iter().flatten().max()?;
        Some((*first, *last))
    }

    pub(crate) fn into_raw(mut self, labels: Labels) -> RawSeries {
        self.floats.forget_unknown_starts();
        self.histograms.forget_unknown_starts();
        let histograms = self.histograms.times.into_iter().zip(self.histograms.values);
        RawSeries {
            labels,
            timestamps_ms: self.floats.times,
            values: self.floats.values,
            start_ms: self.floats.starts,
            histograms: histograms
                .map(|(timestamp_ms, histogram)| HistogramSample { timestamp_ms, histogram })
                .collect(),
            histogram_start_ms: self.histograms.starts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(samples: &[(i64, f64)]) -> Samples {
        let mut all = Samples::default();
        for (time, value) in samples {
            all.floats.push(*time, *value, 0);
        }
        all.floats.sort();
        all
    }

    #[test]
    fn the_newer_sample_wins_at_an_instant() {
        let mut all = floats(&[(3, 3.0), (1, 1.0), (2, 2.0), (2, 2.5)]);
        assert_eq!(all.floats.values, [1.0, 2.5, 3.0]);
        all.merge(floats(&[(2, 7.0), (4, 4.0)]));
        assert_eq!((all.floats.times, all.floats.values), (vec![1, 2, 3, 4], vec![1.0, 7.0, 3.0, 4.0]));
    }

    #[test]
    fn a_newer_histogram_replaces_a_float() {
        let mut all = floats(&[(1, 1.0), (2, 2.0)]);
        let mut newer = Samples::default();
        newer.histograms.push(2, Arc::new(Histogram::empty(0)), 9);
        all.merge(newer);
        assert_eq!((all.floats.times.as_slice(), all.histograms.times.as_slice()), ([1].as_slice(), [2].as_slice()));
        all.merge(floats(&[(2, 5.0)]));
        assert_eq!((all.floats.times.as_slice(), all.histograms.len()), ([1, 2].as_slice(), 0));
    }

    #[test]
    fn what_is_cut_out_leaves_both_sides() {
        let mut all = floats(&[(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        all.floats.starts = vec![0, 1, 2, 3];
        all.cut_out(TimeRange::new(2, 4));
        assert_eq!((all.floats.times, all.floats.values, all.floats.starts), (vec![1, 4], vec![1.0, 4.0], vec![0, 3]));
        let mut untouched = floats(&[(1, 1.0)]);
        untouched.cut_out(TimeRange::new(5, 2));
        assert_eq!(untouched.floats.times, [1]);
    }

    #[test]
    fn a_cut_keeps_columns_aligned() {
        let mut column = Column::default();
        for time in 0..10 {
            column.push(time, time as f64, time * 10);
        }
        column.cut(TimeRange::new(3, 6));
        assert_eq!(
            (column.times, column.values, column.starts),
            (vec![3, 4, 5], vec![3.0, 4.0, 5.0], vec![30, 40, 50])
        );
    }
}
