//! The hot functions over float series, at a cost of samples plus steps.

use std::collections::VecDeque;

use super::Context;
use super::rate::{float_extrapolated, is_reset, note_overlap};
use crate::engine::select::Samples;
use crate::engine::series::Cell;
use crate::engine::window::{Slider, Window};
use crate::functions::FunctionId as F;
use pharos_model::StepRange;

/// The cells of a series without histograms; `None` for functions that do not slide.
pub(super) fn cells(context: &Context<'_>, samples: &Samples, steps: StepRange) -> Option<Vec<Cell>> {
    let cells = match context.function {
        F::Rate => rates(context, samples, steps, true, true),
        F::Increase => rates(context, samples, steps, true, false),
        F::Delta => rates(context, samples, steps, false, false),
        F::MinOverTime => extremes(context, samples, steps, |a, b| a < b),
        F::MaxOverTime => extremes(context, samples, steps, |a, b| a > b),
        F::SumOverTime => sums(context, samples, steps, false)?,
        F::AvgOverTime => sums(context, samples, steps, true)?,
        _ => return None,
    };
    Some(cells)
}

fn slide<'a>(context: &Context<'_>, samples: &'a Samples) -> Slider<'a> {
    Slider::new(samples, context.range.time, context.range.length_ms)
}

/// The places where a counter fell are found once; a window then adds up only those inside it.
fn rates(context: &Context<'_>, samples: &Samples, steps: StepRange, is_counter: bool, is_rate: bool) -> Vec<Cell> {
    let whole = Window {
        labels: &samples.labels,
        times_ms: &samples.times_ms,
        values: &samples.values,
        starts_ms: &samples.starts_ms,
        histograms: &[],
        histogram_starts_ms: &[],
        after_ms: i64::MIN,
        end_ms: i64::MAX,
        step_ms: 0,
        range_ms: 0,
    };
    let resets: Vec<usize> =
        if is_counter { (1..samples.values.len()).filter(|at| is_reset(&whole, *at)).collect() } else { Vec::new() };
    let mut slider = slide(context, samples);
    let (mut low, mut high, mut queryable) = (0, 0, 0);
    let cells = steps
        .iter()
        .map(|step| {
            let window = slider.window(step);
            let bounds = slider.float_bounds();
            queryable += bounds.len();
            // A reset at the first sample of the window happened before it.
            while resets.get(high).is_some_and(|at| *at < bounds.high) {
                high += 1;
            }
            while low < high && resets[low] <= bounds.low {
                low += 1;
            }
            if is_counter {
                note_overlap(context, &window);
            }
            float_extrapolated(&window, is_counter, is_rate, |window| {
                let lost = resets[low..high].iter().map(|at| samples.values[at - 1]);
                lost.fold(window.values[window.values.len() - 1] - window.values[0], |sum, lost| sum + lost)
            })
        })
        .collect();
    context.evaluator.ledger.count_queryable(queryable);
    cells
}

/// Smallest or largest value by a queue of candidates: each sample enters and leaves it once.
fn extremes(context: &Context<'_>, samples: &Samples, steps: StepRange, beats: impl Fn(f64, f64) -> bool) -> Vec<Cell> {
    let values = &samples.values;
    let mut slider = slide(context, samples);
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let (mut seen, mut queryable) = (0, 0);
    let cells = steps
        .iter()
        .map(|step| {
            let window = slider.window(step);
            let bounds = slider.float_bounds();
            queryable += bounds.len();
            for at in seen.max(bounds.low)..bounds.high {
                if !values[at].is_nan() {
                    while candidates.back().is_some_and(|last| !beats(values[*last], values[at])) {
                        candidates.pop_back();
                    }
                    candidates.push_back(at);
                }
            }
            seen = bounds.high;
            while candidates.front().is_some_and(|first| *first < bounds.low) {
                candidates.pop_front();
            }
            match (window.values.is_empty(), candidates.front()) {
                (true, _) => Cell::Empty,
                (false, Some(best)) => Cell::Float(values[*best]),
                (false, None) => Cell::Float(f64::NAN), // nothing but NaN in the window
            }
        })
        .collect();
    context.evaluator.ledger.count_queryable(queryable);
    cells
}

/// Largest integer up to which every sum of integers is exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Sums and means by prefix sums, where these are exact: all values are integers and even the sum of their
/// magnitudes is exact in a double. Then the difference of two prefixes is what a compensated sum yields.
fn sums(context: &Context<'_>, samples: &Samples, steps: StepRange, is_mean: bool) -> Option<Vec<Cell>> {
    let mut prefixes = Vec::with_capacity(samples.values.len() + 1);
    let (mut total, mut magnitude) = (0.0, 0.0);
    prefixes.push(0.0);
    for value in &samples.values {
        magnitude += value.abs();
        total += value;
        // NaN and infinities leave as well; −0 must stay −0 in a sum of its own.
        if !magnitude.is_finite()
            || magnitude > EXACT_MAX
            || value.fract() != 0.0
            || (*value == 0.0 && value.is_sign_negative())
        {
            return None;
        }
        prefixes.push(total);
    }
    let mut slider = slide(context, samples);
    let mut queryable = 0;
    let cells = steps
        .iter()
        .map(|step| {
            slider.window(step);
            let bounds = slider.float_bounds();
            queryable += bounds.len();
            if bounds.len() == 0 {
                return Cell::Empty;
            }
            let sum = prefixes[bounds.high] - prefixes[bounds.low];
            Cell::Float(if is_mean { sum / bounds.len() as f64 } else { sum })
        })
        .collect();
    context.evaluator.ledger.count_queryable(queryable);
    Some(cells)
}
