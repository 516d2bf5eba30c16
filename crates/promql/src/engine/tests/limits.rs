//! Limits have names, and reaching one is an error, never a shorter answer.

use std::time::Duration;

use pharos_base::ErrorClass;
use pharos_model::{StepRange, TenantId};

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;

use super::*;
use crate::engine::{QueryLoad, QueryWatch};

fn minute_series() -> Engine {
    Engine::new(minute_store(), settings())
}

fn minute_store() -> Arc<dyn MetricStore> {
    store_with(&[
        ("up", &[("job", "a")], every(60_000, 100, |_| 1.0)),
        ("up", &[("job", "b")], every(60_000, 100, |_| 2.0)),
    ])
}

fn refused(change: impl Fn(&mut EngineSettings), query: &str) -> QueryError {
    let mut limited = settings();
    change(&mut limited);
    let steps = StepRange { start_ms: 0, end_ms: 6_000_000, step_ms: 60_000 };
    range(&Engine::new(minute_store(), limited), query, steps).unwrap_err()
}

#[test]
fn each_limit_has_its_error() {
    let error = refused(|settings| settings.samples_max = 150, "up");
    let text = error.to_string();
    assert!(text.starts_with("query processing would load too many samples into memory in query execution"), "{text}");
    assert!(text.contains("more than 150;") && text.contains("raise query.samples_max"), "{text}");
    assert_eq!(error.class(), ErrorClass::LimitExceeded);
    let error = refused(|settings| settings.memory_bytes_max = 3_000, "up");
    assert_eq!(error.class(), ErrorClass::LimitExceeded);
    assert!(error.to_string().contains("3000 bytes") && error.to_string().contains("query.memory_max"), "{error}");
    let error = refused(|settings| settings.memory_total_bytes_max = 3_000, "up");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(error.to_string().contains("3000 bytes") && error.to_string().contains("memory_total_max"), "{error}");
    let error = refused(|settings| settings.points_max = 201, "up");
    assert!(matches!(error, QueryError::TooManyPoints { points: 202, limit: 201 }), "{error}");
    assert!(error.to_string().contains("query.points_max"), "{error}");
    let error = refused(|settings| settings.series_max = 1, "up");
    assert_eq!(error.class(), ErrorClass::LimitExceeded);
    let error = refused(|settings| settings.steps_max = 100, "up");
    assert!(matches!(error, QueryError::TooManySteps { steps: 101, limit: 100 }), "{error}");
    let error = refused(|settings| settings.steps_max = 1_000, "sum_over_time(up[1d:1s])");
    assert!(matches!(error, QueryError::TooManySteps { .. }), "{error}");
}

/// However many queries a tenant asks, another's find memory.
#[test]
fn a_tenant_leaves_memory_to_others() {
    const MIB: u64 = 1 << 20;
    let (greedy, other): (TenantId, TenantId) = ("greedy".parse().unwrap(), "other".parse().unwrap());
    let mut limited = settings();
    (limited.memory_bytes_max, limited.memory_total_bytes_max) = (MIB, 4 * MIB);
    let engine = Engine::new(minute_store(), limited);
    let query = |tenant: &TenantId| engine.instant(tenant, "vector(1)", 0, &QueryOptions::default());
    // Queries of one tenant that hold all that each may, as many as find room: the last is for whoever comes.
    let parts = (0..4).map(|_| engine.memory_of_one(&greedy, None).reserve(MIB));
    let held: Vec<_> = parts.take_while(Result::is_ok).collect();
    assert_eq!((held.len(), engine.memory_used_bytes()), (3, 3 * MIB));
    let error = query(&greedy).unwrap_err();
    let told = error.to_string();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(told.contains("4194304 bytes") && told.contains("raise query.memory_total_max"), "{told}");
    query(&other).unwrap();
    assert!(engine.memory_of_one(&other, None).reserve(MIB).is_ok());
    drop(held);
    query(&greedy).unwrap();
    assert_eq!(engine.memory_used_bytes(), 0);
}

