//! A series as a range function needs it: points of cells and samples, in the order of time.
//!
//! Invariants
//! - R4 Spans of cells and instants of samples are disjoint, or the series is read from its samples: what would lie within
//!   a cell may stand for a sample that the cell has, or come between two of them.
//! - R5 The weights of the points of a cell add up to its count.

use std::ops::Range;

use pharos_grid::RangeFunction;
use pharos_model::{is_stale_nan, stale_nan};

use super::cells::{Frame, Run};
use super::codec::Columns;
use super::coverage::Coverage;
use crate::samples::Samples;

/// What of a cell a function looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The newest sample, a stale marker too.
    Newest,
    Last,
    Min,
    Max,
    Count,
    Sum,
    Mean,
    /// First and last sample, and those around each fall.
    Counter,
}

impl Want {
    /// `None` for functions that need all samples.
    pub(crate) fn of(function: RangeFunction) -> Option<Self> {
        use RangeFunction as F;
        Some(match function {
            F::Last => Self::Newest,
            F::LastOverTime => Self::Last,
            F::MinOverTime => Self::Min,
            F::MaxOverTime => Self::Max,
            F::CountOverTime => Self::Count,
            F::SumOverTime => Self::Sum,
            F::AvgOverTime => Self::Mean,
            F::Rate | F::Increase | F::Delta | F::Resets => Self::Counter,
            F::Irate | F::Idelta | F::Changes => return None,
        })
    }

    pub(super) fn columns(self) -> Columns {
        match self {
            Self::Newest | Self::Last => Columns::LAST,
            Self::Min => Columns::MIN,
            Self::Max => Columns::MAX,
            Self::Count => Columns::default(),
            Self::Sum | Self::Mean => Columns::SUM,
            Self::Counter => Columns::COUNTER,
        }
    }
}

/// Points of cells of one series.
#[derive(Debug, Default)]
pub(crate) struct ThinSeries {
    /// First and last instant of each cell, and behind its last point.
    cells: Vec<(i64, i64, usize)>,
    points: Points,
}

/// Columns of points.
#[derive(Debug, Default)]
pub(crate) struct Points {
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// Samples that each stands for.
    pub(super) weights: Vec<u64>,
}

impl Points {
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.weights.clear();
    }

    fn push(&mut self, at_ms: i64, value: f64, weight: i64) {
        self.times.push(at_ms);
        self.values.push(value);
        self.weights.push(weight.unsigned_abs());
    }

    fn extend(&mut self, other: &Self, range: Range<usize>) {
        self.times.extend_from_slice(&other.times[range.clone()]);
        self.values.extend_from_slice(&other.values[range.clone()]);
        self.weights.extend_from_slice(&other.weights[range]);
    }
}

impl ThinSeries {
    pub(crate) fn clear(&mut self) {
        self.cells.clear();
        self.points.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Cells so far.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Takes back all cells behind the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.cells.truncate(len);
        let points = self.cells.last().map_or(0, |(.., end)| *end);
        self.points.times.truncate(points);
        self.points.values.truncate(points);
        self.points.weights.truncate(points);
    }

    /// Adds those of these cells of a frame that lie in a window; the run has the columns that `want` names.
    pub(super) fn push(&mut self, frame: &Frame, run: &Run, cells: Range<usize>, want: Want, coverage: &Coverage) {
        let length = coverage.resolution.ms();
        let mut valued = frame.counts[..cells.start].iter().filter(|count| **count > 0).count();
        for at in cells {
            let end_ms = (frame.buckets[at] + 1) * length;
            if coverage.sparse.is_some_and(|sparse| !sparse.has(end_ms)) {
                valued += usize::from(frame.counts[at] > 0);
                continue;
            }
            let (first_ms, last_ms) = (end_ms - frame.firsts[at], end_ms - frame.lasts[at]);
            let marker_ms = (frame.closed[at] > 0).then(|| end_ms - (frame.closed[at] - 1));
            let count = frame.counts[at];
            match want {
                Want::Newest if marker_ms.is_some() => {
                    self.points.push(marker_ms.unwrap_or(last_ms), stale_nan(), 1);
                }
                _ if count == 0 => {}
                Want::Newest | Want::Last => self.points.push(last_ms, run.last[valued], count),
                Want::Min => self.points.push(last_ms, run.min[valued], count),
                Want::Max => self.points.push(last_ms, run.max[valued], count),
                Want::Count => self.points.push(last_ms, 0.0, count),
                Want::Sum | Want::Mean => self.points.push(last_ms, run.sum[valued], count),
                Want::Counter => {
                    self.points.push(first_ms, run.first[valued], 1);
                    let from = run.turn_times.partition_point(|turn_ms| *turn_ms <= first_ms);
                    let turns = run.turn_times[from..].iter().zip(&run.turn_values[from..]);
                    for (turn_ms, value) in turns.take_while(|(turn_ms, _)| **turn_ms < last_ms) {
                        self.points.push(*turn_ms, *value, 0);
                    }
                    if count > 1 {
                        self.points.push(last_ms, run.last[valued], count - 1);
                    }
                }
            }
            valued += usize::from(count > 0);
            let span = (first_ms - frame.opened[at], marker_ms.unwrap_or(last_ms));
            self.cells.push((span.0, span.1, self.points.times.len()));
        }
    }

    /// Puts the points of all cells and of `samples` in order into `joined`; false if a cell does not stand alone.
    pub(super) fn join(&self, samples: &Samples, want: Want, joined: &mut Points) -> bool {
        joined.clear();
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        if !self.cells.is_sorted_by_key(|(from_ms, ..)| *from_ms) {
            order.sort_by_key(|cell| self.cells[*cell].0);
        }
        let (times, values) = (&samples.floats.times, &samples.floats.values);
        let (mut next, mut behind_ms) = (0, None);
        let mut push_samples = |to: usize, joined: &mut Points| {
            for at in next..to {
                if want == Want::Newest || !is_stale_nan(values[at]) {
                    joined.push(times[at], values[at], 1);
                }
            }
            next = to;
        };
        let mut sample = 0;
        for cell in order {
            let (from_ms, to_ms, end) = self.cells[cell];
            let begin = cell.checked_sub(1).map_or(0, |before| self.cells[before].2);
            sample += times[sample..].partition_point(|at_ms| *at_ms < from_ms);
            if behind_ms.is_some_and(|behind_ms| from_ms <= behind_ms)
                || times.get(sample).is_some_and(|at_ms| *at_ms <= to_ms)
            {
                return false;
            }
            behind_ms = Some(to_ms);
            push_samples(sample, joined);
            joined.extend(&self.points, begin..end);
        }
        push_samples(times.len(), joined);
        true
    }
}
