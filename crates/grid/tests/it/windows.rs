//! Every function over random series equals its definition, to the bit.

use std::convert::Infallible;

use pharos_grid::{ABSENT, Evaluated, Floats, Kernel, RangeFunction, is_absent};
use pharos_model::{StepRange, stale_nan};
use proptest::prelude::*;

use crate::naive::{self, Point};

/// Bits; all NaNs are alike, but "absent" is none of them.
fn bits(value: f64) -> u64 {
    if value.is_nan() && !is_absent(value) { f64::NAN.to_bits() } else { value.to_bits() }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0..50_i32).prop_map(f64::from),
        3 => -1e3..1e3_f64,
        2 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(stale_nan()),
        1 => Just(1e17),
        1 => Just(5e-324),
        1 => Just(f64::MAX),
    ]
}

/// Gaps before samples, values, and how long before its sample each counter says it started.
fn samples() -> impl Strategy<Value = Vec<Point>> {
    let starts = prop_oneof![3 => Just(0), 1 => 1..50_000_i64];
    proptest::collection::vec((1..40_000_i64, value(), starts), 0..80).prop_map(|gaps| {
        let mut at = 0;
        let point = |(gap, value, before): (i64, f64, i64)| {
            at += gap;
            (at, value, if before == 0 { 0 } else { (at - before).max(1) })
        };
        gaps.into_iter().map(point).collect()
    })
}

fn check(function: RangeFunction, kernel: &mut Kernel, points: &[Point], windows: (StepRange, i64, i64)) {
    let (steps, window_ms, offset_ms) = windows;
    let times_ms: Vec<i64> = points.iter().map(|point| point.0).collect();
    let values: Vec<f64> = points.iter().map(|point| point.1).collect();
    let mut starts_ms: Vec<i64> = points.iter().map(|point| point.2).collect();
    if starts_ms.iter().all(|start| *start == 0) {
        starts_ms.clear();
    }
    let floats = Floats { times_ms: &times_ms, values: &values, starts_ms: &starts_ms };
    let mut out = vec![1.0];
    let evaluated = kernel.evaluate(floats, &mut out, || Ok::<(), Infallible>(())).unwrap();
    assert_eq!(out.len(), steps.len());
    assert_eq!(evaluated.present, out.iter().filter(|value| !is_absent(**value)).count());
    for (step, found) in steps.iter().zip(out) {
        let end_ms = step - offset_ms;
        let expected = naive::evaluate(function, points, end_ms - window_ms, end_ms).unwrap_or(ABSENT);
        assert_eq!(bits(found), bits(expected), "{function:?} at {step}: {found} is not {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_function_is_its_definition_at_every_step(
        mut first in samples(),
        other_values in proptest::collection::vec(value(), 80),
        step_ms in 500..30_000_i64,
        start_ms in -20_000..200_000_i64,
        window_ms in 1..150_000_i64,
        offset_ms in -20_000..20_000_i64,
        count in prop_oneof![Just(1), 2..60_i64],
        without_starts in any::<bool>(),
    ) {
        let steps = StepRange { start_ms, end_ms: start_ms + (count - 1) * step_ms, step_ms };
        if without_starts {
            for point in &mut first { point.2 = 0; }
        }
        for function in RangeFunction::ALL {
            // The second and third series have the instants of the first: what is remembered must not show.
            let mut kernel = Kernel::new(function, window_ms, steps, offset_ms);
            check(function, &mut kernel, &first, (steps, window_ms, offset_ms));
            let mut second = first.clone();
            second.iter_mut().zip(&other_values).for_each(|(point, value)| point.1 = *value);
            check(function, &mut kernel, &second, (steps, window_ms, offset_ms));
            check(function, &mut kernel, &[], (steps, window_ms, offset_ms));
            check(function, &mut kernel, &first, (steps, window_ms, offset_ms));
        }
    }
}

/// Values at which the comparison that spares a division is closest to being wrong.
#[test]
fn a_counter_is_stretched_to_zero_and_no_further() {
    let steps = StepRange { start_ms: 60_000, end_ms: 600_000, step_ms: 15_000 };
    for first in [0.0, 5e-324, 1e-300, 1e-281, 1e-279, 0.1, 1.0, 5.0, 15.0, 1e15, 1e300] {
        for gain in [5e-324, 1e-310, 1e-290, 1e-280, 1e-3, 1.0, 2.0, 3.0, 1e10, 1e308] {
            for skew in [0, 1, 7_499, 7_500, 7_501, 14_999] {
                let point = |at: i64| (at * 15_000 + skew, first + at as f64 * gain, 0);
                let points: Vec<Point> = (0..40).map(point).collect();
                for function in [RangeFunction::Rate, RangeFunction::Increase] {
                    let mut kernel = Kernel::new(function, 60_000, steps, 0);
                    check(function, &mut kernel, &points, (steps, 60_000, 0));
                }
            }
        }
    }
}

#[test]
fn what_was_looked_at_is_counted() {
    let steps = StepRange { start_ms: 1_000, end_ms: 4_000, step_ms: 1_000 };
    let floats = Floats { times_ms: &[500, 1_500, 2_500], values: &[1.0, 2.0, 3.0], starts_ms: &[] };
    let count = |function| {
        let mut kernel = Kernel::new(function, 2_000, steps, 0);
        kernel.evaluate(floats, &mut Vec::new(), || Ok::<(), Infallible>(())).unwrap()
    };
    // Windows hold 1, 2, 2 and 1 samples.
    assert_eq!(count(RangeFunction::CountOverTime), Evaluated { present: 4, queryable: 6 });
    assert_eq!(count(RangeFunction::Rate), Evaluated { present: 2, queryable: 6 });
    assert_eq!(count(RangeFunction::Last), Evaluated { present: 4, queryable: 4 });
}

#[test]
fn wide_windows_ask_whether_to_go_on() {
    let times: Vec<i64> = (0..4_000).collect();
    let values = vec![0.5; times.len()];
    let floats = Floats { times_ms: &times, values: &values, starts_ms: &[] };
    let steps = StepRange { start_ms: 0, end_ms: 4_000, step_ms: 1 };
    let mut kernel = Kernel::new(RangeFunction::SumOverTime, 4_000, steps, 0);
    assert_eq!(kernel.evaluate(floats, &mut Vec::new(), || Err("stop")), Err("stop"));
}

#[test]
fn a_sum_beyond_exact_integers_is_compensated_in_windows_that_overlap_too() {
    let (times, values) = ([10, 20, 30], [9_007_199_254_740_992.0, 1.0, 1.0]);
    let floats = Floats { times_ms: &times, values: &values, starts_ms: &[] };
    let steps = StepRange { start_ms: 30, end_ms: 31, step_ms: 1 };
    let mut out = Vec::new();
    let mut kernel = Kernel::new(RangeFunction::SumOverTime, 100, steps, 0);
    kernel.evaluate(floats, &mut out, || Ok::<(), ()>(())).unwrap();
    assert_eq!(out, [9_007_199_254_740_994.0; 2]);
}