#[test]
fn a_sum_holds_one_series_at_a_time() {
    let mut limited = settings();
    limited.samples_max = 350;
    let names: Vec<String> = (0..50).map(|index| index.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("i", name.as_str())]).collect();
    let series: Vec<SeriesSpec<'_>> =
        labels.iter().map(|labels| ("up", &labels[..], every(60_000, 100, |_| 1.0))).collect();
    let steps = StepRange { start_ms: 0, end_ms: 5_940_000, step_ms: 60_000 };
    let result = range(&engine_with(&series, limited), "sum(up)", steps).unwrap();
    assert_eq!(result.stats.series_read, 50);
    assert_eq!(result.stats.samples_read, 5_000);
    assert!(result.stats.samples_peak <= 350, "{:?}", result.stats);
}

/// The most that a query holds over so many series of 100 samples each, from a store that evaluates nothing itself.
fn peak_bytes(query: &str, series_count: usize) -> u64 {
    let names: Vec<String> = (0..series_count).map(|index| format!("{index:04}")).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("i", name.as_str())]).collect();
    let series: Vec<SeriesSpec<'_>> = labels
        .iter()
        .zip(0_i64..)
        .map(|(labels, at)| ("up", &labels[..], every(60_000, 100, |tick| ((tick + at) * 31 % 97) as f64 + 0.5)))
        .collect();
    let store = Claiming::new(store_with(&series), Capabilities::raw());
    let engine = Engine::new(Arc::new(store), settings());
    let steps = StepRange { start_ms: 0, end_ms: 5_940_000, step_ms: 60_000 };
    let result = range(&engine, query, steps).unwrap();
    assert_eq!(result.stats.series_read, series_count as u64);
    result.stats.memory_bytes_peak
}

#[test]
fn what_is_held_grows_with_the_answer_not_with_the_series() {
    for query in [
        "sum(rate(up[5m]))",
        "max without (i) (up)",
        "stddev(up)",
        "sum(abs(up) * 2)",
        "count(up > 50)",
        "absent(up)",
        "scalar(up)",
        "sum(max_over_time(up[5m:1m]))",
    ] {
        let (few, many) = (peak_bytes(query, 20), peak_bytes(query, 400));
        assert!(many <= few + few / 10, "{query}: {few} bytes for 20 series, {many} for 400");
    }
}

#[test]
fn a_watched_query_tells_what_it_holds_and_at_its_end_what_it_read() {
    let watch = QueryWatch::default();
    assert_eq!(watch.load(), QueryLoad::default());
    let options = QueryOptions { watch: Some(watch.clone()), ..QueryOptions::default() };
    let steps = StepRange { start_ms: 0, end_ms: 5_940_000, step_ms: 60_000 };
    let engine = minute_series();
    let stats = engine.range(&TenantId::default(), "up + 1", steps, &options).unwrap().stats;
    let load = watch.load();
    assert_eq!((load.memory_bytes, load.samples_held), (0, 0), "all given back");
    assert_eq!((load.samples_read, load.series_read), (stats.samples_read, stats.series_read));
    assert_eq!((load.memory_bytes_peak, load.samples_read), (stats.memory_bytes_peak, 200));
    assert_eq!(load.refusal, None);
}

#[test]
fn a_refused_query_tells_how_long_it_went_on() {
    let change: [fn(&mut EngineSettings); 6] = [
        |settings| settings.samples_max = 150,
        |settings| settings.memory_bytes_max = 3_000,
        |settings| settings.memory_total_bytes_max = 3_000,
        |settings| settings.points_max = 199,
        |settings| settings.series_max = 1,
        |settings| settings.timeout = Duration::ZERO,
    ];
    let steps = StepRange { start_ms: 0, end_ms: 5_940_000, step_ms: 60_000 };
    for (at, change) in change.iter().enumerate() {
        let mut limited = settings();
        change(&mut limited);
        let engine = Engine::new(minute_store(), limited);
        let watch = QueryWatch::default();
        let options = QueryOptions { watch: Some(watch.clone()), ..QueryOptions::default() };
        engine.range(&TenantId::default(), "up", steps, &options).unwrap_err();
        assert!(watch.load().refusal.is_some(), "{at}");
        // What fails for another reason was not refused.
        let fine = QueryWatch::default();
        let options = QueryOptions { watch: Some(fine.clone()), ..QueryOptions::default() };
        engine.range(&TenantId::default(), "label_replace(up, \"\", \"\", \"\", \"\")", steps, &options).unwrap_err();
        assert!(fine.load().refusal.is_none() || at == 5, "{at}");
    }
    let options = QueryOptions { watch: Some(QueryWatch::default()), ..QueryOptions::default() };
    options.cancel.cancel();
    minute_series().range(&TenantId::default(), "up", steps, &options).unwrap_err();
    assert!(options.watch.unwrap().load().refusal.is_some());
}

