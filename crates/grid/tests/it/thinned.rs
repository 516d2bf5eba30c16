//! A counter without the samples that do not decide.

use pharos_grid::{Floats, Kernel, RangeFunction, Thinned, ThinnedKernel, is_absent};
use pharos_model::StepRange;
use proptest::prelude::*;

const FUNCTIONS: [RangeFunction; 4] =
    [RangeFunction::Rate, RangeFunction::Increase, RangeFunction::Delta, RangeFunction::Resets];

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (0_u32..100).prop_map(f64::from),
        4 => 0.0..100.0_f64,
        1 => Just(f64::NAN),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
    ]
}

/// Keeps of each bucket of `length_ms` the first and last sample, and everywhere what falls, what it falls to, and NaN.
fn thin(times: &[i64], values: &[f64], length_ms: i64) -> (Vec<i64>, Vec<f64>, Vec<u64>) {
    let bucket = |at: usize| (times[at] - 1).div_euclid(length_ms);
    let kept = |at: &usize| {
        let (at, end) = (*at, values.len() - 1);
        at == 0
            || at == end
            || bucket(at - 1) != bucket(at)
            || bucket(at + 1) != bucket(at)
            || values[at] < values[at - 1]
            || values[at + 1] < values[at]
            || values[at].is_nan()
    };
    let kept: Vec<usize> = (0..values.len()).filter(kept).collect();
    let pick = |at: &usize| (times[*at], values[*at]);
    let (kept_times, kept_values) = kept.iter().map(pick).unzip();
    (kept_times, kept_values, kept.iter().map(|at| *at as u64).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_of_a_counter_yields_every_bit(
        points in proptest::collection::vec((1_i64..30, value(), 0_u8..12), 0..150),
        (window, step, first) in (1_i64..5, 1_i64..5, -3_i64..10),
    ) {
        const LENGTH_MS: i64 = 50;
        let (mut times, mut values, mut at_ms, mut total) = (Vec::new(), Vec::new(), 3, 0.0);
        for (gap, value, kind) in points {
            at_ms += gap;
            total = if kind == 0 || f64::is_nan(total) { value } else { total + value };
            times.push(at_ms);
            values.push(total);
        }
        let (window_ms, start_ms) = (window * LENGTH_MS, first * LENGTH_MS);
        let steps = StepRange { start_ms, end_ms: start_ms + 3000, step_ms: step * LENGTH_MS };
        let (thin_times, thin_values, places) = thin(&times, &values, LENGTH_MS);
        let thinned = Thinned { times_ms: &thin_times, values: &thin_values, places: &places };
        for function in FUNCTIONS {
            for offset_ms in [0, LENGTH_MS, -LENGTH_MS] {
                let (mut expected, mut found) = (Vec::new(), Vec::new());
                let floats = Floats { times_ms: &times, values: &values, starts_ms: &[] };
                let mut kernel = Kernel::new(function, window_ms, steps, offset_ms);
                let evaluated = kernel.evaluate(floats, &mut expected, || Ok::<(), ()>(())).unwrap();
                let present = ThinnedKernel::new(function, window_ms, steps, offset_ms).unwrap().evaluate(thinned, &mut found);
                prop_assert_eq!(present, evaluated.present);
                prop_assert_eq!(found.len(), expected.len());
                for (found, expected) in found.into_iter().zip(expected) {
                    let same_nan = found.is_nan() && expected.is_nan() && !is_absent(found) && !is_absent(expected);
                    prop_assert!(same_nan || found.to_bits() == expected.to_bits(), "{function:?}: {found} is not {expected}");
                }
            }
        }
    }
}

#[test]
fn other_functions_need_the_other_samples() {
    let steps = StepRange { start_ms: 0, end_ms: 0, step_ms: 1 };
    for function in RangeFunction::ALL {
        assert_eq!(ThinnedKernel::new(function, 1, steps, 0).is_some(), FUNCTIONS.contains(&function), "{function:?}");
    }
}
