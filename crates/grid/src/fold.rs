//! Folding grids into the grid of their group.

use crate::over_time::{greater, lesser};
use crate::sums::{Mean, Sum};
use crate::{ABSENT, Aggregation, is_absent};

/// The grid of a group in the making. Bits depend on the order in which series are added.
#[derive(Debug, Clone)]
pub struct FoldColumn(State);

#[derive(Debug, Clone)]
enum State {
    /// Two columns rather than one of pairs: the loop over them runs on vectors.
    Sum {
        total: Vec<f64>,
        lost: Vec<f64>,
    },
    Mean(Vec<Option<Mean>>),
    Count(Vec<f64>),
    Group(Vec<f64>),
    Min(Vec<f64>),
    Max(Vec<f64>),
}

/// What a group has gathered at one step.
#[derive(Debug, Clone, Copy)]
pub enum FoldState {
    /// Of [`Aggregation::Sum`].
    Sum(Sum),
    /// Of [`Aggregation::Avg`].
    Mean(Mean),
    /// The best, the count, or 1.
    Value(f64),
}

impl FoldColumn {
    /// A group without series.
    #[must_use]
    pub fn new(aggregation: Aggregation, steps: usize) -> Self {
        let absent = || vec![ABSENT; steps];
        Self(match aggregation {
            Aggregation::Sum => State::Sum { total: absent(), lost: vec![0.0; steps] },
            Aggregation::Avg => State::Mean(vec![None; steps]),
            Aggregation::Count => State::Count(vec![0.0; steps]),
            Aggregation::Group => State::Group(absent()),
            Aggregation::Min => State::Min(absent()),
            Aggregation::Max => State::Max(absent()),
        })
    }

    /// What a group over `steps` steps takes in memory, bytes.
    #[must_use]
    pub fn bytes(aggregation: Aggregation, steps: usize) -> usize {
        steps
            * match aggregation {
                Aggregation::Sum => 16,
                Aggregation::Avg => size_of::<Option<Mean>>(),
                _ => 8,
            }
    }

    /// Adds the grid of a series.
    pub fn add(&mut self, grid: &[f64]) {
        match &mut self.0 {
            State::Sum { total, lost } => add_sums(total, lost, grid),
            State::Mean(means) => {
                for (mean, value) in means.iter_mut().zip(grid).filter(|(_, value)| !is_absent(**value)) {
                    match mean {
                        Some(mean) => mean.add(*value),
                        None => *mean = Some(Mean::starting_at(*value)),
                    }
                }
            }
            State::Count(counts) => {
                for (count, value) in counts.iter_mut().zip(grid) {
                    *count += if is_absent(*value) { 0.0 } else { 1.0 };
                }
            }
            State::Group(ones) => {
                for (one, value) in ones.iter_mut().zip(grid) {
                    *one = if is_absent(*value) { *one } else { 1.0 };
                }
            }
            State::Min(best) => pick(best, grid, lesser),
            State::Max(best) => pick(best, grid, greater),
        }
    }

    /// The grid of the group.
    #[must_use]
    pub fn finish(self) -> Vec<f64> {
        match self.0 {
            State::Sum { mut total, lost } => {
                for (total, lost) in total.iter_mut().zip(lost) {
                    *total = if is_absent(*total) { ABSENT } else { *total + lost };
                }
                total
            }
            State::Mean(means) => means.into_iter().map(|mean| mean.map_or(ABSENT, Mean::value)).collect(),
            State::Count(mut counts) => {
                for count in &mut counts {
                    *count = if *count == 0.0 { ABSENT } else { *count };
                }
                counts
            }
            State::Group(values) | State::Min(values) | State::Max(values) => values,
        }
    }

    /// What each step has gathered, for a caller that goes on by itself.
    #[must_use]
    pub fn states(&self) -> Vec<Option<FoldState>> {
        let value = |value: &f64| (!is_absent(*value)).then_some(FoldState::Value(*value));
        match &self.0 {
            State::Sum { total, lost } => {
                let sums = total.iter().zip(lost).map(|(total, lost)| Sum { total: *total, lost: *lost });
                sums.map(|sum| (!is_absent(sum.total)).then_some(FoldState::Sum(sum))).collect()
            }
            State::Mean(means) => means.iter().map(|mean| mean.map(FoldState::Mean)).collect(),
            State::Count(counts) => {
                counts.iter().map(|count| (*count > 0.0).then_some(FoldState::Value(*count))).collect()
            }
            State::Group(values) | State::Min(values) | State::Max(values) => values.iter().map(value).collect(),
        }
    }
}

/// [`Sum::add`] at every step, written without branches.
fn add_sums(totals: &mut [f64], losts: &mut [f64], grid: &[f64]) {
    for ((total, lost), &value) in totals.iter_mut().zip(losts).zip(grid) {
        let sum = *total + value;
        let correction = if total.abs() >= value.abs() { (*total - sum) + value } else { (value - sum) + *total };
        let next_lost = if sum.is_infinite() { 0.0 } else { *lost + correction };
        let is_first = is_absent(*total);
        let next = if is_first { value } else { sum };
        let next_lost = if is_first { 0.0 } else { next_lost };
        let skip = is_absent(value);
        *total = if skip { *total } else { next };
        *lost = if skip { *lost } else { next_lost };
    }
}

fn pick(best: &mut [f64], grid: &[f64], better: impl Fn(f64, f64) -> f64) {
    for (best, &value) in best.iter_mut().zip(grid) {
        // Nothing yet is a NaN and loses against anything.
        let next = better(*best, value);
        *best = if is_absent(value) { *best } else { next };
    }
}
