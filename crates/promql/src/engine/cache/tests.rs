//! Answers from the cache against answers without it.

use std::sync::Arc;

use pharos_model::{BatchBuilder, Histogram, Labels, METRIC_NAME, Sample, StepRange, TenantId};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};
use proptest::prelude::*;

use crate::engine::{CacheStats, Engine, EngineSettings, MatrixSeries, QueryOptions, QueryResult, Value};
use crate::{ParserOptions, QueryError};

/// Samples are this far apart, ms.
const INTERVAL_MS: i64 = 15_000;
/// Targets that are scraped.
const TARGETS: i64 = 12;

const QUERIES: [&str; 25] = [
    "cpu_total",
    "sum(rate(gauge[2m]))",
    "sum by (mode) (rate(cpu_total[2m]))",
    "avg_over_time(cpu_total[5m]) / on (target, mode) cpu_total",
    "topk(3, cpu_total)",
    "limitk(2, cpu_total)",
    "quantile(0.7, cpu_total offset 3m)",
    "sum(cpu_total offset -4m)",
    "sum(cpu_total @ 600)",
    "sum(rate(cpu_total[3m] @ end()))",
    "cpu_total - on (target, mode) (cpu_total @ start())",
    "max_over_time(sum(cpu_total)[10m:1m])",
    "rate(sum_over_time(cpu_total[1m])[5m:30s] offset 1m)",
    "sum(cpu_total @ 900 offset 2m) + count(cpu_total)",
    "max_over_time((cpu_total @ 300)[5m:1m])",
    "absent(nothing)",
    "absent_over_time(cpu_total{target=\"0\"}[1m])",
    "sum(increase(cpu_total[2m] anchored))",
    "sum(rate(cpu_total[2m] smoothed))",
    "avg_over_time(cpu_total[step() * 2])",
    "sum(cpu_total) * (time() - start())",
    "sum(latency)",
    "histogram_quantile(0.9, sum(rate(latency[5m])))",
    "count_values(\"value\", cpu_total > 3)",
    "sum(info(cpu_total))",
];

fn labels(name: &str, target: i64, mode: i64) -> Labels {
    let (target, mode) = (target.to_string(), mode.to_string());
    Labels::from_pairs([(METRIC_NAME, name), ("target", &target), ("mode", &mode)]).unwrap()
}

/// One scrape of everything, with values that the seed varies.
fn scrape(store: &MemoryMetricStore, time_ms: i64, seed: i64) {
    let mut batch = BatchBuilder::new();
    let tick = time_ms / INTERVAL_MS + seed;
    for target in 0..TARGETS {
        for mode in 0..3 {
            // A target that comes and goes, counters that start anew, values that do not add up exactly.
            if target == 5 && tick % 7 < 3 {
                continue;
            }
            let value = ((tick * (mode + 1)) % (40 + target)) as f64 * 0.1;
            batch.push_sample(Sample { timestamp_ms: time_ms + target * 7, value }, 0);
            batch.finish_series_encoded(&labels("cpu_total", target, mode));
            batch.push_sample(Sample { timestamp_ms: time_ms, value: -value }, 0);
            batch.finish_series_encoded(&labels("gauge", target, mode));
        }
    }
    let mut histogram = Histogram::empty(0);
    histogram.count = tick.rem_euclid(50) as f64;
    histogram.zero_count = histogram.count;
    histogram.sum = histogram.count * 0.3;
    batch.push_histogram(time_ms, histogram, 0);
    batch.finish_series_encoded(&labels("latency", 0, 0));
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
}

fn ask(engine: &Engine, query: &str, steps: StepRange, no_cache: bool) -> Result<QueryResult, QueryError> {
    let options = QueryOptions { no_cache, ..QueryOptions::default() };
    engine.range(&TenantId::default(), query, steps, &options)
}

/// Everything of an answer that a client sees, with the bits of its floats.
fn seen(result: Result<QueryResult, QueryError>) -> Result<String, String> {
    let result = result.map_err(|error| error.to_string())?;
    let Value::Matrix(series) = &result.value else { panic!("a range query answers a matrix") };
    let text = |series: &MatrixSeries| {
        let floats: Vec<_> = series.floats.iter().map(|(time, value)| (time, value.to_bits())).collect();
        format!("{} {floats:?} {:?}", series.labels, series.histograms)
    };
    let lines: Vec<_> = series.iter().map(text).collect();
    Ok(format!("{}\n{:?}", lines.join("\n"), result.annotations))
}

fn engine(store: &Arc<MemoryMetricStore>) -> Engine {
    let settings = EngineSettings { parser: ParserOptions::all(), ..EngineSettings::default() };
    Engine::new(Arc::clone(store) as _, settings)
}

fn steps(start: i64, count: i64, step_ms: i64) -> StepRange {
    StepRange { start_ms: start, end_ms: start + count * step_ms, step_ms }
}

/// Half an hour of scrapes.
fn half_an_hour() -> (Arc<MemoryMetricStore>, Engine) {
    let store = Arc::new(MemoryMetricStore::new());
    for tick in 0..120 {
        scrape(&store, tick * INTERVAL_MS, 0);
    }
    let engine = engine(&store);
    (store, engine)
}

