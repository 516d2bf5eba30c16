//! One function over one series at all steps.

use pharos_model::{StepRange, is_stale_nan};

use crate::geometry::{Geometries, SharedWindows, Windows};
use crate::{ABSENT, RangeFunction, extremes, over_time, rate};

/// The float samples of a series.
#[derive(Debug, Clone, Copy)]
pub struct Floats<'a> {
    /// Instants, strictly ascending, Unix milliseconds.
    pub times_ms: &'a [i64],
    /// One for each instant; stale markers included.
    pub values: &'a [f64],
    /// Start timestamp of each sample, 0 where unknown; empty if none is known or none is wanted.
    pub starts_ms: &'a [i64],
}

/// What an evaluation looked at and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Steps that have a value.
    pub present: usize,
    /// Samples in all windows together; for [`RangeFunction::Last`] those picked.
    pub queryable: u64,
}

/// Evaluates a function over series after series, all at the same steps.
///
/// Cheap to make; it remembers the windows of columns of instants it has seen, at most some 6 MiB.
#[derive(Debug)]
pub struct Kernel {
    function: RangeFunction,
    geometries: Geometries,
    resets: Vec<u32>,
    /// Samples without stale markers.
    times_ms: Vec<i64>,
    values: Vec<f64>,
    starts_ms: Vec<i64>,
    scratch: over_time::Scratch,
}

impl Kernel {
    /// `function` of the windows `(t − offset_ms − window_ms, t − offset_ms]` for each step `t`.
    #[must_use]
    pub fn new(function: RangeFunction, window_ms: i64, steps: StepRange, offset_ms: i64) -> Self {
        use RangeFunction as F;
        let windows = Windows {
            steps,
            offset_ms,
            length_ms: window_ms,
            stretched: matches!(function, F::Rate | F::Increase | F::Delta),
            range_s: (function == F::Rate).then_some(window_ms as f64 / 1000.0),
        };
        Self {
            function,
            geometries: Geometries::new(windows),
            resets: Vec::new(),
            times_ms: Vec::new(),
            values: Vec::new(),
            starts_ms: Vec::new(),
            scratch: over_time::Scratch::default(),
        }
    }

    /// Shares what it finds out about windows with other kernels made with the same parameters.
    #[must_use]
    pub fn sharing(mut self, windows: &SharedWindows) -> Self {
        self.geometries.share(windows);
        self
    }

    /// What it remembers, about, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.geometries.bytes as u64
    }

    /// Replaces `out` by one value per step.
    ///
    /// `check` is asked now and then where wide windows make a single series costly.
    ///
    /// # Errors
    /// Those of `check`; `out` is of no use then.
    pub fn evaluate<E>(
        &mut self,
        floats: Floats<'_>,
        out: &mut Vec<f64>,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Evaluated, E> {
        out.clear();
        if self.function == RangeFunction::Last {
            return Ok(self.last(floats, out));
        }
        let stale = floats.values.iter().fold(false, |found, value| found | is_stale_nan(*value));
        if !stale {
            return self.windows(floats, out, check);
        }
        let [mut times_ms, mut starts_ms] = [&mut self.times_ms, &mut self.starts_ms].map(std::mem::take);
        let mut values = std::mem::take(&mut self.values);
        times_ms.clear();
        starts_ms.clear();
        values.clear();
        for (at, value) in floats.values.iter().enumerate().filter(|(_, value)| !is_stale_nan(**value)) {
            times_ms.push(floats.times_ms[at]);
            values.push(*value);
            starts_ms.extend(floats.starts_ms.get(at));
        }
        let kept = Floats { times_ms: &times_ms, values: &values, starts_ms: &starts_ms };
        let evaluated = self.windows(kept, out, check);
        (self.times_ms, self.values, self.starts_ms) = (times_ms, values, starts_ms);
        evaluated
    }

    /// A stale marker carries the very bits that say "absent".
    fn last(&mut self, floats: Floats<'_>, out: &mut Vec<f64>) -> Evaluated {
        let geometry = self.geometries.of(floats.times_ms);
        let newest = geometry.bounds().iter();
        out.extend(
            newest.map(|bounds| if bounds.len() == 0 { ABSENT } else { floats.values[bounds.high as usize - 1] }),
        );
        let present = count_present(out);
        Evaluated { present, queryable: present as u64 }
    }

    fn windows<E>(
        &mut self,
        floats: Floats<'_>,
        out: &mut Vec<f64>,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Evaluated, E> {
        use RangeFunction as F;
        let geometry = self.geometries.of(floats.times_ms);
        let values = floats.values;
        let floats = if self.function.reads_starts() { floats } else { Floats { starts_ms: &[], ..floats } };
        match self.function {
            F::Rate | F::Increase => {
                rate::find_resets(floats, &mut self.resets);
                if floats.starts_ms.is_empty() {
                    rate::rates(geometry, floats.times_ms, values, &self.resets, out);
                } else {
                    rate::started_rates(geometry, floats, &self.resets, out);
                }
            }
            F::Delta => rate::deltas(geometry, values, out),
            F::Irate | F::Idelta => rate::instant(self.function, geometry, floats, out),
            F::MinOverTime => extremes::extremes(geometry, values, &mut self.scratch.candidates, |a, b| a < b, out),
            F::MaxOverTime => extremes::extremes(geometry, values, &mut self.scratch.candidates, |a, b| a > b, out),
            F::SumOverTime => {
                over_time::sums(geometry, values, &mut self.scratch.prefixes, over_time::Total, out, check)?;
            }
            F::AvgOverTime => {
                over_time::sums(geometry, values, &mut self.scratch.prefixes, over_time::Average, out, check)?;
            }
            F::CountOverTime => over_time::counts(geometry, out),
            F::Last | F::LastOverTime => over_time::last(geometry, values, out),
            F::Changes => over_time::changes(geometry, values, &mut self.resets, out),
            F::Resets => {
                rate::find_resets(floats, &mut self.resets);
                over_time::places(geometry, &self.resets, out);
            }
        }
        Ok(Evaluated { present: count_present(out), queryable: geometry.queryable })
    }
}

fn count_present(values: &[f64]) -> usize {
    values.iter().filter(|value| !is_stale_nan(**value)).count()
}
