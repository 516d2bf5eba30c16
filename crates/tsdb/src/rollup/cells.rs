//! What is kept of a series: a cell for each bucket in which it has a sample. Pure: samples in, columns out.
//!
//! Invariants
//! - R1 A cell stands for all samples that its part has of the series in the bucket, and its span, from the first to the
//!   last of them, stale markers included, says where another source's sample would change it.
//! - R2 Whatever is kept of the counter, together with first and last, is what `pharos_grid::Thinned` asks for.
//! - R3 A sum is kept only of integers of one sign, as long as the magnitudes of its samples add up to less than 2^53:
//!   then it is the same in whatever order and grouping they are added.

use pharos_model::is_stale_nan;

use super::Resolution;
use crate::samples::Samples;

/// Cells of one run lie in so many consecutive buckets: a reader decodes no more than a run.
pub(super) const RUN_BUCKETS: i64 = 1024;
/// The counter of a series that falls more often than once in so many samples is not kept: it is a gauge.
const SAMPLES_PER_TURN: usize = 16;
/// Turns that any series may have.
const TURNS_ALWAYS: usize = 16;
/// Turns that a run can hold.
pub(super) const TURNS_MAX: usize = 2048;
/// Instants farther from the epoch are not rolled up: arithmetic with them would wrap.
const TIME_MAX_MS: i64 = 1 << 60;
/// Largest integer up to which every sum of integers is exact in a double.
pub(super) const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What follows from the instants alone, column by column: series that were sampled together share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// Numbers of the buckets, ascending.
    pub(super) buckets: Vec<i64>,
    /// Samples without stale markers.
    pub(super) counts: Vec<i64>,
    /// From the first sample to the end of the bucket, ms. Of a cell of stale markers alone: from the newest.
    pub(super) firsts: Vec<i64>,
    /// From the last sample to the end of the bucket, ms. Of a cell of stale markers alone: from the newest.
    pub(super) lasts: Vec<i64>,
    /// From the oldest stale marker to the first sample, ms; 0 if none is older.
    pub(super) opened: Vec<i64>,
    /// From the newest stale marker to the end of the bucket, plus 1, ms; 0 if none is newer than the last sample.
    pub(super) closed: Vec<i64>,
}

impl Frame {
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Cells that have a value.
    pub(super) fn valued(&self) -> usize {
        self.counts.iter().filter(|count| **count > 0).count()
    }
}

/// Values of the cells of a frame that have one, and what else is known of the run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Run {
    pub(super) frame: Frame,
    pub(super) last: Vec<f64>,
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
    /// Empty if [`Cells::sums`] does not hold.
    pub(super) sum: Vec<f64>,
    /// Empty if [`Cells::counter`] does not hold, as the turns are.
    pub(super) first: Vec<f64>,
    /// Samples before and after each fall and every NaN, but for those that are first or last of their bucket.
    pub(super) turn_times: Vec<i64>,
    pub(super) turn_values: Vec<f64>,
}

/// All cells of a series, cut into runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cells {
    pub(super) runs: Vec<Run>,
    /// Whether sums are kept.
    pub(super) sums: bool,
    /// Whether first values and turns are kept.
    pub(super) counter: bool,
    /// Whether a start timestamp is known of any sample.
    pub(super) starts: bool,
}

/// The cell being filled.
struct Open {
    bucket: i64,
    end_ms: i64,
    count: i64,
    first: (i64, f64),
    last: (i64, f64),
    min: f64,
    max: f64,
    sum: f64,
    oldest_marker_ms: Option<i64>,
    newest_marker_ms: Option<i64>,
}

impl Cells {
    /// The cells of a series; `None` of one that has native histograms, or no floats, or instants out of this world.
    pub(super) fn of(samples: &Samples, resolution: Resolution) -> Option<Self> {
        let floats = &samples.floats;
        let in_world = |at_ms: &i64| (-TIME_MAX_MS..TIME_MAX_MS).contains(at_ms);
        let bounds = [floats.times.first()?, floats.times.last()?];
        if !samples.histograms.is_empty() || !bounds.into_iter().all(in_world) {
            return None;
        }
        let starts = floats.starts.iter().any(|start_ms| *start_ms != 0);
        let mut cells = Self { runs: Vec::new(), sums: true, counter: true, starts };
        let (mut open, mut signs) = (None, (false, false));
        for (at_ms, value) in floats.times.iter().zip(&floats.values) {
            let bucket = resolution.bucket_of(*at_ms);
            if open.as_ref().is_none_or(|open: &Open| open.bucket != bucket) {
                cells.close(open.take());
            }
            let open = open.get_or_insert_with(|| Open::new(bucket, resolution));
            if is_stale_nan(*value) {
                open.oldest_marker_ms.get_or_insert(*at_ms);
                open.newest_marker_ms = Some(*at_ms);
            } else {
                signs = (signs.0 || *value < 0.0, signs.1 || *value > 0.0);
                cells.sums &= open.add(*at_ms, *value);
            }
        }
        cells.close(open);
        cells.sums &= signs != (true, true);
        cells.find_turns(samples, resolution);
        for run in &mut cells.runs {
            if !cells.sums {
                run.sum = Vec::new();
            }
            if !cells.counter {
                (run.first, run.turn_times, run.turn_values) = (Vec::new(), Vec::new(), Vec::new());
            }
        }
        Some(cells)
    }

