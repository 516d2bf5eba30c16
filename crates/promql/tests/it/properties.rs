//! Random queries over random series: the engine against the reference evaluator.

use std::collections::BTreeMap;

use pharos_model::{StepRange, TenantId};
use pharos_promql::engine::MatrixSeries;
use pharos_promql::{Engine, EngineSettings, ParserOptions, QueryOptions, Value};

use crate::reference::data::{Random, store, streams};
use crate::reference::evaluate::LOOKBACK_MS;
use crate::reference::histogram::Naive;
use crate::reference::query::{Query, is_comparison, is_set};
use crate::reference::{Reading, Tags, evaluate};

/// Sets of series, and queries asked of each.
const WORLDS: u64 = 40;
const QUERIES: u64 = 120;

const STEPS: StepRange = StepRange { start_ms: 30_000, end_ms: 270_000, step_ms: 40_000 };

/// Functions for what only grows.
const COUNTING: [&str; 3] = ["rate", "increase", "irate"];

#[test]
fn random_queries_are_answered_as_by_definition() {
    let (mut asked, mut failed) = (0, 0);
    for world in 0..WORLDS {
        let streams = streams(&mut Random(world));
        let settings =
            EngineSettings { lookback_ms: LOOKBACK_MS, parser: ParserOptions::all(), ..EngineSettings::default() };
        let engine = Engine::new(store(&streams), settings);
        for number in 0..QUERIES {
            let query = Random(world << 32 | number).query(3);
            if roughness(&query).is_none() {
                continue;
            }
            let text = query.to_string();
            let context = || format!("world {world}, query {number}: {text}");
            let expected: Result<Vec<_>, _> = STEPS.iter().map(|at| evaluate(&query, &streams, at)).collect();
            let found = engine.range(&TenantId::default(), &text, STEPS, &QueryOptions::default());
            asked += 1;
            let (expected, found) = match (expected, found) {
                (Ok(expected), Ok(found)) => (expected, found),
                (Err(_), Err(_)) => {
                    failed += 1;
                    continue;
                }
                // A subquery is evaluated between its windows, too.
                (Ok(_), Err(_)) if text.contains("ms:") => continue,
                (Ok(_), Err(error)) => panic!("{}\nfails: {error}", context()),
                (Err(_), Ok(_)) => panic!("{}\nshould fail", context()),
            };
            let Value::Matrix(series) = found.value else { panic!("{}: no matrix", context()) };
            for (at, vector) in STEPS.iter().zip(expected) {
                let expected: BTreeMap<Tags, Reading> = vector.into_iter().collect();
                let found = at_step(&series, at);
                let same = expected.len() == found.len()
                    && expected.iter().zip(&found).all(|(a, b)| a.0 == b.0 && is_close(a.1, b.1));
                assert!(same, "{} at {at} ms\nexpected {expected:#?}\nfound    {found:#?}", context());
            }
        }
    }
    println!("{asked} queries asked, {failed} of them fail");
    assert!(asked > WORLDS * QUERIES / 3 && failed > 0 && failed < asked / 2, "{asked} asked, {failed} fail");
}

fn at_step(series: &[MatrixSeries], at_ms: i64) -> BTreeMap<Tags, Reading> {
    let value = |series: &MatrixSeries| {
        let float = series.floats.iter().find(|point| point.0 == at_ms).map(|point| Reading::Float(point.1));
        let histogram = || series.histograms.iter().find(|point| point.0 == at_ms);
        float.or_else(|| histogram().map(|point| Reading::Histogram(Naive::of(&point.1))))
    };
    let tags = |series: &MatrixSeries| {
        series.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Tags>()
    };
    series.iter().filter_map(|series| Some((tags(series), value(series)?))).collect()
}

fn is_close(a: &Reading, b: &Reading) -> bool {
    match (a, b) {
        (Reading::Float(a), Reading::Float(b)) => is_near(*a, *b),
        (Reading::Histogram(a), Reading::Histogram(b)) => {
            let numbers = |one: &Naive| [one.zero_threshold, one.zero, one.count, one.sum];
            let sides = [(&a.positive, &b.positive), (&a.negative, &b.negative)];
            let count = |side: &BTreeMap<i32, f64>, index: &i32| side.get(index).copied().unwrap_or(0.0);
            (a.schema, &a.bounds, a.gauge) == (b.schema, &b.bounds, b.gauge)
                && numbers(a).into_iter().zip(numbers(b)).all(|(a, b)| is_near(a, b))
                && sides
                    .iter()
                    .all(|(a, b)| a.keys().chain(b.keys()).all(|index| is_near(count(a, index), count(b, index))))
        }
        _ => false,
    }
}

fn is_near(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

/// Whether a query's answer is exact: `Some(false)` if rounding may show, `None` if rounding might be magnified, so that
/// there is no use in asking.
fn roughness(query: &Query) -> Option<bool> {
    let jump = |exact: bool| exact.then_some(exact);
    match query {
        Query::Select(_) => Some(true),
        Query::Window(function, ..) => Some(is_exact(function)),
        Query::Subquery { function, query, .. } => {
            let exact = roughness(query)?;
            let jumps = COUNTING.contains(function) || ["resets", "changes", "ts_of_max_over_time"].contains(function);
            if jumps {
                jump(exact)?
            } else {
                exact
            };
            Some(exact && is_exact(function))
        }
        Query::Each(function, _, query) => {
            let exact = roughness(query)?;
            let counts = ["histogram_count", "histogram_sum", "histogram_avg"].contains(function);
            if counts && needs_buckets(query) {
                return None;
            }
            match *function {
                "ceil" | "floor" | "sgn" | "sqrt" | "histogram_avg" => {
                    jump(exact).map(|_| function.len() < 6 && *function != "sqrt")
                }
                // Only of observations: of differences there is none.
                "histogram_quantile" => matches!(**query, Query::Select(_)).then_some(false),
                _ => Some(exact),
            }
        }
        Query::Aggregate { op, query, .. } => Some(roughness(query)? && is_exact(op)),
        Query::Number { op, query, .. } => operator(op, roughness(query)?),
        Query::Pair { op, lhs, rhs, .. } => {
            let exact = roughness(lhs)? & roughness(rhs)?;
            if is_set(op) { Some(exact) } else { operator(op, exact) }
        }
    }
}

fn operator(op: &str, exact: bool) -> Option<bool> {
    match op {
        "/" | "%" | "^" => exact.then_some(false),
        _ if is_comparison(op) => exact.then_some(true),
        _ => Some(exact),
    }
}

fn is_exact(function: &str) -> bool {
    let rough = ["rate", "increase", "delta", "irate", "deriv", "predict_linear", "avg_over_time", "avg", "stddev"];
    let also = ["stddev_over_time", "stdvar_over_time", "quantile_over_time", "mad_over_time", "quantile"];
    !rough.contains(&function) && !also.contains(&function)
}

/// Where only counts are asked for, equality is of counts, and resets of what should not count are found by counts.
fn needs_buckets(query: &Query) -> bool {
    match query {
        Query::Select(_) => false,
        Query::Window(function, _, selector, _) => selector.name == "g" && COUNTING.contains(function),
        Query::Subquery { query, .. } | Query::Each(_, _, query) | Query::Aggregate { query, .. } => {
            needs_buckets(query)
        }
        Query::Number { op, query, .. } => is_comparison(op) || needs_buckets(query),
        Query::Pair { op, lhs, rhs, .. } => is_comparison(op) || needs_buckets(lhs) || needs_buckets(rhs),
    }
}
