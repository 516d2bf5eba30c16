//! Picking series: what is dropped on the way would not have been picked.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pharos_model::Labels;

use super::*;

/// By step, then by group: the labels of the series.
type Picked = BTreeMap<(i64, String), Vec<Labels>>;

/// Values with many ties, some absent.
fn spread(at: i64, tick: i64) -> f64 {
    ((at * 31 + tick * 17) % 97) as f64
}

fn engine_of(count: usize) -> Engine {
    let names: Vec<String> = (0..count).map(|index| format!("{:05}", index * 7_919 % count)).collect();
    let groups = ["a", "b", "c", "d", "e"];
    let labels: Vec<[(&str, &str); 2]> =
        names.iter().zip(0..).map(|(name, at): (_, usize)| [("g", groups[at % 7 % 5]), ("i", name.as_str())]).collect();
    let series: Vec<SeriesSpec<'_>> = labels
        .iter()
        .zip(0_i64..)
        .map(|(labels, at)| {
            let samples = every(600_000, 6, |tick| spread(at, tick)).into_iter();
            ("up", &labels[..], samples.filter(|(at_ms, _)| (at + at_ms / 600_000) % 11 != 0).collect())
        })
        .collect();
    engine(&series)
}

fn matrix(engine: &Engine, query: &str) -> Vec<crate::engine::MatrixSeries> {
    let steps = StepRange { start_ms: 0, end_ms: 3_000_000, step_ms: 600_000 };
    let Value::Matrix(series) = range(engine, query, steps).unwrap().value else { panic!("a matrix") };
    series
}

/// Which series have a sample, by step and group.
fn by_step(series: &[crate::engine::MatrixSeries]) -> Picked {
    let mut picked = Picked::new();
    for one in series {
        for (at_ms, _) in &one.floats {
            let group = one.labels.get("g").unwrap_or("").to_owned();
            picked.entry((*at_ms, group)).or_default().push(one.labels.clone());
        }
    }
    for labels in picked.values_mut() {
        labels.sort();
    }
    picked
}

#[test]
fn pruning_on_the_way_changes_no_pick() {
    let engine = engine_of(3_000);
    let all = matrix(&engine, "up");
    for count in [1, 3, 40, 700] {
        for op in ["topk", "bottomk", "limitk"] {
            // All of it, sorted as PromQL says: by value, ties by labels.
            let mut ranked: BTreeMap<(i64, String), Vec<(f64, Labels)>> = BTreeMap::new();
            for one in &all {
                for (at_ms, value) in &one.floats {
                    let group = one.labels.get("g").unwrap_or("").to_owned();
                    ranked.entry((*at_ms, group)).or_default().push((*value, one.labels.clone()));
                }
            }
            let expected: Picked = ranked
                .into_iter()
                .map(|(key, mut values)| {
                    match op {
                        "topk" => values.sort_by_key(|(value, labels)| (Reverse(*value as i64), labels.clone())),
                        "bottomk" => values.sort_by_key(|(value, labels)| (*value as i64, labels.clone())),
                        _ => values.sort_by(|a, b| a.1.cmp(&b.1)),
                    }
                    let mut picked: Vec<Labels> = values.into_iter().take(count).map(|(_, labels)| labels).collect();
                    picked.sort();
                    (key, picked)
                })
                .collect();
            let found = by_step(&matrix(&engine, &format!("{op} by (g) ({count}, up)")));
            assert_eq!(found, expected, "{op} {count}");
        }
    }
}

#[test]
fn an_instant_answer_is_ranked_group_by_group() {
    let engine = engine_of(2_000);
    let Value::Vector(all) = instant(&engine, "topk by (g) (2000, up)", 600_000).unwrap().value else { panic!() };
    let Value::Vector(few) = instant(&engine, "topk by (g) (4, up)", 600_000).unwrap().value else { panic!() };
    let group = |sample: &crate::engine::VectorSample| sample.labels.get("g").unwrap_or("").to_owned();
    let mut expected = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        expected.extend(all.iter().filter(|sample| group(sample) == name).take(4).cloned());
    }
    assert_eq!(few, expected);
    assert!(few.len() == 20 && few.windows(2).all(|pair| group(&pair[0]) <= group(&pair[1])));
}

#[test]
fn no_more_is_held_than_what_is_picked_and_some_that_arrived() {
    for query in ["topk(5, up)", "bottomk by (g) (5, up)", "limitk(5, up)"] {
        let peak = |count: usize| {
            let steps = StepRange { start_ms: 0, end_ms: 3_000_000, step_ms: 600_000 };
            range(&engine_of(count), query, steps).unwrap().stats.memory_bytes_peak
        };
        let (few, many) = (peak(1_500), peak(6_000));
        assert!(many <= few + few / 4, "{query}: {few} bytes for 1500 series, {many} for 6000");
    }
}

/// What is wrong with the input is told first, then what is wrong with the parameter, and neither is forgotten where
/// nothing is held.
#[test]
fn faults_are_told_in_order() {
    let engine = engine_of(1_400);
    for (query, told) in [
        ("topk(scalar(absent(nothing)) * NaN, up)", "Parameter value is NaN"),
        ("topk(1e30, up)", "overflows int64"),
        ("topk(1e30, up + on (g) up)", "found duplicate series for the match group"),
        ("topk(0, label_replace(up, \"i\", \"\", \"\", \"\"))", "same labelset"),
        ("limitk(-1, label_replace(up, \"i\", \"\", \"\", \"\"))", "same labelset"),
    ] {
        let error = instant(&engine, query, 600_000).unwrap_err().to_string();
        assert!(error.contains(told), "{query}: {error}");
    }
    assert_eq!(instant(&engine, "topk(0, up)", 600_000).unwrap().value, Value::Vector(Vec::new()));
}
