//! Runs of a batch that are stored together or not at all.

use std::ops::Range;

use crate::{MetricBatch, SeriesRun};

/// Runs of a batch that stand or fall together: the series of one histogram of its sender, say, half of which would be none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunGroup {
    /// Their places in [`MetricBatch::series`].
    pub runs: Range<usize>,
    /// Places of runs that were added to them: those of all groups lie in front of what was sent.
    pub added: Range<usize>,
    /// How many items it counts for where it is refused: those that its sender knows.
    pub items: u64,
}

impl RunGroup {
    /// A run that is of no group.
    #[must_use]
    pub fn alone(place: usize, run: &SeriesRun) -> Self {
        Self { runs: place..place + 1, added: 0..0, items: run.items() }
    }

    /// The places of all its runs, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> + use<> {
        self.added.clone().chain(self.runs.clone())
    }
}

impl MetricBatch {
    /// Every run once, with those that stand or fall with it: groups, and runs that are of none.
    pub fn units(&self) -> impl Iterator<Item = RunGroup> + '_ {
        let mut groups = self.groups.iter().peekable();
        let mut place = self.groups.last().map_or(0, |group| group.added.end);
        std::iter::from_fn(move || {
            if let Some(group) = groups.next_if(|group| group.runs.start == place) {
                place = group.runs.end;
                return Some(group.clone());
            }
            let run = self.series.get(place)?;
            place += 1;
            Some(RunGroup::alone(place - 1, run))
        })
    }
}

/// The groups as they are once only the runs that `kept` says are left.
pub(crate) fn groups_left(groups: &[RunGroup], kept: &[bool]) -> Vec<RunGroup> {
    if groups.is_empty() {
        return Vec::new();
    }
    let mut before = Vec::with_capacity(kept.len() + 1);
    before.push(0);
    for is_kept in kept {
        before.push(before[before.len() - 1] + usize::from(*is_kept));
    }
    let left = |places: &Range<usize>| before[places.start]..before[places.end];
    let groups =
        groups.iter().map(|group| RunGroup { runs: left(&group.runs), added: left(&group.added), items: group.items });
    groups.filter(|group| group.places().next().is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Labels, Sample};

    /// Runs of one sample each, of which those between `from` and `to` are a group of one item.
    fn batch(runs: usize, groups: &[(usize, usize)]) -> MetricBatch {
        let mut builder = BatchBuilder::new();
        for at in 0..runs {
            if let Some((from, _)) = groups.iter().find(|(_, to)| *to == at) {
                builder.group_since(*from, 1);
            }
            builder.push_sample(Sample { timestamp_ms: 1, value: at as f64 }, 0);
            let name = at.to_string();
            builder.finish_series_encoded(&Labels::from_pairs([("__name__", name.as_str())]).unwrap());
        }
        builder.build()
    }

    fn units(batch: &MetricBatch) -> Vec<(Vec<usize>, u64)> {
        batch.units().map(|unit| (unit.places().collect(), unit.items)).collect()
    }

    #[test]
    fn every_run_is_of_one_unit() {
        assert_eq!(units(&batch(2, &[])), [(vec![0], 1), (vec![1], 1)]);
        let mut grouped = batch(6, &[(1, 3), (3, 5)]);
        assert_eq!(units(&grouped), [(vec![0], 1), (vec![1, 2], 1), (vec![3, 4], 1), (vec![5], 1)]);
        // The first run belongs to the last group, the one behind it to the first.
        grouped.groups[0] = RunGroup { runs: 2..3, added: 0..1, items: 1 };
        grouped.groups[1] = RunGroup { runs: 3..5, added: 1..2, items: 1 };
        assert_eq!(units(&grouped), [(vec![0, 2], 1), (vec![1, 3, 4], 1), (vec![5], 1)]);
    }

    #[test]
    fn groups_are_where_their_runs_are_when_others_are_left_out() {
        let mut batch = batch(7, &[(1, 3), (3, 6)]);
        batch.keep_series(|place| !matches!(place, 0 | 1 | 2 | 4));
        assert_eq!(units(&batch), [(vec![0, 1], 1), (vec![2], 1)]);
        let values: Vec<_> = batch.samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [3.0, 5.0, 6.0]);
    }

    #[test]
    fn nothing_is_no_group() {
        let mut builder = BatchBuilder::new();
        builder.group_since(0, 1);
        assert!(builder.build().groups.is_empty());
    }
}