#[test]
fn cancelled_and_late_queries_stop() {
    let engine = minute_series();
    let options = QueryOptions::default();
    options.cancel.cancel();
    let error = engine.instant(&TenantId::default(), "up", 60_000, &options).unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (ErrorClass::Cancelled, "query was canceled in query execution")
    );
    let options = QueryOptions { timeout: Some(Duration::ZERO), ..QueryOptions::default() };
    let error = engine.instant(&TenantId::default(), "up", 60_000, &options).unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (ErrorClass::Timeout, "query timed out in query execution")
    );
    let limited = Engine::new(minute_store(), EngineSettings { timeout: Duration::ZERO, ..settings() });
    let error = instant(&limited, "up", 60_000).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    let text = error.to_string();
    assert!(text.starts_with("query timed out in query execution: it took longer than 0s"), "{text}");
    assert!(text.ends_with("raise query.timeout"), "{text}");
}

#[test]
fn the_deepest_expression_fits_the_stack() {
    let engine = minute_series();
    let depth = crate::limits::EXPRESSION_DEPTH_MAX - 10;
    for (operand, operator) in [("1", "+"), ("up", "or"), ("up", "+"), ("up", "and")] {
        let query = vec![operand; depth].join(operator_text(operator).as_str());
        instant(&engine, &query, 60_000).unwrap_or_else(|error| panic!("{operator}: {error}"));
    }
    let nested = crate::limits::NESTING_MAX / 2;
    let query = format!("{}up{}", "abs(".repeat(nested), ")".repeat(nested));
    assert_eq!(texts(&instant(&engine, &query, 60_000).unwrap()).len(), 2);
}

fn operator_text(operator: &str) -> String {
    format!(" {operator} ")
}

#[test]
fn a_query_of_the_wrong_type_is_refused() {
    let engine = minute_series();
    let steps = StepRange { start_ms: 0, end_ms: 60_000, step_ms: 60_000 };
    for (query, message) in [
        ("up[5m]", "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"),
        ("\"a\"", "invalid expression type \"string\" for range query, must be Scalar or instant Vector"),
    ] {
        let error = range(&engine, query, steps).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.is_bad_data());
    }
    let error = range(&engine, "up", StepRange { start_ms: 60_000, end_ms: 0, step_ms: 1 }).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    for at_ms in [i64::MIN, i64::MAX, 1 << 62] {
        assert!(instant(&engine, "up", at_ms).unwrap_err().is_bad_data());
    }
    for query in ["up @ 9e15", "rate(up[292y] offset 292y)", "sum_over_time(up[5m:1m] @ -9e15)"] {
        assert_eq!(instant(&engine, query, 60_000).unwrap().value, Value::Vector(Vec::new()), "{query}");
    }
}

#[test]
fn one_long_series_under_wide_windows_is_interrupted_too() {
    let engine = engine(&[("temperature", &[], every(1_000, 10_000, |index| index as f64 + 0.5))]);
    let steps = StepRange { start_ms: 0, end_ms: 10_000_000, step_ms: 1_000 };
    let options = QueryOptions { timeout: Some(Duration::from_millis(100)), ..QueryOptions::default() };
    // Some fifty million additions: far more than the time allows.
    let result = engine.range(&TenantId::default(), "stddev_over_time(temperature[3h])", steps, &options);
    assert!(matches!(result, Err(QueryError::Interrupted(_))), "{:?}", result.map(|result| result.stats));
}

