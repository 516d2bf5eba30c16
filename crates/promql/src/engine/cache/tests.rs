//! Answers from the cache against answers without it.

mod directed;
mod random;

use std::sync::Arc;

use pharos_model::{BatchBuilder, BucketSide, BucketSpan, Histogram, Labels, METRIC_NAME, Sample, StepRange, TenantId};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};

use crate::engine::{CacheStats, Engine, EngineSettings, MatrixSeries, QueryOptions, QueryResult, Value};
use crate::{ParserOptions, QueryError};

/// Samples are this far apart, ms.
const INTERVAL_MS: i64 = 15_000;
/// Targets that are scraped.
const TARGETS: i64 = 12;

fn labels(name: &str, target: i64, mode: i64) -> Labels {
    let (target, mode) = (target.to_string(), mode.to_string());
    Labels::from_pairs([(METRIC_NAME, name), ("target", &target), ("mode", &mode)]).unwrap()
}

fn histogram(count: i64) -> Histogram {
    let mut histogram = Histogram::empty(0);
    histogram.is_integer = true;
    histogram.zero_count = count as f64;
    histogram.positive =
        BucketSide { spans: vec![BucketSpan { offset: 0, length: 2 }], counts: vec![count as f64, (count / 3) as f64] };
    histogram.count = (2 * count + count / 3) as f64;
    histogram.sum = histogram.count * 0.3;
    histogram
}

/// Values that cancel each other out on two scales, so that even compensated sums tell in which order they were added:
/// `steady` ones, `wild` ones that come and go one by one, `paired` ones that come and go with what cancels them; the
/// latter two under two names, now the one, now the other.
fn cancelling(batch: &mut BatchBuilder, time_ms: i64, tick: i64) {
    let values = [1e60, -1e60, 1e30, -1e30, 1.0, 0.1, 7.7];
    for (target, value) in (0..).zip(values) {
        for mode in 0..2 {
            let mut push = |name: &str, value: f64| {
                batch.push_sample(Sample { timestamp_ms: time_ms, value }, 0);
                batch.finish_series_encoded(&labels(name, target, mode));
            };
            push("steady", value);
            let is_first = (tick / 5 + target) % 2 == 0;
            if (tick / 9 + target * 2 + mode * 3) % 4 != 0 {
                push(
                    if is_first { "wild" } else { "wild_b" },
                    [1.0, 1e60, 1e30, 0.1, -1e60, -1e30, 7.7][target as usize],
                );
            }
            if (tick / 9 + target / 2 * 2 + mode * 3) % 5 != 0 {
                push(if is_first { "paired" } else { "paired_b" }, value);
            }
        }
    }
}

/// Requests of targets that say of themselves, in `target_info`, a version that changes and sometimes nothing at all.
fn requests(batch: &mut BatchBuilder, time_ms: i64, tick: i64) {
    for target in 0..4 {
        let instance = target.to_string();
        let job = if target % 2 == 0 { "even" } else { "odd" };
        let mut pairs = vec![(METRIC_NAME, "requests_total"), ("job", job)];
        // One has no instance, and there comes a time when it is the only one.
        if target != 3 {
            pairs.push(("instance", &instance));
        }
        if target == 3 || (tick / 12) % 3 != 1 {
            batch.push_sample(Sample { timestamp_ms: time_ms, value: tick as f64 * 0.1 }, 0);
            batch.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
        }
        let version = (tick / 14 + target).to_string();
        if tick % 29 > 4 {
            let mut pairs = vec![(METRIC_NAME, "target_info"), ("job", job), ("version", &version)];
            if target != 3 {
                pairs.push(("instance", &instance));
            }
            batch.push_sample(Sample { timestamp_ms: time_ms + 3, value: 1.0 }, 0);
            batch.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
        }
    }
}

/// One scrape of everything, with values that the seed varies.
fn scrape(store: &MemoryMetricStore, time_ms: i64, seed: i64) {
    let mut batch = BatchBuilder::new();
    let tick = time_ms / INTERVAL_MS + seed;
    for target in 0..TARGETS {
        for mode in 0..3 {
            // Series that come and go for longer than the lookback, counters that start anew, values that do not add
            // up exactly.
            if (target == 5 && tick % 7 < 3) || (tick / 9 + target * 2 + mode * 3).rem_euclid(6) == 0 {
                continue;
            }
            let value = ((tick * (mode + 1)) % (40 + target)) as f64 * 0.1;
            batch.push_sample(Sample { timestamp_ms: time_ms + target * 7, value }, 0);
            batch.finish_series_encoded(&labels("cpu_total", target, mode));
            batch.push_sample(Sample { timestamp_ms: time_ms, value: -value }, 0);
            batch.finish_series_encoded(&labels("gauge", target, mode));
        }
    }
    for target in 0..3 {
        // Counts that fall now and then, without a hint; a gap longer than the lookback.
        if tick.rem_euclid(31) > 20 + target {
            continue;
        }
        batch.push_histogram(time_ms, histogram((tick * (target + 1)).rem_euclid(50)), 0);
        batch.finish_series_encoded(&labels("latency", target, 0));
    }
    requests(&mut batch, time_ms, tick);
    cancelling(&mut batch, time_ms, tick);
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
    Engine::new(Arc::clone(store) as _, settings())
}

/// With a lookback that series can be away for.
fn settings() -> EngineSettings {
    EngineSettings {
        parser: ParserOptions::all(),
        lookback_ms: 60_000,
        cache_samples_min: 1,
        ..EngineSettings::default()
    }
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
