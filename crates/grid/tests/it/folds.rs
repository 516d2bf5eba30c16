//! Folding column by column is folding step by step.

use pharos_grid::{
    ABSENT, Aggregation, FoldColumn, FoldState, GroupFold, Grouping, Mean, Sum, greater, is_absent, lesser,
};
use pharos_model::Labels;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1e3..1e3_f64,
        3 => Just(ABSENT),
        1 => Just(-0.0),
        1 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(f64::MAX),
        1 => Just(1e100),
        1 => Just(-1e100),
    ]
}

fn naive(aggregation: Aggregation, values: &[f64]) -> f64 {
    let Some((first, rest)) = values.split_first() else { return ABSENT };
    match aggregation {
        Aggregation::Sum => {
            let mut sum = Sum::starting_at(*first);
            for value in rest {
                sum.add(*value);
            }
            sum.value()
        }
        Aggregation::Avg => {
            let mut mean = Mean::starting_at(*first);
            for value in rest {
                mean.add(*value);
            }
            mean.value()
        }
        Aggregation::Count => values.len() as f64,
        Aggregation::Group => 1.0,
        Aggregation::Min => rest.iter().copied().fold(*first, lesser),
        Aggregation::Max => rest.iter().copied().fold(*first, greater),
    }
}

proptest! {
    #[test]
    fn a_folded_column_is_folded_step_by_step(grids in proptest::collection::vec(proptest::collection::vec(value(), 9), 0..12)) {
        for aggregation in Aggregation::ALL {
            let mut column = FoldColumn::new(aggregation, 9);
            for grid in &grids { column.add(grid); }
            let states = column.states();
            for (step, (found, state)) in column.finish().into_iter().zip(states).enumerate() {
                let values: Vec<f64> = grids.iter().map(|grid| grid[step]).filter(|value| !is_absent(*value)).collect();
                let expected = naive(aggregation, &values);
                let state = state.map_or(ABSENT, |state| match state {
                    FoldState::Sum(sum) => sum.value(),
                    FoldState::Mean(mean) => mean.value(),
                    FoldState::Value(value) => value,
                });
                for found in [found, state] {
                    let same = found.to_bits() == expected.to_bits()
                        || (found.is_nan() && expected.is_nan() && !is_absent(found) && !is_absent(expected));
                    prop_assert!(same, "{:?}: {} is not {}", aggregation, found, expected);
                }
            }
        }
    }
}

#[test]
fn series_meet_in_their_group() {
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    let fold = |without: bool, names: &[&str]| {
        let grouping = Grouping { without, labels: names.iter().map(|name| (*name).to_owned()).collect() };
        let mut fold = GroupFold::new(Aggregation::Sum, &grouping, 1);
        for (at, job, zone) in [(1.0, "a", "x"), (2.0, "b", "x"), (4.0, "a", "y")] {
            let series = labels(&[("__name__", "m"), ("job", job), ("zone", zone)]);
            fold.add(series.encoded(), &[at], |_| Ok::<(), ()>(())).unwrap();
        }
        fold.finish().map(|(labels, values)| format!("{labels} {}", values[0])).collect::<Vec<_>>()
    };
    assert_eq!(fold(false, &[]), ["{} 7"]);
    assert_eq!(fold(false, &["job"]), [r#"{job="a"} 5"#, r#"{job="b"} 2"#]);
    assert_eq!(fold(true, &["job"]), [r#"m{zone="x"} 3"#, r#"m{zone="y"} 4"#]);
    assert_eq!(fold(true, &["__name__", "job"]), [r#"{zone="x"} 3"#, r#"{zone="y"} 4"#]);
    let mut refused = GroupFold::new(Aggregation::Sum, &Grouping { without: false, labels: vec![] }, 8);
    assert!(refused.add(&[], &[0.0; 8], |bytes| if bytes < 128 { Ok(()) } else { Err("full") }).is_err());
}