#[test]
fn a_repeated_question_reads_nothing_and_a_later_one_only_the_end() {
    let (_store, engine) = half_an_hour();
    let query = "sum by (mode) (rate(cpu_total[2m]))";
    let first = ask(&engine, query, steps(300_000, 40, 30_000), false).unwrap();
    let again = ask(&engine, query, steps(300_000, 40, 30_000), false).unwrap();
    assert!(first.stats.samples_read > 0 && first.value == again.value);
    assert_eq!(again.stats.samples_read, 0);
    let later = ask(&engine, query, steps(360_000, 42, 30_000), false).unwrap();
    assert!(later.stats.samples_read < first.stats.samples_read / 2, "{:?} {:?}", later.stats, first.stats);
    assert_eq!([first, again, later].map(|answer| answer.stats.cache.as_str()), ["miss", "hit", "partial"]);
    let CacheStats { hits, partial_hits, misses, bytes } = engine.cache_stats();
    assert_eq!((hits, partial_hits, misses), (1, 1, 1));
    assert!(bytes > 0);
}

#[test]
fn late_data_are_seen_at_once() {
    let (store, engine) = half_an_hour();
    let (query, asked) = ("sum by (mode) (rate(cpu_total[2m]))", steps(300_000, 40, 30_000));
    ask(&engine, query, asked, false).unwrap();
    scrape(&store, 900_001, 3);
    let answer = ask(&engine, query, asked, false).unwrap();
    assert!(answer.stats.samples_read > 0);
    assert_eq!(seen(Ok(answer)), seen(ask(&engine, query, asked, true)));
    assert_eq!(engine.cache_stats().partial_hits, 1, "the steps before the late data are taken over");
}

#[test]
fn what_was_said_of_an_answer_is_said_again() {
    let (_store, engine) = half_an_hour();
    let (query, asked) = ("sum(rate(gauge[2m]))", steps(300_000, 40, 30_000));
    let first = ask(&engine, query, asked, false).unwrap();
    let again = ask(&engine, query, asked, false).unwrap();
    assert_eq!((again.stats.samples_read, first.annotations.infos.len()), (0, 1), "{:?}", first.annotations);
    assert_eq!(seen(Ok(first)), seen(Ok(again)));
    let later = ask(&engine, query, steps(330_000, 40, 30_000), false).unwrap();
    assert_eq!(seen(Ok(later)), seen(ask(&engine, query, steps(330_000, 40, 30_000), true)));
}

#[test]
fn other_steps_are_another_question() {
    let (_store, engine) = half_an_hour();
    for asked in [steps(300_000, 40, 30_000), steps(300_001, 40, 30_000), steps(300_000, 40, 31_000)] {
        let answer = ask(&engine, "avg_over_time(cpu_total[5m])", asked, false);
        assert_eq!(seen(answer), seen(ask(&engine, "avg_over_time(cpu_total[5m])", asked, true)));
    }
    assert_eq!(engine.cache_stats().hits, 0);
}

#[test]
fn without_memory_nothing_is_kept() {
    let store = Arc::new(MemoryMetricStore::new());
    scrape(&store, 0, 0);
    let settings = EngineSettings { cache_bytes_max: 0, ..EngineSettings::default() };
    let engine = Engine::new(store, settings);
    for _ in 0..2 {
        ask(&engine, "sum(cpu_total)", steps(0, 10, 15_000), false).unwrap();
    }
    assert_eq!(engine.cache_stats(), CacheStats::default());
}

/// What happens between two questions.
#[derive(Debug, Clone)]
enum Event {
    /// Time goes on by so many scrapes.
    Scrapes(i64),
    /// Something arrives this many scrapes late.
    Late(i64, i64),
    /// The query is asked over so many steps that end now or some scrapes ago.
    Ask { back: i64, count: i64, step: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1_i64..6).prop_map(Event::Scrapes),
        1 => (0_i64..80, 1_i64..50).prop_map(|(back, seed)| Event::Late(back, seed)),
        4 => (0_i64..3, 1_i64..60, 1_i64..4).prop_map(|(back, count, step)| Event::Ask { back, count, step }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn answers_equal_those_without_a_cache(query in 0..QUERIES.len(), events in proptest::collection::vec(event(), 4..16)) {
        let (store, engine) = half_an_hour();
        let mut tick = 120;
        for event in events {
            match event {
                Event::Scrapes(count) => for _ in 0..count {
                    scrape(&store, tick * INTERVAL_MS, 0);
                    tick += 1;
                },
                Event::Late(back, seed) => scrape(&store, (tick - back) * INTERVAL_MS + seed, seed),
                Event::Ask { back, count, step } => {
                    let step_ms = step * INTERVAL_MS;
                    let end = (tick - back).div_euclid(step) * step * INTERVAL_MS;
                    let asked = steps((end - count * step_ms).max(0).div_euclid(step_ms) * step_ms, count, step_ms);
                    let (kept, fresh) = (ask(&engine, QUERIES[query], asked, false), ask(&engine, QUERIES[query], asked, true));
                    prop_assert_eq!(seen(kept), seen(fresh), "{}", QUERIES[query]);
                }
            }
        }
    }
}