    fn close(&mut self, open: Option<Open>) {
        let Some(open) = open else { return };
        let group = |bucket: i64| bucket.div_euclid(RUN_BUCKETS);
        let is_same = |run: &Run| run.frame.buckets.last().is_some_and(|last| group(*last) == group(open.bucket));
        if !self.runs.last().is_some_and(is_same) {
            self.runs.push(Run::default());
        }
        if let Some(run) = self.runs.last_mut() {
            run.push(&open);
        }
    }

    fn find_turns(&mut self, samples: &Samples, resolution: Resolution) {
        let floats = &samples.floats;
        let limit = TURNS_ALWAYS.max(floats.times.len() / SAMPLES_PER_TURN);
        let (mut runs, mut place, mut found) = (self.runs.iter_mut(), 0, 0);
        let Some(mut run) = runs.next() else { return };
        let mut samples = floats.times.iter().copied().zip(floats.values.iter().copied());
        let mut samples = std::iter::from_fn(|| samples.find(|(_, value)| !is_stale_nan(*value))).peekable();
        let mut previous = f64::NAN;
        while let Some((at_ms, value)) = samples.next() {
            let next = samples.peek().map_or(f64::NAN, |(_, next)| *next);
            let is_turn = value.is_nan() || value < previous || next < value;
            previous = value;
            if !is_turn {
                continue;
            }
            let bucket = resolution.bucket_of(at_ms);
            while run.frame.buckets.get(place).is_none_or(|own| *own < bucket) {
                place += 1;
                if place >= run.frame.len() {
                    let Some(next) = runs.next() else { return };
                    (run, place) = (next, 0);
                }
            }
            let to_end_ms = (bucket + 1) * resolution.ms() - at_ms;
            if to_end_ms == run.frame.firsts[place] || to_end_ms == run.frame.lasts[place] {
                continue;
            }
            run.turn_times.push(at_ms);
            run.turn_values.push(value);
            found += 1;
            if found > limit || run.turn_times.len() > TURNS_MAX {
                self.counter = false;
                return;
            }
        }
    }
}

impl Open {
    fn new(bucket: i64, resolution: Resolution) -> Self {
        Self {
            bucket,
            end_ms: (bucket + 1) * resolution.ms(),
            count: 0,
            first: (0, 0.0),
            last: (0, 0.0),
            min: f64::NAN,
            max: f64::NAN,
            sum: 0.0,
            oldest_marker_ms: None,
            newest_marker_ms: None,
        }
    }

    /// Adds a sample that is no stale marker; answers whether the sum is exact so far.
    fn add(&mut self, at_ms: i64, value: f64) -> bool {
        if self.count == 0 {
            self.first = (at_ms, value);
        }
        self.count += 1;
        self.last = (at_ms, value);
        // Of equal values the first stays; NaN only where there is nothing else, and then the last.
        if self.min.is_nan() || value < self.min {
            self.min = value;
        }
        if self.max.is_nan() || value > self.max {
            self.max = value;
        }
        self.sum += value;
        is_summable(value) && self.sum.abs() < EXACT_MAX
    }
}

/// Whether sums of such values are exact while they are small: integers, but for −0, whose sign some sums keep.
pub(super) fn is_summable(value: f64) -> bool {
    value.trunc() == value && value.is_finite() && (value != 0.0 || value.is_sign_positive())
}

impl Run {
    fn push(&mut self, open: &Open) {
        let newest_ms = if open.count > 0 { open.last.0 } else { open.newest_marker_ms.unwrap_or(open.end_ms) };
        let first_ms = if open.count > 0 { open.first.0 } else { newest_ms };
        let frame = &mut self.frame;
        frame.buckets.push(open.bucket);
        frame.counts.push(open.count);
        frame.firsts.push(open.end_ms - first_ms);
        frame.lasts.push(open.end_ms - newest_ms);
        frame.opened.push(open.oldest_marker_ms.map_or(0, |oldest_ms| (first_ms - oldest_ms).max(0)));
        let closing = open.newest_marker_ms.filter(|marker_ms| open.count == 0 || *marker_ms > open.last.0);
        frame.closed.push(closing.map_or(0, |marker_ms| open.end_ms - marker_ms + 1));
        if open.count > 0 {
            self.last.push(open.last.1);
            self.min.push(open.min);
            self.max.push(open.max);
            self.sum.push(open.sum);
            self.first.push(open.first.1);
        }
    }
}