#[test]
fn answers_count_until_they_are_dropped() {
    let engine = minute_series();
    let steps = StepRange { start_ms: 0, end_ms: 5_940_000, step_ms: 60_000 };
    let first = range(&engine, "up", steps).unwrap();
    let held = engine.memory_used_bytes();
    assert!(held >= 200 * 16 && held == first.held.bytes(), "{held}");
    // From the cache or not, it is the same answer.
    let again = range(&engine, "up", steps).unwrap();
    assert_eq!((again.held.bytes(), engine.memory_used_bytes()), (held, 2 * held));
    let vector = instant(&engine, "up", 60_000).unwrap();
    assert!(vector.held.bytes() > 0);
    drop((first, again, vector));
    assert_eq!(engine.memory_used_bytes(), 0);
}

fn refusal(error: &QueryError) -> String {
    error.to_string()
}

/// Queries of every kind that holds something back, each under limits from nothing to enough.
#[test]
fn a_query_that_crosses_a_limit_leaves_nothing_behind() {
    let names: Vec<String> = (0..12).map(|index| index.to_string()).collect();
    let labels: Vec<[(&str, &str); 2]> =
        names.iter().map(|name| [("i", name.as_str()), ("half", if name.len() == 1 { "a" } else { "b" })]).collect();
    let series: Vec<SeriesSpec<'_>> = labels
        .iter()
        .flat_map(|labels| {
            [
                ("up_total", &labels[..], every(15_000, 80, |at| at as f64)),
                ("b", &labels[..1], every(30_000, 40, |at| at as f64)),
            ]
        })
        .collect();
    let steps = StepRange { start_ms: 300_000, end_ms: 900_000, step_ms: 60_000 };
    for query in [
        "up_total",
        "sum by (i) (rate(up_total[2m]))",
        "stddev by (half) (up_total)",
        "up_total / on (i) b",
        "up_total * on (i) group_left b",
        "up_total or b",
        "up_total unless on (i) b",
        "topk by (half) (2, up_total)",
        "quantile(0.5, up_total)",
        "count_values(\"v\", up_total)",
        "max_over_time(sum by (half) (rate(up_total[1m]))[5m:30s])",
        "label_replace(up_total, \"x\", \"$1\", \"i\", \"(.*)\")",
        "sum(up_total @ 600) / sum(up_total @ 600)",
    ] {
        let helpers = Helpers::new(2);
        let mut refusals = [0_u32; 4];
        for power in 0..22 {
            for (at, refusals) in refusals.iter_mut().enumerate() {
                let mut limited = settings();
                match at {
                    0 => limited.memory_bytes_max = 1 << power,
                    1 => limited.memory_total_bytes_max = 1 << power,
                    2 => limited.samples_max = 1 << power,
                    _ => limited.points_max = 1 << power,
                }
                (limited.branch_work_min, limited.cache_bytes_max) = (1, 0);
                let engine = engine_with(&series, limited);
                let helped = engine.clone().with_helpers(helpers.clone());
                let outcome = |engine: &Engine| range(engine, query, steps).map(drop);
                let (alone, together) = (outcome(&engine), outcome(&helped));
                // How many threads there are does not decide whether a query fits its limits.
                assert_eq!(alone.as_ref().map_err(refusal), together.as_ref().map_err(refusal), "{query}");
                assert_eq!(helpers.lent(), 0, "{query}");
                match alone {
                    Ok(()) => {}
                    Err(
                        QueryError::Memory(_) | QueryError::TooManySamples { .. } | QueryError::TooManyPoints { .. },
                    ) => {
                        *refusals += 1;
                    }
                    Err(other) => panic!("{query}: {other}"),
                }
                assert_eq!(engine.memory_used_bytes(), 0, "{query}");
            }
        }
        assert!(refusals[..3].iter().all(|count| (1..22).contains(count)), "{query}: {refusals:?}");
    }
}
